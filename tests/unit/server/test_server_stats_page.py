"""What the stats page says of requests that wait, run, are answered, refused, late or given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import msgspec
import pytest

from headway.domain.latency_counts import value_ns
from headway.domain.stats_page import Slot, Totals, read_page
from headway.server.metrics import Histogram
from headway.server.predictor import SWEEP_S
from headway.server.stats_page import StatsPage, page_of
from tests.unit.server.bench import Bench, read
from tests.unit.server.test_server_batching import Gated, busy
from tests.waiting import eventually

SWEEP_NS = int(SWEEP_S * 1e9)


class Counted:
    """A bench with a page, and what somebody else reads there."""

    def __init__(self, bench: Bench, path: Path) -> None:
        self.bench = bench
        self.path = path
        bench.app.count_on(StatsPage.create(path, 1))

    def slot(self) -> Slot:
        page = read_page(self.path.read_bytes())
        assert page is not None
        return page.slots[0]

    def totals(self) -> Totals:
        page = read_page(self.path.read_bytes())
        assert page is not None
        return page.totals(perf_counter_ns())

    async def settled(self, in_flight: int, waiting: int, finished: int) -> Totals:
        """Once the page says that."""

        def says() -> bool:
            slot = self.slot()
            return (slot.in_flight, slot.waiting, slot.finished) == (in_flight, waiting, finished)

        await eventually(says, what=f"{in_flight}, {waiting}, {finished}; it says {self.slot()}")
        return self.totals()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


def test_requests_in_flight_are_those_that_wait_and_those_that_run(tmp_path: Path) -> None:
    async def main() -> None:
        model = Gated()
        bench, first = await busy(model)
        counted = Counted(bench, tmp_path / "stats")
        assert counted.slot().in_flight == 1
        later = [bench.send([[float(i)]])[1] for i in range(3)]
        began_ns = perf_counter_ns()
        before = await counted.settled(4, 3, 0)
        said_ns = counted.slot().at_ns
        await eventually(lambda: counted.slot().at_ns >= said_ns + 2 * SWEEP_NS, what="the sweep keeps the page fresh")
        after = counted.totals()
        model.open()
        await asyncio.gather(first, *later)
        answered_s = (perf_counter_ns() - began_ns) / 1e9
        end = await counted.settled(0, 0, 4)
        assert before.in_flight_s < after.in_flight_s - 4 * SWEEP_S < end.in_flight_s
        assert before.queue_s < after.queue_s - 3 * SWEEP_S < end.queue_s
        assert end.queue_s <= 3 * answered_s + 0.5
        later_still = counted.totals()
        assert later_still == end  # nothing grows where nothing is in flight

    run(main)


def test_the_first_request_after_a_pause_is_there_at_once(tmp_path: Path) -> None:
    async def main() -> None:
        model = Gated()
        bench = Bench(model)
        counted = Counted(bench, tmp_path / "stats")
        _, answer = bench.send([[1.0]])
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert counted.slot().in_flight == 1  # after two turns of the loop, before any sweep
        model.open()
        await answer

    run(main)


def test_requests_that_are_refused_or_wrong_are_finished(tmp_path: Path) -> None:
    async def main() -> None:
        model = Gated()
        bench, first = await busy(model, max_queue=1)
        counted = Counted(bench, tmp_path / "stats")
        _, waits = bench.send([[1.0]])
        assert [read(await bench.send([[2.0]])[1])[0] for _ in range(5)] == [429] * 5
        assert (await bench.ask(b"", "/nothing"))[0] == 404
        await counted.settled(2, 1, 6)
        model.open()
        await asyncio.gather(first, waits)
        await counted.settled(0, 0, 8)

    run(main)


def test_requests_that_are_late_or_given_up_are_finished_and_have_waited(tmp_path: Path) -> None:
    async def main() -> None:
        model = Gated()
        bench, first = await busy(model)
        counted = Counted(bench, tmp_path / "stats")
        request, _ = bench.send([[1.0]])
        _, late = bench.send([[2.0]], x_request_timeout_ms="30")
        assert read(await late)[0] == 504
        assert request.work is not None
        request.work.abandon()
        before = await counted.settled(1, 0, 2)
        assert before.queue_s > 2 * 0.025
        _, late = bench.send([[3.0]], x_request_timeout_ms="30")
        assert read(await late)[0] == 504
        after = await counted.settled(1, 0, 3)
        assert after.queue_s > before.queue_s + 0.025
        model.open()
        await first
        end = await counted.settled(0, 0, 4)
        assert end.queue_s >= after.queue_s
        assert end.in_flight_s >= after.in_flight_s

    run(main)


def test_a_batch_that_is_asked_about_one_by_one_stays_in_flight(tmp_path: Path) -> None:
    async def main() -> None:
        model = Gated()
        bench, first = await busy(model)
        counted = Counted(bench, tmp_path / "stats")
        later = [bench.send([[float(i)]])[1] for i in (-1, 1, 2)]
        for _ in range(2):  # the first request, then the batch that fails as one
            model.permits.release()
        await asyncio.to_thread(model.began.acquire)
        await asyncio.to_thread(model.began.acquire)
        before = await counted.settled(3, 2, 1)
        model.open()
        statuses = sorted([read(await answer)[0] for answer in (first, *later)])
        assert statuses == [200, 200, 200, 400] or statuses == [200, 200, 200, 500]
        end = await counted.settled(0, 0, 4)
        assert end.queue_s >= before.queue_s

    run(main)


def test_health_and_descriptions_are_no_load(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(lambda X: X[:, 0])  # noqa: N803
        counted = Counted(bench, tmp_path / "stats")
        for path in ("/health", "/health/status", "/metrics", "/", "/stats", "/v2"):
            assert (await bench.ask(path=path))[0] == 200
        bench.app.stats.publish()
        assert counted.totals()[:3] == (0, 0.0, 0)
        await bench.predict([[1.0]])
        assert (await counted.settled(0, 0, 1)).in_flight_s > 0

    run(main)


@pytest.mark.parametrize("kept", [True, False])
def test_the_same_as_json(tmp_path: Path, *, kept: bool) -> None:
    async def main() -> None:
        model = Gated()
        bench, first = await busy(model)
        if kept:
            Counted(bench, tmp_path / "stats")
        status, body = await bench.ask(path="/stats")
        assert status == 200
        assert set(body) == {
            "at", "epoch", "workers", "cpu_s", "memory_bytes", "in_flight", "in_flight_s", "finished", "queue_s",
        }  # fmt: skip
        assert (body["in_flight"], body["finished"], body["workers"]) == (1, 0, 1)
        assert body["cpu_s"] > 0
        assert body["memory_bytes"] > 1 << 20
        model.open()
        await first
        again = (await bench.ask(path="/stats"))[1]
        assert (again["in_flight"], again["finished"], again["epoch"]) == (0, 1, body["epoch"])
        assert again["at"] > body["at"]
        assert again["in_flight_s"] > body["in_flight_s"]

    run(main)


def test_latencies_of_predictions_are_told_in_buckets_where_the_config_says_so() -> None:
    async def main() -> None:
        model = Gated()
        bench, first = await busy(model)
        assert bench.app.telemetry.latency is None
        bench.app.telemetry.latency = Histogram.of_latencies()
        model.open()
        await first
        await bench.ask(path="/health")
        said = (await bench.ask(path="/stats"))[1]["latency"]
        [(place, count)] = said["counts"].items()
        assert count == 1, "health is no prediction"
        assert value_ns(int(place)) / 1e9 == pytest.approx(said["total_s"], rel=0.021) or int(place) == 0
        assert 0 <= said["queue_s"] <= said["total_s"]

    run(main)


def test_who_takes_a_place_goes_on_from_what_was_counted_there(tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "stats"
        page = StatsPage.create(path, 2)
        page.write(
            1, Slot(7, perf_counter_ns(), 99, in_flight=3, waiting=1, in_flight_ns=10**9, finished=5, queue_ns=9)
        )
        page.vacate(1)
        cleared = read_page(path.read_bytes())
        assert cleared is not None
        assert cleared.slots[1][2:] == (0, 0, 0, 10**9, 5, 9)
        bench = Bench(lambda X: X[:, 0])  # noqa: N803
        with path.open("r+b") as file:
            own = StatsPage.found(file.fileno())
        bench.app.count_on(own, 1)
        await bench.predict([[1.0]])
        bench.app.stats.publish()
        found = read_page(path.read_bytes())
        assert found is not None
        assert (found.slots[0], found.slots[1].finished) == (Slot(), 6)
        assert found.slots[1].in_flight_ns > 10**9
        bench.app.stats.close()
        page.close()
        assert not path.is_symlink()

    run(main)


def test_nobody_can_cut_a_page_short(tmp_path: Path) -> None:
    page = StatsPage.create(tmp_path / "stats", 1)
    with pytest.raises(PermissionError):
        (tmp_path / "stats").write_bytes(b"")
    page.write(0, Slot(1, finished=3))
    found = read_page((tmp_path / "stats").read_bytes())
    assert found is not None
    assert found.slots[0].finished == 3
    page.close()


def test_a_later_page_in_its_place_is_left_alone(tmp_path: Path) -> None:
    first = StatsPage.create(tmp_path / "stats", 1)
    second = StatsPage.create(tmp_path / "stats", 2)
    first.close()
    found = read_page((tmp_path / "stats").read_bytes())
    assert found is not None
    assert found.head == second.head
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_where_there_can_be_no_page_the_server_serves(tmp_path: Path) -> None:
    async def main() -> None:
        bench = Bench(lambda X: X[:, 0])  # noqa: N803
        bench.app.count_on(page_of(msgspec.structs.replace(bench.config, stats_file=str(tmp_path / "no" / "stats"))))
        assert await bench.predict([[1.0]]) == [1.0]
        assert (await bench.ask(path="/stats"))[1]["finished"] == 1

    run(main)
