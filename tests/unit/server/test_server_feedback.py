"""``POST /feedback``: what is taken stands in the log, what makes no sense is refused and leaves nothing."""

from __future__ import annotations

import errno
import gzip
import json
from pathlib import Path
from time import time_ns
from typing import Any

import pytest

from headway.domain.query_segments import Kind
from headway.server import segments
from tests.segment_walk import blocks
from tests.unit.server.bench import Bench
from tests.unit.server.logged import Log, fast, logged, run


def kept(log: Log) -> list[list[Any]]:
    """Every piece of feedback in the log's files, in order; its numbers have no gap."""
    found: list[list[Any]] = []
    for path in log.files():
        for block in blocks(path):
            if block.kind is Kind.FEEDBACK:
                assert block.value["first"] == len(found)
                found += block.value["items"]
    return found


def test_a_reward_in_seldons_form_is_kept_alike(tmp_path: Path) -> None:
    async def main() -> None:
        with logged(tmp_path) as log:
            bench = Bench(fast, query_log=log.writer)
            response = {"meta": {"puid": "r-1"}}
            for body in ({"reward": -2, "response": response}, {"response": response}, {"reward": 1}):
                status, _ = await bench.ask(body, "/api/v1.0/feedback")
                assert status == 200
            assert [item[:3] for item in kept(log)] == [["r-1", "reward", -2.0]]
            page = bench.app.telemetry.render().decode()
            assert 'headway_feedback_messages_total{model="iris",version="v1"} 3' in page
            assert 'headway_feedback_total{model="iris",version="v1"} 1' in page

    run(main)


def test_what_is_taken_stands_in_the_log(tmp_path: Path) -> None:
    async def main() -> None:
        with logged(tmp_path) as log:
            bench = Bench(fast, query_log=log.writer)
            before = time_ns()
            assert await bench.ask({"request_id": "a", "reward": 0.7}, "/feedback") == (200, {"recorded": 1})
            several = [
                {"request_id": "b", "outcome": True, "name": "clicked", "at": 1_000_000_000},
                {"request_id": "c", "outcome": False},
                {"request_id": "d", "outcome": -3},
                {"request_id": "e", "outcome": "setosa", "prediction": "setosa"},
                {"request_id": "f", "outcome": "setosa", "prediction": "Setosa", "at": "2001-09-09T03:46:40+02:00"},
            ]
            body = gzip.compress(json.dumps(several).encode())
            assert await bench.ask(body, "/feedback", content_encoding="gzip") == (200, {"recorded": 5})
            found = kept(log)
            assert [item[:3] for item in found] == [
                ["a", "reward", 0.7],
                ["b", "clicked", 1.0],
                ["c", "outcome", 0.0],
                ["d", "outcome", -3.0],
                ["e", "outcome", 1.0],
                ["f", "outcome", 0.0],
            ]
            assert before <= found[0][3] <= time_ns()
            assert found[1][3] == found[5][3] == 10**18
            assert log.rows() == []
            assert b"headway_feedback_total" in bench.app.telemetry.render()

    run(main)


WRONG = [
    ("7", None, "an object or a list"),
    ("[]", None, "an object or a list"),
    ("[7]", "[0]", "feedback is an object"),
    ('{"request_id": "a"}', None, "one of reward and outcome"),
    ('{"request_id": "a", "reward": 1, "outcome": true}', None, "one of reward and outcome"),
    ('{"reward": 1}', "request_id", "id is missing"),
    ('{"request_id": "a b", "reward": 1}', "request_id", "id is missing"),
    ('{"request_id": 7, "reward": 1}', "request_id", "id is missing"),
    ('{"request_id": "a", "reward": "much"}', "reward", "a reward is a number"),
    ('{"request_id": "a", "reward": true}', "reward", "a reward is a number"),
    ('{"request_id": "a", "reward": null}', "reward", "a reward is a number"),
    ('{"request_id": "a", "reward": 1e999}', None, "valid JSON|double"),
    ('{"request_id": "a", "outcome": []}', "outcome", "true, false, a number, or text"),
    ('{"request_id": "a", "outcome": "setosa"}', "prediction", "compared with the prediction"),
    ('{"request_id": "a", "outcome": 1, "prediction": "x"}', "prediction", "goes with an outcome that is text"),
    ('{"request_id": "a", "reward": 1, "name": "a b"}', "name", "a metric's name"),
    ('{"request_id": "a", "reward": 1, "at": "yesterday"}', "at", "no instant of the past"),
    ('{"request_id": "a", "reward": 1, "at": "2001-09-09T03:46:40"}', "at", "no instant of the past"),
    ('{"request_id": "a", "reward": 1, "at": 99999999999}', "at", "no instant of the past"),
    ('{"request_id": "a", "reward": 1, "score": 1}', None, "unknown key 'score'"),
    ('[{"request_id": "a", "reward": 1}, {"request_id": "b", "reward": "x"}]', "[1].reward", "a reward is a number"),
    ('{"request_id": "a", "request_id": "b", "reward": 1}', None, "given twice"),
]


@pytest.mark.parametrize(("body", "where", "message"), WRONG, ids=[body for body, _, _ in WRONG])
def test_what_makes_no_sense_is_refused_and_leaves_nothing(
    tmp_path: Path, body: str, where: str | None, message: str
) -> None:
    async def main() -> None:
        with logged(tmp_path) as log:
            status, found = await Bench(fast, query_log=log.writer).ask(body.encode(), "/feedback")
            assert status == 400
            error = found["error"]
            assert error["code"] == "invalid_request"
            assert error.get("where") == where
            assert any(part in error["message"] for part in message.split("|"))
            assert kept(log) == []

    run(main)


def test_too_many_in_one_body_are_refused(tmp_path: Path) -> None:
    async def main() -> None:
        with logged(tmp_path) as log:
            many = [{"request_id": "a", "reward": 1}] * 10_001
            assert (await Bench(fast, query_log=log.writer).ask(many, "/feedback"))[0] == 413
            assert kept(log) == []

    run(main)


def test_without_a_query_log_it_is_refused() -> None:
    async def main() -> None:
        status, found = await Bench(fast).ask({"request_id": "a", "reward": 1}, "/feedback")
        assert (status, found["error"]["code"]) == (422, "unsupported")
        assert "query log is off" in found["error"]["message"]

    run(main)


def test_what_cannot_be_written_is_not_acknowledged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async def main() -> None:
        with logged(tmp_path) as log:
            bench = Bench(fast, query_log=log.writer)
            with monkeypatch.context() as patched:
                patched.setattr(segments, "write_some", full)
                status, found = await bench.ask({"request_id": "a", "reward": 1}, "/feedback")
                assert (status, found["error"]["details"]) == (503, {"retry_after_s": 1})
            log.writer.segments._retry_at_ns = 0
            assert (await bench.ask({"request_id": "b", "reward": 1}, "/feedback"))[0] == 200
            assert [item[0] for item in kept(log)] == ["b"]

    run(main)


def test_a_segment_of_feedback_alone_is_closed_when_it_is_old(tmp_path: Path) -> None:
    async def main() -> None:
        with logged(tmp_path, segment_age_s=0.0) as log:
            await Bench(fast, query_log=log.writer).ask({"request_id": "a", "reward": 1}, "/feedback")
            (first,) = log.files()
            log.writer.segments.look(2**62)
            assert blocks(first)[-1].kind is Kind.CLOSED
            assert len(log.files()) == 2

    run(main)
