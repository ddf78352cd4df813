"""LoadTester on a generator and a clock in memory: intervals, phases, stages that scale, breaches, endings."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.load_generator import MemoryLoadGenerator
from headway.adapters.memory.model_watch import MemoryModelWatch
from headway.control.load_test import LoadTester
from headway.domain.errors import GatewayFailed, StorageFailed
from headway.domain.load_reports import Ending, LoadPoint, LoadReport, Outcome, ScalingMark
from headway.domain.load_shapes import LoadShape, Loop, Stage, rate, recorded, users
from headway.domain.promises import parse_all
from headway.ports.load_generator import LoadRequest, LoadTarget
from headway.ports.replica_stats import ReplicaStat

pytestmark = pytest.mark.anyio
TARGET = LoadTarget("iris", "http://127.0.0.1:1/models/iris")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Bench:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.fate: Callable[[float, int], tuple[float, int]] = lambda due_s, number: (0.1, 200)
        self.generator = MemoryLoadGenerator(self.clock, lambda due_s, number: self.fate(due_s, number))
        self.watch = MemoryModelWatch(self.clock)
        self.tester = LoadTester(self.generator, self.clock, self.watch)
        self.told: list[LoadPoint] = []

    async def run(self, shape: LoadShape, *promises: str, stop: bool = False) -> LoadReport:
        running = asyncio.create_task(
            self.tester.run(
                TARGET,
                shape,
                [LoadRequest(b"[]")],
                promises=parse_all(promises),
                stop_at_breach=stop,
                progress=self.told.append,
            )
        )
        await self.clock.elapse(shape.duration_s + 100)
        return await running


class MemoryUsage:
    """Two replicas that use a quarter of a core each."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.closed = False

    async def read(self) -> tuple[ReplicaStat, ...]:
        at = self._clock.monotonic()
        return tuple(ReplicaStat(name, at, "1", cpu_s=at / 4, memory_bytes=1024) for name in ("a", "b"))

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def bench() -> Bench:
    return Bench()


async def test_what_a_run_of_an_open_loop_reports(bench: Bench) -> None:
    report = await bench.run(rate(10, 5), "p95<1s", "errors<1%")
    assert (report.ending, report.total.count, report.total.errors) == (Ending.FINISHED, 50, 0)
    assert report.total.p95_s == pytest.approx(0.1)
    assert report.verdict.outcome is Outcome.KEPT
    assert [one.measured for one in report.verdict.promises] == [pytest.approx(0.1), 0.0]
    assert len(report.points) == len(bench.told) == 5
    assert {(one.figures.count, one.offered_per_s, one.replicas) for one in report.points} == {(10, 10, 1)}
    assert report.points[3].cpu_cores == pytest.approx(0.5)
    assert report.points[3].memory_bytes == 1 << 20
    assert report.notes[0].startswith("Open loop")
    assert len(report.samples) == 50


async def test_without_a_watch_what_replicas_use_may_be_told_by_themselves(bench: Bench) -> None:
    usage = MemoryUsage(bench.clock)
    bench.tester = LoadTester(bench.generator, bench.clock, usage=usage)
    report = await bench.run(rate(10, 5))
    last = report.points[3]
    assert (last.replicas, last.wished) == (None, None)
    assert (last.memory_bytes, last.measured) == (2048, 2)
    assert last.cpu_cores == pytest.approx(0.5)
    assert usage.closed


async def test_a_stall_shows_where_its_requests_were_due(bench: Bench) -> None:
    bench.fate = lambda due_s, number: (7 - due_s if 2 <= due_s < 3 else 0.1, 200)
    report = await bench.run(rate(10, 10), "p95<1s")
    slow = [one for one in report.points if (one.figures.p50_s or 0) > 1]
    assert [round(one.begin_s) for one in slow] == [2]
    assert report.points[2].answered_per_s <= 2  # what came then is counted then
    assert report.points[6].answered_per_s + report.points[7].answered_per_s >= 28
    assert report.verdict.promises[0].broken_at_s == 0  # of the window from 0 to 5 s, a fifth


async def test_a_broken_promise_is_told_with_when_and_at_what_load(bench: Bench) -> None:
    bench.fate = lambda due_s, number: (0.1 if due_s < 10 else 2.0, 200)
    report = await bench.run(rate(20, 20, begin=10), "p95<1s")
    assert report.verdict.outcome is Outcome.BROKEN
    assert report.verdict.promises[0].broken_at_s == 10
    assert report.verdict.promises[0].broken_at_load == 15
    assert report.verdict.reasons == ("p95<1s was broken: 2 s",)


