"""Requests that one call of predict answered, in the query log: one block of columns where that can be."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any

import pytest

from headway.domain.query_segments import Kind
from headway.server import query_log
from tests.segment_walk import blocks
from tests.unit.server.logged import Log, logged, run
from tests.unit.server.test_server_batching import Gated, busy


def kinds(log: Log) -> list[tuple[Kind, int]]:
    """Blocks of records, and how many each holds."""
    return [(block.kind, len(block.rows)) for path in log.files() for block in blocks(path) if block.rows]


async def together(log: Log, sent: list[dict[str, Any]], **options: Any) -> None:
    """Have ``sent`` predicted in one call: they wait while another is under way."""
    model = Gated()
    bench, first = await busy(model, query_log=log.writer, max_batch_size=10_000, max_queue=10_000, **options)
    answers = [bench.send(**fields)[1] for fields in sent]
    model.open()
    for answer in (first, *answers):
        await answer
    bench.app.predictor.stop()


def test_requests_of_one_call_are_one_block_with_all_their_fields(tmp_path: Path) -> None:
    async def main() -> None:
        with logged(tmp_path) as log:
            long = "e" * 128
            sent: list[dict[str, Any]] = [
                {"body": [[float(place)]] * (place + 1), "x_request_id": f"r{place}"} for place in range(9)
            ]
            sent[3] |= {"x_headway_arm": "split", "x_headway_client": "shop"}
            sent[4] |= {"x_headway_arm": "pinned", "x_request_id": long}
            sent[5] |= {"body": gzip.compress(b"[[5.0]]"), "content_encoding": "gzip"}
            await together(log, sent)
            assert kinds(log) == [(Kind.ROWS, 1), (Kind.CALL, 9)]
            found = log.rows()[1:]
            assert [row["request_id"] for row in found] == ["r0", "r1", "r2", "r3", long, "r5", "r6", "r7", "r8"]
            assert [row["rows"] for row in found] == [1, 2, 3, 4, 5, 1, 7, 8, 9]
            assert [row["arm"] for row in found[2:6]] == ["direct", "split", "pinned", "direct"]
            assert [row["client"] for row in found[2:6]] == ["", "shop", "", ""]
            assert found[5]["bytes_in"] == len(sent[5]["body"])
            assert [row["bytes_out"] for row in found[:2]] == [
                len(b'{"predictions":[0.0]}'), len(b'{"predictions":[1.0,1.0]}'),
            ]  # fmt: skip
            for row in found:
                assert (row["route"], row["format"], row["status"], row["batch"]) == ("/predict", "rows", 200, 9)
                assert not row["cold_start"]
                assert 0 < row["received"] < row["queued"] < row["started"] <= row["predicted"] < row["answered"]
            assert [row["seq"] for row in found] == list(range(1, 10))
            assert [row["answered"] for row in found] == sorted(row["answered"] for row in found)

    run(main)


def test_requests_of_one_call_in_several_formats_keep_them(tmp_path: Path) -> None:
    async def main() -> None:
        with logged(tmp_path) as log:
            sent: list[dict[str, Any]] = [{"body": [[1.0]]} for _ in range(8)]
            sent.append({"body": {"inputs": [[1.0]]}, "path": "/invocations"})
            await together(log, sent)
            assert [row["format"] for row in log.rows()] == ["rows"] * 9 + ["mlflow"]
            assert {row["batch"] for row in log.rows()[1:]} == {9}

    run(main)


def test_one_that_expires_during_the_call_leaves_the_others_whole(tmp_path: Path) -> None:
    async def main() -> None:
        with logged(tmp_path) as log:
            model = Gated()
            bench, first = await busy(model, query_log=log.writer)
            late = {"x_request_id": "late", "x_request_timeout_ms": "300"}
            answers = [bench.send([[1.0]], **(late if place == 4 else {}))[1] for place in range(10)]
            model.permits.release()
            await first
            await asyncio.to_thread(model.began.acquire)
            assert (await answers[4]).status == 504
            model.open()
            assert [(await answer).status for answer in answers].count(200) == 9
            found = log.rows()
            assert [row["status"] for row in found] == [200, 504, *[200] * 9]
            assert found[1]["request_id"] == "late"
            assert {row["batch"] for row in found[2:]} == {10}
            assert all(row["received"] < row["answered"] for row in found)
            bench.app.predictor.stop()

    run(main)


def test_more_than_a_block_holds_are_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(query_log, "MAX_BLOCK_ROWS", 4)
        with logged(tmp_path) as log:
            await together(log, [{"body": [[1.0]], "x_request_id": str(place) * 40} for place in range(9)])
            assert kinds(log) == [(Kind.ROWS, 1), (Kind.ROWS, 4), (Kind.ROWS, 4), (Kind.ROWS, 1)]
            assert [row["request_id"] for row in log.rows()][1:] == [str(place) * 40 for place in range(9)]

    run(main)
