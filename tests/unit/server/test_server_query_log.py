"""The query log's writer: one row for every request, on file before the answer; what is lost is told."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import gzip
import json
import os
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import pytest

from headway.domain.query_segments import Kind
from headway.server import segments
from headway.server.http import Request, Response
from tests.segment_walk import blocks, rows
from tests.unit.server.bench import Asker, Bench
from tests.unit.server.logged import Log, fast, logged, run
from tests.unit.server.test_server_batching import Gated, busy
from tests.waiting import eventually


def test_an_answered_request_has_all_its_fields(tmp_path: Path) -> None:
    async def main() -> None:
        with logged(tmp_path) as log:
            bench = Bench(fast, query_log=log.writer)
            body = json.dumps([[1.0, 2.0], [3.0, 4.0]]).encode()
            await bench.predict(
                body, x_request_id="abc", x_headway_client="shop", x_headway_arm="sticky", content_type="text/plain"
            )
            (row,) = log.rows()
            assert (row["status"], row["rows"], row["batch"], row["seq"]) == (200, 2, 1, 0)
            assert (row["route"], row["format"], row["request_id"]) == ("/predict", "rows", "abc")
            assert (row["client"], row["arm"], row["cold_start"]) == ("shop", "sticky", True)
            assert row["bytes_in"] == len(body)
            assert row["bytes_out"] == len(b'{"predictions":[1.0,3.0]}')
            times = [row[name] for name in ("received", "queued", "started", "predicted", "answered")]
            assert times == sorted(times)
            assert times[0] > 0

    run(main)


def test_only_the_first_answers_are_cold(tmp_path: Path) -> None:
    async def main() -> None:
        with logged(tmp_path) as log:
            bench = Bench(fast, query_log=log.writer)
            await bench.ask(b"[[", "/predict")
            await bench.predict([[1.0]])
            await bench.predict([[1.0]])
            assert [row["cold_start"] for row in log.rows()] == [False, True, False]

    run(main)


@pytest.mark.parametrize(
    ("path", "body", "status", "route"),
    [
        ("/predict", b"[[1, 2", 400, "/predict"),
        ("/invocations", {"inputs": [[1.0]]}, 200, "/invocations"),
        ("/api/v1.0/predictions", {"data": {"ndarray": [[1.0]]}}, 200, "/api/v1.0/predictions"),
        ("/v2/models/iris/infer", {"inputs": []}, 400, "/v2/models/infer"),
        ("/v2/models/other/infer", {"inputs": []}, 404, ""),
        ("/nothing", b"x", 404, ""),
    ],
)
def test_every_route_is_logged_whatever_the_answer(
    tmp_path: Path, path: str, body: Any, status: int, route: str
) -> None:
    async def main() -> None:
        with logged(tmp_path) as log:
            bench = Bench(fast, query_log=log.writer)
            assert (await bench.ask(body, path))[0] == status
            (row,) = log.rows()
            assert (row["status"], row["route"]) == (status, route)

    run(main)


def test_a_wrong_method_is_logged_and_operations_are_not(tmp_path: Path) -> None:
    async def main() -> None:
        with logged(tmp_path) as log:
            bench = Bench(fast, query_log=log.writer)
            for path in ("/health", "/health/live", "/metrics", "/openapi.json", "/v2", "/v2/models/iris", "/"):
                await bench.ask(path=path)
            await bench.ask(b"x", "/health", "POST")
            assert log.rows() == []
            assert (await bench.ask(path="/predict"))[0] == 405
            assert [row["status"] for row in log.rows()] == [405]

    run(main)


def test_shed_expired_and_abandoned_requests_are_logged_once(tmp_path: Path) -> None:
    async def main() -> None:
        with logged(tmp_path) as log:
            model = Gated()
            bench = Bench(model, query_log=log.writer, max_queue=2)
            _, first = bench.send([[1.0]], x_request_id="running")
            await asyncio.to_thread(model.began.acquire)
            _, late = bench.send([[2.0]], x_request_id="late", x_request_timeout_ms="1")
            gone, _ = bench.send([[3.0]], x_request_id="gone")
            shed = await bench.ask([[4.0]], x_request_id="shed")
            assert shed[0] == 429
            assert gone.work is not None
            gone.work.abandon()
            assert (await late).status == 504
            model.open()
            assert (await first).status == 200
            found = {row["request_id"]: row for row in log.rows()}
            assert len(found) == len(log.rows()) == 4
            assert {name: row["status"] for name, row in found.items()} == {
                "running": 200, "late": 504, "gone": 499, "shed": 429,
            }  # fmt: skip
            assert [name for name, row in found.items() if row["shed"]] == ["shed"]
            assert [name for name, row in found.items() if row["expired"]] == ["late"]
            assert found["late"]["batch"] == 0
            assert found["late"]["queued"] > 0
            bench.app.predictor.stop()

    run(main)


def test_a_client_that_leaves_during_the_call_is_logged_as_gone(tmp_path: Path) -> None:
    async def main() -> None:
        with logged(tmp_path) as log:
            model = Gated()
            bench = Bench(model, query_log=log.writer)
            gone, _ = bench.send([[1.0]])
            await asyncio.to_thread(model.began.acquire)
            assert gone.work is not None
            gone.work.abandon()
            model.open()
            await eventually(lambda: len(log.rows()) == 1)
            assert log.rows()[0]["status"] == 499
            bench.app.predictor.stop()

    run(main)


def test_a_batch_that_failed_as_one_is_logged_request_by_request(tmp_path: Path) -> None:
    async def main() -> None:
        with logged(tmp_path) as log:
            model = Gated()
            bench, first = await busy(model, query_log=log.writer)
            rest = [bench.send([[value]])[1] for value in (1.0, -1.0, 2.0)]
            model.open()
            statuses = [(await answer).status for answer in (first, *rest)]
            assert statuses == [200, 200, 500, 200]
            assert sorted(row["status"] for row in log.rows()) == [200, 200, 200, 500]
            assert {row["batch"] for row in log.rows()} == {1}
            bench.app.predictor.stop()

    run(main)


def test_the_row_is_on_file_before_the_answer_is_given(tmp_path: Path) -> None:
    class Suspicious(Asker):
        def settle(self, request: Request, response: Response) -> None:
            assert [row["status"] for row in rows(tmp_path / "iris")] == [response.status]
            super().settle(request, response)

    async def main() -> None:
        with logged(tmp_path) as log:
            bench = Bench(fast, query_log=log.writer)
            asker = Suspicious()
            bench.app.handle(Request(b"POST", b"/predict", b"[[1]]", {}, asker, perf_counter_ns()))
            assert (await asker.answer).status == 200

    run(main)


def test_long_request_ids_and_many_clients_stay_whole(tmp_path: Path) -> None:
    async def main() -> None:
        with logged(tmp_path) as log:
            bench = Bench(fast, query_log=log.writer)
            ids = ["a" * 128, "b" * 36, "c" * 37, "short"]
            for place, request_id in enumerate(ids):
                via = {"x_headway_arm": "split", "x_headway_client": f"client-{place % 2}"}
                await bench.predict([[1.0]], x_request_id=request_id, **via)
            await bench.ask(b"", "/nothing", "POST", x_request_id="d" * 100)
            found = log.rows()
            assert [row["request_id"] for row in found] == [*ids, "d" * 100]
            assert [row["client"] for row in found[:4]] == ["client-0", "client-1", "client-0", "client-1"]

    run(main)


def test_bytes_in_is_the_body_as_it_was_sent(tmp_path: Path) -> None:
    async def main() -> None:
        with logged(tmp_path) as log:
            bench = Bench(fast, query_log=log.writer)
            body = gzip.compress(json.dumps([[1.0]] * 500).encode())
            await bench.predict(body, content_encoding="gzip")
            assert log.rows()[0]["bytes_in"] == len(body)

    run(main)


def test_segments_follow_one_another_and_are_closed(tmp_path: Path) -> None:
    async def main() -> None:
        with logged(tmp_path, segment_bytes=2000) as log:
            bench = Bench(fast, query_log=log.writer)
            for _ in range(40):
                await bench.predict([[1.0]], x_headway_arm="split", x_headway_client="shop")
        assert len(log.files()) > 2
        assert all(blocks(path)[-1].kind is Kind.CLOSED for path in log.files())
        assert [blocks(path)[0].value["segment"] for path in log.files()] == list(range(len(log.files())))
        assert [row["seq"] for row in log.rows()] == list(range(40))
        assert {row["client"] for row in log.rows()} == {"shop"}

    run(main)


def test_an_old_segment_is_closed_and_an_empty_one_is_not(tmp_path: Path) -> None:
    async def main() -> None:
        with logged(tmp_path, segment_age_s=10.0) as log:
            log.writer.segments.look(10**18)
            assert len(log.files()) == 1
            await Bench(fast, query_log=log.writer).predict([[1.0]])
            log.writer.segments.look(10**18)
            assert len(log.files()) == 2

    run(main)


def test_whoever_can_lock_a_segment_knows_that_nobody_writes_it(tmp_path: Path) -> None:
    async def main() -> None:
        with logged(tmp_path) as log:
            (path,) = log.files()
            with path.open() as file, pytest.raises(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    run(main)


def test_start_and_stop_in_any_order(tmp_path: Path) -> None:
    async def main() -> None:
        log = Log(tmp_path)
        log.writer.stop()
        for _ in range(2):
            log.writer.start(asyncio.get_running_loop())
        log.writer.stop()
        log.writer.stop()
        assert len(log.files()) == 1

    run(main)


class Disk:
    """A disk with ``room`` bytes left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room = 10**9
        monkeypatch.setattr(segments, "write_some", self.write)

    def write(self, fd: int, data: bytes) -> int:
        if self.room <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written = os.write(fd, data[: self.room])
        self.room -= written
        return written


