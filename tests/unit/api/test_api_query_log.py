"""Latency and records over REST: what is asked is what is answered, in every format, to whoever may ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from headway.api import schemas_query_log as schemas
from headway.api.formats import Format
from headway.api.routes import query_log as routes
from headway.domain.errors import StorageFailed
from headway.domain.query_log import Losses, QueryRecord
from tests.query_records import record
from tests.unit.api.world import World, make_world

NOW_NS = 1_750_000_000_000_000_000
S = 1_000_000_000
SSE = {"accept": "text/event-stream"}
LATENCY = "/v1/models/iris/latency"
LOG = "/v1/models/iris/log"


def at(ago_s: float, seq: int, **changed: object) -> QueryRecord:
    return record(ts_ns=NOW_NS - round(ago_s * S), seq=seq, **changed)


def run(check: Callable[[World], Awaitable[None]]) -> None:
    async def in_world() -> None:
        world = await make_world()
        await world.deploy()
        await check(world)

    asyncio.run(in_world())


async def get(world: World, target: str, **headers: str) -> Any:
    async with world.client() as client:
        answer = await client.get(target, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()


def test_windows_of_latency() -> None:
    async def check(world: World) -> None:
        world.query_log.add(
            [
                at(119, 0, total_ns=10_000_000),
                at(118, 1, total_ns=20_000_000),
                at(117, 2, total_ns=90_000_000, status=429),
                at(0.5, 3, total_ns=40_000_000, version="v2"),
                at(500, 4),
            ]
        )
        world.query_log.lose("iris", Losses(dropped=3))
        found = await get(world, f"{LATENCY}?window=1m&since=2m")
        assert schemas.LatencyView.model_validate(found).model_dump() == found
        assert (found["since"], found["until"], found["window_s"]) == (1_749_999_880.0, 1_750_000_000.0, 60.0)
        assert found["losses"] == {"dropped": 3, "torn": 0, "missing": 0, "clock_steps": 0}
        assert (found["exact"], found["relative_error"], found["field"], found["by"]) == (True, 0.0, "total", [])
        first, last = found["windows"]
        assert (first["start"], first["end"], first["count"], first["timed"]) == (1749999880.0, 1749999940.0, 3, 2)
        assert (first["errors"], first["rate_per_s"], first["average_ms"]) == (1, 0.05, 15.0)
        assert (first["p50_ms"], first["p75_ms"], first["p95_ms"], first["p99_ms"]) == (15.0, 17.5, 19.5, 19.9)
        assert (last["count"], last["p99_ms"]) == (1, 40.0)

    run(check)


def test_windows_are_split_filtered_and_of_another_phase() -> None:
    async def check(world: World) -> None:
        world.query_log.add(
            [
                at(3, 0, queue_ns=1_000_000),
                at(2, 1, version="v2", queue_ns=3_000_000),
                at(1, 2, version="v2", status=503, queue_ns=None),
                at(1, 3, version="v2", rows=9),
            ]
        )
        query = "?window=1h&since=10s&field=queue&by=version&by=status&where=rows=1&where=status>=200"
        found = await get(world, LATENCY + query)
        assert (found["field"], found["by"]) == ("queue", ["version", "status"])
        told = [(w["group"], w["count"], w["average_ms"]) for w in found["windows"]]
        assert told == [
            ({"version": "v1", "status": "200"}, 1, 1.0),
            ({"version": "v2", "status": "200"}, 1, 3.0),
            ({"version": "v2", "status": "503"}, 1, None),
        ]
        spans = "?since=2025-06-15T15:06:38Z&until=1749999999"
        assert [w["count"] for w in (await get(world, LATENCY + spans))["windows"]] == [1]

    run(check)


@pytest.mark.parametrize(
    ("target", "where", "complaint"),
    [
        (f"{LATENCY}?window=50ms", "?window", "too short"),
        (f"{LATENCY}?window=fast", "?window", "not a length"),
        (f"{LATENCY}?window=1s&since=2d", "?window", "172,800 windows; at most 100,000"),
        (f"{LATENCY}?since=soon", "?since", "neither a span nor an instant"),
        (f"{LATENCY}?since=1m&until=2m", "?since", "ends before it begins"),
        (f"{LATENCY}?until=", "?until", "neither"),
        (f"{LATENCY}?field=speed", "?field", "no phase"),
        (f"{LATENCY}?by=colour", "?by", "cannot be split"),
        (f"{LATENCY}?by=version&by=version", "?by", "twice"),
        (f"{LATENCY}?where=status", "?where", "not a condition"),
        (f"{LATENCY}?exact=perhaps", "?exact", "boolean"),
        (f"{LATENCY}?since=1h&since=2h", "?since", "given twice"),
        (f"{LATENCY}?windows=1m", "?windows", "unknown query parameter"),
        (f"{LOG}?limit=0", "?limit", "greater than or equal"),
        (f"{LOG}?limit={routes.MAX_PAGE + 1}", "?limit", "less than or equal"),
        (f"{LOG}?after=1", "?after", "not a cursor"),
        (f"{LOG}?after=1.1.s&newest=true", "?newest", "exclude each other"),
        (f"{LOG}?where=" + "&where=".join(["rows=1"] * 21), "?where", "21 conditions"),
    ],
)
def test_a_question_that_cannot_be_asked(target: str, where: str, complaint: str) -> None:
    async def check(world: World) -> None:
        async with world.client() as client:
            answer = await client.get(target)
        error = answer.json()["error"]
        assert (answer.status_code, error["where"]) == (400, where)
        assert complaint in error["message"]

    run(check)


@pytest.mark.parametrize(
    ("query", "headers", "where"),
    [
        ("?until=1m", SSE, "?until"),
        ("?after=1.1.s", SSE, "?after"),
        ("?newest=true", SSE, "?newest"),
        ("", {**SSE, "last-event-id": "7"}, "header Last-Event-ID"),
        ("", {"last-event-id": "1.1.s"}, "header Last-Event-ID"),
        ("", {"last-event-id": "1.1.s", "accept": "text/csv"}, "header Last-Event-ID"),
        ("?newest=true", {"accept": "text/csv"}, "?newest"),
    ],
)
def test_what_a_format_does_not_take(query: str, headers: dict[str, str], where: str) -> None:
    async def check(world: World) -> None:
        async with world.client() as client:
            answer = await client.get(LOG + query, headers=headers)
        assert (answer.status_code, answer.json()["error"]["where"]) == (400, where)

    run(check)


def test_too_many_groups_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headway.domain.query_conditions.MAX_WINDOWS", 2)

    async def check(world: World) -> None:
        world.query_log.add([at(1, 0), at(1, 1, version="v2"), at(1, 2, version="v3")])
        async with world.client() as client:
            answer = await client.get(f"{LATENCY}?since=1m&by=version")
            assert (answer.status_code, answer.json()["error"]["where"]) == (400, "?by")
            assert (await client.get(f"{LATENCY}?since=1m")).status_code == 200

    run(check)


def test_pages_of_records_hold_each_once() -> None:
    async def check(world: World) -> None:
        added = [at(100 - seq // 2, seq, stream=f"s{seq % 3}") for seq in range(25)]
        world.query_log.add(added)
        world.query_log.lose("iris", Losses(missing=2))
        seen: list[tuple[str, int]] = []
        after, more = None, True
        while more:
            page = await get(world, f"{LOG}?limit=10" + (f"&after={after}" if after else ""))
            assert schemas.RecordPage.model_validate(page).model_dump() == page
            assert page["losses"]["missing"] == 2
            seen += [(one["stream"], one["seq"]) for one in page["records"]]
            after, more = page["next"], page["more"]
        assert sorted(seen) == sorted((one.stream, one.seq) for one in added)
        assert len(seen) == len(set(seen)) == 25
        again = await get(world, f"{LOG}?after={after}")
        assert (again["records"], again["next"], again["more"]) == ([], after, False)
        newest = await get(world, f"{LOG}?newest=true&limit=3")
        assert [one["seq"] for one in newest["records"]] == [22, 23, 24]
        assert newest["more"] is False

    run(check)


def test_a_record_has_every_field() -> None:
    async def check(world: World) -> None:
        one = at(1, 7, client="shop", encode_ns=None, request_id="é")
        world.query_log.add([one])
        (found,) = (await get(world, LOG))["records"]
        assert found.pop("at") == one.ts_ns / 1e9
        assert found == {name: getattr(one, name) for name in QueryRecord.__slots__}
        assert set(schemas.RecordView.model_fields) == {"at", *QueryRecord.__slots__}

    run(check)


def test_a_model_without_requests_is_not_unknown_and_a_deleted_one_not_forgotten() -> None:
    async def check(world: World) -> None:
        world.query_log.add([at(9000, 0, model="gone")])
        async with world.client() as client:
            for path in ("latency", "log"):
                assert (await client.get(f"/v1/models/iris/{path}")).status_code == 200
                assert (await client.get(f"/v1/models/gone/{path}")).status_code == 200
                unknown = await client.get(f"/v1/models/typo/{path}")
                assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")
                stream = await client.get("/v1/models/typo/log", headers=SSE)
                assert stream.status_code == 404
                assert (await client.get(f"/v1/models/Typo/{path}")).status_code == 400

    run(check)


def test_who_may_ask() -> None:
    async def check(world: World) -> None:
        tokens = {
            401: None,
            403: await world.token("shop", "predict"),
            200: await world.token("ci", "deploy", ["iris"]),
        }
        for status, token in tokens.items():
            async with world.client(token) as client:
                assert (await client.get(LATENCY)).status_code == status
                assert (await client.get(LOG)).status_code == status
        async with world.client(tokens[200]) as client:
            assert (await client.get("/v1/models/wine/latency")).status_code == 403
            assert (await client.get("/v1/models/wine/log", headers=SSE)).status_code == 403

    run(check)


@pytest.mark.parametrize("headers", [{}, SSE, {"accept": "text/csv"}, {"accept": Format.PARQUET}])
def test_a_log_that_cannot_be_read_is_told_before_the_answer_starts(headers: dict[str, str]) -> None:
    async def check(world: World) -> None:
        async def broken(_: object) -> Any:
            raise StorageFailed("no space")

        for question in ("records", "windows"):
            setattr(world.query_log, question, broken)
        async with world.client() as client:
            if headers != SSE:
                answer = await client.get(LOG, headers=headers)
                assert (answer.status_code, answer.json()["error"]["code"]) == (500, "storage_failed")
            assert (await client.get(LATENCY)).status_code == 500

    run(check)