async def test_it_stops_at_a_breach_when_asked_to(bench: Bench) -> None:
    bench.fate = lambda due_s, number: (0.1, 200 if due_s < 10 else 503)
    report = await bench.run(rate(10, 600), "errors<50%", stop=True)
    assert report.ending is Ending.BREACH
    assert 10 < report.duration_s < 20
    assert bench.generator.state().sent < 200


async def test_a_slow_model_is_a_breach_as_soon_as_enough_is_answered(bench: Bench) -> None:
    bench.fate = lambda due_s, number: (2.0, 200)
    report = await bench.run(rate(1, 600), "p95<1s", stop=True)
    assert report.ending is Ending.BREACH
    assert 20 < report.duration_s < 30


async def test_a_model_that_hangs_is_a_breach_although_nothing_is_answered(bench: Bench) -> None:
    bench.fate = lambda due_s, number: (0.1 if due_s < 5 else 1e6, 200)
    report = await bench.run(rate(10, 600), "p95<1s", stop=True)
    assert report.ending is Ending.BREACH
    assert report.duration_s < 20


@pytest.mark.parametrize(("promise", "outcome"), [("p95<300ms", Outcome.KEPT), ("p95<150ms", Outcome.REFUSED)])
async def test_how_late_a_generator_may_be_is_a_share_of_what_is_promised(
    bench: Bench, promise: str, outcome: Outcome
) -> None:
    bench.generator.late_s = 0.012
    report = await bench.run(rate(10, 10), promise)
    assert report.verdict.outcome is outcome
    assert report.health.saturated == (outcome is Outcome.REFUSED)


@pytest.mark.parametrize(("late_s", "cpu"), [(0.2, 0.1), (0.0, 0.99)])
async def test_no_verdict_when_the_generator_was_the_bottleneck(bench: Bench, late_s: float, cpu: float) -> None:
    bench.generator.late_s, bench.generator.cpu_share = late_s, cpu
    report = await bench.run(rate(10, 5), "p95<1s")
    assert report.health.saturated
    assert report.verdict.outcome is Outcome.REFUSED
    assert report.verdict.reasons


async def test_no_verdict_when_nothing_was_measured(bench: Bench) -> None:
    bench.fate = lambda due_s, number: (0.001, 429)
    report = await bench.run(rate(10, 5), "p95<1s")
    assert report.verdict.outcome is Outcome.REFUSED
    assert report.total.p95_s is None


async def test_stages_scale_and_everything_is_as_before_at_the_end(bench: Bench) -> None:
    policy = {"minReplicas": 1, "triggers": [{"type": "cpu", "target": "80%"}]}
    shape = LoadShape(
        loop=Loop.CLOSED,
        stages=(
            Stage(duration_s=5, begin=4, end=4, name="manual", replicas=3),
            Stage(duration_s=5, begin=4, end=8, name="automatic", scaling=policy),
        ),
    )
    bench.watch.marks = [ScalingMark(6.0, "v1", 3, 4, "cpu"), ScalingMark(1e6, "v1", 4, 3, "later")]
    report = await bench.run(shape)
    assert bench.watch.calls == [3, policy, "restore"]
    assert [(one.name, one.replicas_least, one.load_end) for one in report.phases] == [
        ("manual", 3, 4),
        ("automatic", 3, 8),
    ]
    assert [one.at_s for one in report.decisions] == [6.0]
    assert report.verdict.outcome is Outcome.NONE
    assert report.notes[0].startswith("Closed loop")


async def test_told_to_stop_it_reports_what_there_is(bench: Bench) -> None:
    running = asyncio.create_task(bench.tester.run(TARGET, users(5, 600), [LoadRequest(b"[]")]))
    await bench.clock.elapse(10)
    bench.tester.stop()
    await bench.clock.elapse(1)
    report = await running
    assert report.ending is Ending.INTERRUPTED
    assert report.total.count > 0


async def test_told_to_stop_before_it_begins_it_sends_nothing(bench: Bench) -> None:
    running = asyncio.create_task(bench.tester.run(TARGET, users(5, 600), [LoadRequest(b"[]")]))
    await asyncio.sleep(0)  # it has only set out
    bench.tester.stop()
    await bench.clock.elapse(0)
    report = await running
    assert report.ending is Ending.INTERRUPTED
    assert (report.total.count, report.points, report.duration_s) == (0, (), 0.0)
    assert bench.generator.bodies == []


