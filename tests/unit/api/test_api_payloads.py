"""Sampled payloads over REST: what was kept is what is answered, to whoever may ask."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from headway.api.routes.payloads import PayloadList
from headway.domain.query_log import Payload
from tests.contracts.payload_log_contract import payload
from tests.unit.api.world import World, make_world

PAYLOADS = "/v1/models/iris/payloads"
S = 1_000_000_000


def run(check: Callable[[World], Awaitable[None]]) -> None:
    async def in_world() -> None:
        world = await make_world()
        await world.deploy()
        await check(world)

    asyncio.run(in_world())


def keep(world: World, ago_s: float, seq: int, model: str = "iris") -> Payload:
    kept = payload(seq, at_ns=world.payloads.now_ns() - round(ago_s * S))
    world.payload_log.add(model, kept)
    return kept


def test_the_last_hour_oldest_first_whole() -> None:
    async def check(world: World) -> None:
        keep(world, 3700, 0)
        kept = [keep(world, 3500, 1), keep(world, 1, 2)]
        async with world.client() as client:
            answer = await client.get(PAYLOADS)
        found = answer.json()
        assert PayloadList.model_validate(found).model_dump() == found
        now_s = world.clock.now()
        assert (found["model"], found["since"], found["until"]) == ("iris", now_s - 3600, now_s)
        for one, told in zip(kept, found["payloads"], strict=True):
            assert told == {"at": one.ts_ns / 1e9, **{name: getattr(one, name) for name in Payload.__slots__}}

    run(check)


@pytest.mark.parametrize(
    ("query", "expected"),
    [("limit=2", [2, 3]), ("since=35s&until=15s", [1, 2]), ("since=1s", []), ("since=1d&limit=1000", [0, 1, 2, 3])],
)
def test_spans_and_limits(query: str, expected: list[int]) -> None:
    async def check(world: World) -> None:
        for seq in range(4):
            keep(world, (4 - seq) * 10, seq)
        async with world.client() as client:
            answer = await client.get(f"{PAYLOADS}?{query}")
        assert [one["seq"] for one in answer.json()["payloads"]] == expected

    run(check)


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("since=soon", "?since"),
        ("until=soon", "?until"),
        ("since=1m&until=2m", "?since"),
    ],
)
def test_a_question_that_cannot_be_asked(query: str, where: str) -> None:
    async def check(world: World) -> None:
        async with world.client() as client:
            answer = await client.get(f"{PAYLOADS}?{query}")
        assert answer.status_code == 400, answer.text
        assert where in answer.json()["error"]["where"]

    run(check)


def test_who_may_ask_and_about_whom() -> None:
    async def check(world: World) -> None:
        keep(world, 9000, 0, "gone")
        confined = await world.token("ci", "deploy", ["iris"])
        for status, token in {401: None, 403: await world.token("shop", "predict"), 200: confined}.items():
            async with world.client(token) as client:
                assert (await client.get(PAYLOADS)).status_code == status
        async with world.client(confined) as client:
            assert (await client.get("/v1/models/gone/payloads")).status_code == 403
        async with world.client() as client:
            assert (await client.get("/v1/models/gone/payloads")).status_code == 200
            unknown = await client.get("/v1/models/typo/payloads")
            assert (unknown.status_code, unknown.json()["error"]["code"]) == (404, "model_not_found")

    run(check)
