"""Logs: whole lines, of one or several replicas, followed until there is a reason to stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from headway.api.log_lines import LOOK_S, MAX_LINE_BYTES, WAITING_CHUNKS, led, whole_lines
from tests.unit.api.world import Exchange, World, make_world, settle

LOGS = "/v1/models/iris/logs"


async def with_replicas(*suffixes: str) -> tuple[World, list[str]]:
    world = await make_world()
    await world.deploy()
    return world, [world.runtime.add("iris", "v1", suffix) for suffix in suffixes]


async def read(world: World, target: str) -> str:
    async with world.client() as client:
        answer = await asyncio.wait_for(client.get(target), 5)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        return answer.text


def test_the_log_of_the_only_replica_is_given_as_it_is() -> None:
    async def check() -> None:
        world, (replica,) = await with_replicas("bcdfg")
        world.runtime.printed[replica] = [b"one\ntw", b"o\nthree"]
        assert await read(world, LOGS) == "one\ntwo\nthree\n"
        world.runtime.printed[replica] = [b"one\n", b"two\n", b"three\n"]
        assert await read(world, f"{LOGS}?tail=2") == "two\nthree\n"
        assert world.runtime.reading == 0

    asyncio.run(check())


def test_lines_of_several_replicas_say_whose_they_are() -> None:
    async def check() -> None:
        world, (first, second) = await with_replicas("bcdfg", "hjklm")
        other = world.runtime.add("wine", "v1", "bcdfg")
        world.runtime.printed = {first: [b"a\n\nb\n"], second: [b"c"], other: [b"not mine\n"]}
        assert await read(world, LOGS) == f"{first} | a\n{first} | \n{first} | b\n{second} | c\n"
        assert await read(world, f"{LOGS}?replica={second}") == "c"

    asyncio.run(check())


def test_a_version_and_a_replica_that_is_gone_can_be_chosen() -> None:
    async def check() -> None:
        world, (old,) = await with_replicas("bcdfg")
        new = world.runtime.add("iris", "v2", "hjklm")
        world.runtime.printed = {old: [b"old\n"], new: [b"new\n"]}
        world.runtime.end(old)
        assert await read(world, LOGS) == "new\n"
        assert await read(world, f"{LOGS}?replica={old}") == "old\n"
        assert await read(world, f"{LOGS}?replica={old}&follow=true") == "old\n"
        assert await read(world, f"{LOGS}?version=v1") == ""

    asyncio.run(check())


def test_a_replica_of_another_model_is_not_shown_even_if_its_name_begins_alike() -> None:
    async def check() -> None:
        world, _ = await with_replicas()
        other = world.runtime.add("iris-v1", "v1", "bcdfg")
        world.runtime.printed[other] = [b"not mine\n"]
        async with world.client() as client:
            for replica in (other, other.replace("iris-v1-", "iris-", 1)):
                answer = await client.get(f"{LOGS}?replica={replica}")
                assert answer.status_code == 404

    asyncio.run(check())


def test_following_goes_on_with_new_lines_and_new_replicas() -> None:
    async def check() -> None:
        world, (first,) = await with_replicas("bcdfg")
        world.runtime.print(first, b"old\n")
        async with Exchange(world, f"{LOGS}?follow=true") as exchange:
            assert await exchange.part() == b"old\n"
            world.runtime.print(first, b"half a ")
            world.runtime.print(first, b"line\n")
            assert await exchange.part() == b"half a line\n"
            second = world.runtime.add("iris", "v1", "hjklm")
            world.runtime.print(second, b"hello\n")
            await settle()
            world.clock.advance(LOOK_S)
            assert await exchange.part() == f"{second} | hello\n".encode()
            world.runtime.print(first, b"more\n")
            assert await exchange.part() == f"{first} | more\n".encode()
        await settle()
        assert world.runtime.reading == 0

    asyncio.run(check())


def test_following_ends_when_the_model_is_gone_and_everything_is_said() -> None:
    async def check() -> None:
        world, (replica,) = await with_replicas("bcdfg")
        async with Exchange(world, f"{LOGS}?follow=true") as exchange:
            await settle()
            world.runtime.print(replica, b"bye\n")
            world.runtime.end(replica)
            await world.book.delete("iris", [])
            assert await exchange.part() == b"bye\n"
            world.clock.advance(LOOK_S)
            assert await exchange.part() is None

    asyncio.run(check())


def test_following_one_replica_ends_with_it() -> None:
    async def check() -> None:
        world, (replica, _) = await with_replicas("bcdfg", "hjklm")
        async with Exchange(world, f"{LOGS}?follow=true&replica={replica}") as exchange:
            await settle()
            world.clock.advance(LOOK_S)
            world.runtime.print(replica, b"bye\n")
            assert await exchange.part() == b"bye\n"
            world.runtime.end(replica)
            world.clock.advance(LOOK_S)
            assert await exchange.part() is None

    asyncio.run(check())


@pytest.mark.parametrize("how", ["closing", "gone"])
def test_following_ends_with_the_server_or_the_client_and_lets_the_logs_go(how: str) -> None:
    async def check() -> None:
        world, (replica, _) = await with_replicas("bcdfg", "hjklm")
        world.runtime.print(replica, b"a\n")
        async with Exchange(world, f"{LOGS}?follow=true") as exchange:
            await exchange.part()
            await settle()
            assert world.runtime.reading == 2
            if how == "closing":
                world.closing.set()
                assert await exchange.part() is None
            else:
                exchange.go_away()
            await asyncio.wait_for(exchange.task, 5)
        assert world.runtime.reading == 0

    asyncio.run(check())


def test_a_client_that_does_not_read_holds_back_the_log() -> None:
    async def check() -> None:
        world, _ = await with_replicas("bcdfg", "hjklm")
        taken = 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal taken
            while True:
                taken += 1
                yield b"x\n"
                await asyncio.sleep(0)

        world.runtime.logs = lambda *_, **__: endless()  # type: ignore[method-assign]
        async with Exchange(world, f"{LOGS}?follow=true"):
            for _ in range(20):
                await settle()
            assert taken <= WAITING_CHUNKS + 8

    asyncio.run(check())


def test_lines_are_kept_whole_and_endless_ones_cut() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for chunk in [b"a", b"b\nc", b"\n", b"", b"d" * (MAX_LINE_BYTES + 10), b"\n", b"\r\ne\rf"]:
            yield chunk

    async def collect() -> list[bytes]:
        return [chunk async for chunk in whole_lines(chunks())]

    found = asyncio.run(collect())
    assert all(chunk.endswith(b"\n") for chunk in found)
    assert b"".join(found) == b"ab\nc\n" + b"d" * MAX_LINE_BYTES + b"\n" + b"d" * 10 + b"\n\r\ne\rf\n"


def test_every_line_is_led() -> None:
    assert led("r", b"a\n\nb\rc\n") == b"r | a\nr | \nr | b\rc\n"
    assert led(None, b"a\n") == b"a\n"
