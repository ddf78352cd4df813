"""Events as pages and as a stream: nothing missed, nothing twice, nothing that may not be seen, always an end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

from headway.api.routes.events import KEEP_ALIVE_S, STREAM_PAGE
from headway.domain.events import EventType, NewEvent
from tests.unit.api.world import Exchange, World, make_world, settle

SSE = {"accept": "text/event-stream"}


async def record(world: World, *models: str | None, data: Any = None) -> None:
    events = [NewEvent(world.clock.now(), EventType.ROUTE_APPLIED, model, data=data or {}) for model in models]
    await world.event_log.append(events)


def parse(text: str) -> list[dict[str, str]]:
    """Server-sent events as fields, comments left out."""
    frames = [frame for frame in text.split("\n\n") if frame and not frame.startswith(":")]
    return [dict(line.split(": ", 1) for line in frame.split("\n")) for frame in frames]


def cursors(frames: Sequence[dict[str, str]]) -> list[int]:
    return [int(frame["id"]) for frame in frames]


def test_pages_follow_one_another_without_gap() -> None:
    async def check() -> None:
        world = await make_world()
        await record(world, *(["iris", "wine", None] * 10))
        async with world.client() as client:
            seen: list[int] = []
            while page := (await client.get(f"/v1/events?limit=7&after={seen[-1] if seen else 0}")).json():
                seen += [event["cursor"] for event in page]
            assert seen == list(range(1, 31))
            iris = (await client.get("/v1/events?model=iris&limit=1000")).json()
            assert [event["cursor"] for event in iris] == list(range(1, 31, 3))

    asyncio.run(check())


def test_a_token_confined_to_several_models_gets_full_pages_of_its_own() -> None:
    async def check() -> None:
        world = await make_world()
        await record(world, *([None] * 1500), "iris", *(["other"] * 1500), "wine", "iris")
        confined = await world.token("ci", "deploy", ["iris", "wine"])
        async with world.client(confined) as client:
            first = (await client.get("/v1/events?limit=2")).json()
            assert [event["cursor"] for event in first] == [1501, 3002]
            rest = (await client.get("/v1/events?limit=2&after=3002")).json()
            assert [event["cursor"] for event in rest] == [3003]

    asyncio.run(check())


def test_a_stream_gives_what_was_and_what_comes() -> None:
    async def check() -> None:
        world = await make_world()
        await record(world, "iris", None, data={"text": "two\nlines \u2028 ü"})
        async with Exchange(world, "/v1/events?after=1", headers=SSE) as exchange:
            assert exchange.status == 200
            assert exchange.headers["content-type"].startswith("text/event-stream")
            assert exchange.headers["cache-control"] == "no-store"
            (first,) = parse(await exchange.text(2))
            assert (first["id"], first["event"]) == ("2", "route_applied.v1")
            told = json.loads(first["data"])
            assert (told["cursor"], told["model"], told["data"]) == (2, None, {"text": "two\nlines \u2028 ü"})
            await settle()
            await record(world, "wine")
            assert cursors(parse(await exchange.text(1))) == [3]

    asyncio.run(check())


def test_a_stream_resumes_after_the_last_event_id() -> None:
    async def check() -> None:
        world = await make_world()
        await record(world, *["iris"] * 5)
        async with Exchange(world, "/v1/events", headers=SSE) as exchange:
            seen = cursors(parse(await exchange.text(3)))
        assert seen == [1, 2]
        await record(world, *["iris"] * 3)
        resumed = {**SSE, "last-event-id": str(seen[-1])}
        async with Exchange(world, "/v1/events?after=1", headers=resumed) as exchange:
            seen += cursors(parse(await exchange.text(7)))
        assert seen == list(range(1, 9))

    asyncio.run(check())


def test_a_stream_of_one_model_is_silent_about_others_and_waits_instead_of_spinning() -> None:
    async def check() -> None:
        world = await make_world()
        await record(world, "wine", None)
        reads = 0
        read = world.event_log.read

        async def counted(**arguments: Any) -> Any:
            nonlocal reads
            reads += 1
            assert reads < 100, "the stream spins"
            return await read(**arguments)

        world.event_log.read = counted  # type: ignore[method-assign]
        async with Exchange(world, "/v1/events?model=iris", headers=SSE) as exchange:
            assert parse(await exchange.text(1)) == []
            await settle()
            assert reads <= 2
            await record(world, "wine", "iris")
            assert cursors(parse(await exchange.text(1))) == [4]
            await settle()
            assert reads <= 6

    asyncio.run(check())


def test_a_confined_token_streams_only_its_models() -> None:
    async def check() -> None:
        world = await make_world()
        confined = await world.token("ci", "deploy", ["iris", "rose"])
        await record(world, "wine", "iris", None, "rose")
        async with Exchange(world, "/v1/events", token=confined, headers=SSE) as exchange:
            frames = parse(await exchange.text(3))
            assert [json.loads(frame["data"])["model"] for frame in frames] == ["iris", "rose"]

    asyncio.run(check())


def test_a_silent_stream_is_kept_alive_by_comments() -> None:
    async def check() -> None:
        world = await make_world()

        async def nothing_happens(after: int, timeout_s: float) -> bool:
            await asyncio.sleep(0)
            world.clock.advance(timeout_s)
            return False

        world.event_log.wait = nothing_happens  # type: ignore[method-assign]
        async with Exchange(world, "/v1/events", headers=SSE) as exchange:
            await exchange.part()
            before = world.clock.now()
            assert await exchange.part() == b": still here\n\n"
            assert world.clock.now() - before <= 2 * KEEP_ALIVE_S
            assert await exchange.part() == b": still here\n\n"

    asyncio.run(check())


def test_a_stream_is_kept_alive_while_only_others_have_events() -> None:
    async def check() -> None:
        world = await make_world()

        async def others_are_busy(after: int, timeout_s: float) -> bool:
            await asyncio.sleep(0)
            world.clock.advance(1.0)
            await record(world, "wine")
            return True

        world.event_log.wait = others_are_busy  # type: ignore[method-assign]
        async with Exchange(world, "/v1/events?model=iris", headers=SSE) as exchange:
            await exchange.part()
            assert await exchange.part() == b": still here\n\n"

    asyncio.run(check())


def test_a_client_that_does_not_read_holds_back_its_stream_and_nothing_else() -> None:
    async def check() -> None:
        world = await make_world()
        await record(world, *["iris"] * 5_000)
        read_up_to: list[int] = []
        read = world.event_log.read

        async def watched(**arguments: Any) -> Any:
            page = await read(**arguments)
            read_up_to.append(page[-1].cursor if page else 0)
            return page

        world.event_log.read = watched  # type: ignore[method-assign]
        async with Exchange(world, "/v1/events", headers=SSE) as exchange:
            await exchange.part()
            await settle()
            assert max(read_up_to) <= STREAM_PAGE
            assert exchange.sends <= 3
            async with world.client() as client:
                assert (await client.get("/v1/models")).status_code == 200

    asyncio.run(check())


def test_a_stream_ends_properly_when_the_server_is_about_to_stop() -> None:
    async def check() -> None:
        world = await make_world()
        async with Exchange(world, "/v1/events", headers=SSE) as exchange:
            await exchange.part()
            await settle()
            world.closing.set()
            assert await exchange.part() is None
            await asyncio.wait_for(exchange.task, 5)

    asyncio.run(check())


def test_a_stream_asked_for_while_stopping_ends_at_once() -> None:
    async def check() -> None:
        world = await make_world()
        world.closing.set()
        async with world.client() as client:
            answer = await asyncio.wait_for(client.get("/v1/events", headers=SSE), 5)
        assert answer.status_code == 200

    asyncio.run(check())


def test_a_client_that_takes_nothing_cannot_keep_a_stream_open() -> None:
    async def check() -> None:
        world = await make_world()
        await record(world, *["iris"] * 10)
        exchange = Exchange(world, "/v1/events", headers=SSE)
        await exchange.__aenter__()  # the head is taken, nothing after it
        await settle()
        world.closing.set()
        await asyncio.wait_for(exchange.task, 5)

    asyncio.run(check())


def test_a_stream_ends_when_its_client_goes() -> None:
    async def check() -> None:
        world = await make_world()
        tasks_before = len(asyncio.all_tasks())
        async with Exchange(world, "/v1/events", headers=SSE) as exchange:
            await exchange.part()
            await settle()
            exchange.go_away()
            await asyncio.wait_for(exchange.task, 5)
        await settle()
        assert len(asyncio.all_tasks()) == tasks_before

    asyncio.run(check())


def test_a_stream_ends_when_its_token_is_revoked_or_expires() -> None:
    async def check() -> None:
        world = await make_world()
        revoked = await world.token("ci", "deploy")
        expiring = (await world.tokens.create("brief", "deploy", lifetime_s=20)).secret
        async with (
            Exchange(world, "/v1/events?after=9", token=revoked, headers=SSE) as first,
            Exchange(world, "/v1/events?after=9", token=expiring, headers=SSE) as second,
            Exchange(world, "/v1/events?after=9", headers=SSE) as third,
        ):
            for exchange in (first, second, third):
                await exchange.part()
            await settle()
            await world.tokens.revoke("ci")
            world.clock.advance(15)
            assert await first.part() is None
            await settle()
            assert not second.task.done()
            world.clock.advance(15)
            assert await second.part() is None
            await settle()
            assert not third.task.done()

    asyncio.run(check())


def test_json_is_the_answer_unless_a_stream_is_asked_for() -> None:
    async def check() -> None:
        world = await make_world()
        async with world.client() as client:
            for accept in ["*/*", "application/json", "text/html", "", "text/*", "nonsense"]:
                answer = await client.get("/v1/events", headers={"accept": accept})
                assert answer.json() == []
        async with Exchange(
            world, "/v1/events", headers={"accept": "application/json;q=0.1, TEXT/Event-Stream"}
        ) as one:
            assert one.headers["content-type"].startswith("text/event-stream")

    asyncio.run(check())