def test_a_full_disk_costs_records_and_no_predictions_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        disk = Disk(monkeypatch)
        monkeypatch.setattr(segments, "RETRY_NS", 0)
        with logged(tmp_path) as log:
            bench = Bench(fast, query_log=log.writer)
            await bench.predict([[1.0]])
            disk.room = 57  # a block is written in part
            for _ in range(5):
                assert await bench.predict([[2.0]]) == [2.0]
            _, text = await bench.ask(path="/metrics")
            assert "headway_query_log_dropped_total{" in text
            assert log.writer.segments.dropped == 5
            disk.room = 10**9
            await bench.predict([[3.0]])
        assert [row["seq"] for row in log.rows()] == [0, 6]
        told = [block for path in log.files() for block in blocks(path) if block.kind is Kind.DROPPED]
        assert [(block.first_seq, block.value["records"]) for block in told] == [(6, 5)]
        assert told[0].value["reason"] == "No space left on device"

    run(main)


def test_what_a_full_disk_cost_is_told_at_the_end_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        disk = Disk(monkeypatch)
        with logged(tmp_path) as log:
            bench = Bench(fast, query_log=log.writer)
            disk.room = 0
            await bench.predict([[1.0]])
            await bench.predict([[1.0]])
            disk.room = 10**9
        told = [block.value["records"] for path in log.files() for block in blocks(path) if block.kind is Kind.DROPPED]
        assert told == [2]

    run(main)


def test_a_folder_that_cannot_be_made_costs_records_only(tmp_path: Path) -> None:
    async def main() -> None:
        (tmp_path / "iris").write_text("in the way")
        with logged(tmp_path) as log:
            assert await Bench(fast, query_log=log.writer).predict([[1.0]]) == [1.0]
            assert log.writer.segments.dropped == 1

    run(main)


def test_a_client_whose_name_was_lost_with_its_block_has_it_in_the_next_segment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        disk = Disk(monkeypatch)
        monkeypatch.setattr(segments, "RETRY_NS", 0)
        with logged(tmp_path) as log:
            bench = Bench(fast, query_log=log.writer)
            disk.room = 0
            await bench.predict([[1.0]], x_headway_arm="split", x_headway_client="shop")
            disk.room = 10**9
            await bench.predict([[1.0]], x_headway_arm="split", x_headway_client="shop")
            assert [row["client"] for row in log.rows()] == ["shop"]

    run(main)