async def test_told_to_stop_while_replicas_come_it_waits_for_none_and_scales_as_before(bench: Bench) -> None:
    bench.watch.seen = False
    shape = LoadShape(loop=Loop.CLOSED, stages=(Stage(duration_s=5, begin=4, end=4, replicas=3),))
    running = asyncio.create_task(bench.tester.run(TARGET, shape, [LoadRequest(b"[]")]))
    await bench.clock.elapse(2)
    bench.tester.stop()
    await bench.clock.elapse(1)
    assert (await running).ending is Ending.INTERRUPTED
    assert bench.watch.calls == [3, "restore"]
    assert bench.generator.bodies == []


async def test_a_generator_that_fails_midway_leaves_a_report_and_one_that_cannot_begin_raises(bench: Bench) -> None:
    bench.generator.fails = StorageFailed("the disk is full")
    report = await bench.run(rate(10, 2), "p95<1s")
    assert (report.ending, report.total.count) == (Ending.FAILED, 20)
    assert report.notes[-1] == "the disk is full"
    assert (report.verdict.outcome, report.verdict.reasons) == (Outcome.REFUSED, ("the disk is full",))
    bench.generator.reachable = GatewayFailed("nothing answers")
    with pytest.raises(GatewayFailed):
        await bench.run(rate(10, 2))


async def test_a_generator_that_ends_too_early_has_failed(bench: Bench) -> None:
    bench.generator.ends_after_s = 3.0
    report = await bench.run(rate(10, 9), "p95<1s")
    assert (report.ending, report.total.count) == (Ending.FAILED, 30)
    assert report.notes[-1] == "the generator ended 6 s before the load's end"
    assert report.verdict.outcome is Outcome.REFUSED


async def test_nothing_answered_is_no_verdict_even_without_a_promise(bench: Bench) -> None:
    report = await bench.run(users(1, 5, begin=0))
    assert report.total.count == 0
    assert (report.verdict.outcome, report.verdict.reasons) == (Outcome.REFUSED, ("no request was answered",))


async def test_a_promise_that_ended_the_test_is_broken_however_the_whole_looks(bench: Bench) -> None:
    bench.fate = lambda due_s, number: (0.1 if due_s < 300 else 2.0, 200)
    report = await bench.run(rate(10, 600), "p95<1s", "errors<1%", stop=True)
    assert report.ending is Ending.BREACH
    assert [one.kept for one in report.verdict.promises] == [True, True]
    assert report.verdict.outcome is Outcome.BROKEN
    assert report.verdict.reasons == ("p95<1s was broken for 5 s, which ended the test",)


async def test_a_broken_promise_is_broken_although_another_cannot_be_told(bench: Bench) -> None:
    bench.fate = lambda due_s, number: (0.001, 429)
    report = await bench.run(rate(10, 5), "p95<1s", "errors<1%")
    assert report.verdict.outcome is Outcome.BROKEN
    assert report.verdict.reasons == ("errors<1% was broken: 100.00 %",)


async def test_requests_that_were_under_way_at_the_end_are_told_of(bench: Bench) -> None:
    bench.fate = lambda due_s, number: (0.1 if due_s < 5 else 1e6, 200)
    report = await bench.run(rate(10, 600), "p95<1s", stop=True)
    assert report.notes[-1] == "61 requests were under way at the end, the oldest for 6 s: they are not counted"


async def test_what_a_replay_offers_is_what_was_recorded(bench: Bench) -> None:
    bench.fate = lambda due_s, number: (2.0 if due_s >= 10 else 0.1, 200)
    shape = recorded((0.0, 0.1, 0.2, 2.5, *(10 + number / 10 for number in range(40))), 14.0)
    report = await bench.run(shape, "p95<1s")
    assert [one.offered_per_s for one in report.points[:4]] == pytest.approx([3, 0, 1, 0], abs=0.01)
    assert report.verdict.promises[0].broken_at_load == pytest.approx(8)


async def test_without_a_look_at_the_model_replicas_are_unknown_not_zero(bench: Bench) -> None:
    bench.watch.seen = False
    report = await bench.run(rate(10, 3))
    assert {(one.replicas, one.cpu_cores, one.memory_bytes) for one in report.points} == {(None, None, None)}
