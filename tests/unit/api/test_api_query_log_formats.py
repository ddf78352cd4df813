"""Records and windows as files and as they come: CSV, Parquet, server-sent events."""

from __future__ import annotations

import csv
import io
import json

import pytest

from headway.api import schemas_query_log as schemas
from headway.api.formats import Format, wanted
from headway.api.routes import query_log as routes
from headway.control.query_log_follow import LOOK_S
from headway.domain.query_log import Losses
from tests.unit.api.test_api_query_log import LATENCY, LOG, NOW_NS, SSE, S, at, run
from tests.unit.api.test_event_streams import parse
from tests.unit.api.world import Exchange, World, settle


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_csv() -> None:
    async def check(world: World) -> None:
        world.query_log.add([at(2, 0, request_id='a,"b"\nc', shed=True, queue_ns=None), at(1, 1, version="v2")])
        world.query_log.lose("iris", Losses(torn=1))
        async with world.client() as client:
            windows = await client.get(f"{LATENCY}?by=version", headers={"accept": "text/csv"})
            records = await client.get(LOG, headers={"accept": "text/csv"})
        assert windows.headers["content-type"] == records.headers["content-type"] == "text/csv; charset=utf-8"
        assert windows.headers["x-headway-exact"] == "true"
        for answer in (windows, records):
            assert json.loads(answer.headers["x-headway-losses"])["torn"] == 1
        assert [(row["version"], row["count"], row["average_ms"]) for row in rows_of(windows.text)] == [
            ("v1", "1", "10.0"),
            ("v2", "1", "10.0"),
        ]
        first, second = rows_of(records.text)
        assert list(first) == list(schemas.RecordView.model_fields)
        assert (first["request_id"], first["shed"], first["queue_ns"]) == ('a,"b"\nc', "true", "")
        assert (second["shed"], second["arm"], second["ts_ns"]) == ("false", "split", str(NOW_NS - S))

    run(check)


def test_parquet() -> None:
    async def check(world: World) -> None:
        world.query_log.add([at(2, 0, queue_ns=None), at(1, 1)])
        async with world.client() as client:
            kind = {"accept": Format.PARQUET}
            windows = await client.get(f"{LATENCY}?by=arm", headers=kind)
            records = await client.get(LOG, headers=kind)
        assert windows.headers["content-type"] == records.headers["content-type"] == Format.PARQUET
        assert windows.json()["columns"][:4] == [
            ["start", "number"],
            ["end", "number"],
            ["arm", "text"],
            ["count", "integer"],
        ]
        (row,) = windows.json()["rows"]
        assert row[2:6] == ["split", 2, 2, 0]
        names = [name for name, _ in records.json()["columns"]]
        assert names == list(schemas.RecordView.model_fields)
        assert [row[names.index("queue_ns")] for row in records.json()["rows"]] == [None, 1_000_000]
        kinds = dict(records.json()["columns"])
        assert (kinds["shed"], kinds["model"], kinds["arm"], kinds["at"], kinds["seq"]) == (
            "flag",
            "text",
            "text",
            "number",
            "integer",
        )

    run(check)


@pytest.mark.parametrize(
    ("query", "count"), [("", 25), ("?limit=7", 7), ("?limit=25", 25), ("?newest=true&limit=4", 4)]
)
def test_files_hold_the_whole_span_however_many_pages_that_takes(
    monkeypatch: pytest.MonkeyPatch, query: str, count: int
) -> None:
    monkeypatch.setattr(routes, "EXPORT_PAGE", 5)

    async def check(world: World) -> None:
        world.query_log.add([at(100 - seq // 4, seq) for seq in range(25)])
        expected = list(range(25))[-count:] if "newest" in query else list(range(count))
        async with world.client() as client:
            text = (await client.get(LOG + query, headers={"accept": "text/csv"})).text
            table = (await client.get(LOG + query, headers={"accept": Format.PARQUET})).json()
        assert [int(row["seq"]) for row in rows_of(text)] == expected
        place = [name for name, _ in table["columns"]].index("seq")
        assert [row[place] for row in table["rows"]] == expected

    run(check)


def test_a_parquet_file_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "MAX_PARQUET_ROWS", 3)

    async def check(world: World) -> None:
        world.query_log.add([at(5, seq) for seq in range(4)])
        async with world.client() as client:
            refused = await client.get(LOG, headers={"accept": Format.PARQUET})
            assert (refused.status_code, refused.json()["error"]["where"]) == (400, "?since")
            assert (await client.get(f"{LOG}?limit=3", headers={"accept": Format.PARQUET})).status_code == 200

    run(check)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("", Format.JSON),
        ("*/*", Format.JSON),
        ("image/png", Format.JSON),
        ("text/csv", Format.CSV),
        ("TEXT/CSV; charset=utf-8", Format.CSV),
        ("application/json, text/csv", Format.JSON),
        ("text/csv, application/json", Format.CSV),
        ("text/csv;q=0.5, application/json;q=0.9", Format.JSON),
        ("text/csv;q=0, */*", Format.JSON),
        ("text/csv;q=x, text/event-stream;q=0.1", Format.STREAM),
        ("application/vnd.apache.parquet", Format.PARQUET),
    ],
)
def test_the_format_that_is_wanted(accept: str, expected: Format) -> None:
    assert wanted(accept, tuple(Format)) is expected
    assert wanted("text/event-stream", (Format.CSV,)) is Format.JSON


def seqs(text: str) -> list[int]:
    return [json.loads(frame["data"])["seq"] for frame in parse(text)]


async def part_after(world: World, stream: Exchange, seconds: float) -> str:
    await settle()
    await world.clock.elapse(seconds)
    return await stream.text(1)


def test_a_stream_tells_what_comes_and_can_be_resumed() -> None:
    async def check(world: World) -> None:
        world.query_log.add([at(10, 0)])
        async with Exchange(world, LOG, headers=SSE) as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            assert (await stream.text(1)).startswith(":")
            await settle()
            world.query_log.add([at(-0.1, 1)])
            (first,) = parse(await part_after(world, stream, LOOK_S))
            assert (first["event"], json.loads(first["data"])["seq"]) == ("request", 1)
        world.query_log.add([at(-0.5, 2), at(-0.4, 3, version="v2")])
        async with Exchange(world, LOG, headers={**SSE, "last-event-id": first["id"]}) as stream:
            await stream.part()
            assert seqs(await stream.text(1)) == [2, 3]
            await settle()

    run(check)


def test_a_stream_begins_where_it_is_told_to() -> None:
    async def check(world: World) -> None:
        world.query_log.add([at(100 - seq, seq, rows=seq % 2) for seq in range(20)])
        targets = {
            "?limit=3": [17, 18, 19],
            "?since=85.5s": [15, 16, 17, 18, 19],
            "?since=85.5s&where=rows=1": [15, 17, 19],
            "?since=85.5s&limit=2": [18, 19],
        }
        for query, expected in targets.items():
            async with Exchange(world, LOG + query, headers=SSE) as stream:
                await stream.part()
                assert seqs(await stream.text(1)) == expected
                await settle()

    run(check)


def test_a_silent_stream_says_that_it_is_still_there_and_ends_with_the_server() -> None:
    async def check(world: World) -> None:
        async with Exchange(world, LOG, headers=SSE) as stream:
            await stream.part()
            assert (await part_after(world, stream, routes.KEEP_ALIVE_S)).startswith(": still here")
            world.closing.set()
            assert await stream.part() is None

    run(check)
