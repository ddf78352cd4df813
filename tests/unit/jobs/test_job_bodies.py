"""Large inputs and results at the callers' API: how much of them is held at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from headway.api.jobs.app import JobsApi
from headway.api.jobs.calls import CHUNK_BYTES, SMALL_BYTES, Memory
from headway.api.jobs.streams import JobStreams
from tests.unit.jobs.world import JobWorld, client

pytestmark = pytest.mark.anyio
KIB = 1024
LARGE = b'"' + b"x" * (100 * KIB) + b'"'
HEADERS = {"x-headway-version": "v1"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world() -> AsyncIterator[JobWorld]:
    """Large bodies may take 100 KiB together, beyond 32 KiB each."""
    async with JobWorld() as world:
        await world.http.aclose()
        streams = JobStreams(world.service, world.jobs, world.news, world.clock)
        world.http = client(JobsApi(world.service, streams, world.clock, world.closing, Memory(100 * KIB)).bounded())
        yield world


async def slowly(go: asyncio.Event) -> AsyncIterator[bytes]:
    yield LARGE[:-1]
    await go.wait()
    yield LARGE[-1:]


async def post(world: JobWorld, body: bytes | AsyncIterator[bytes], **headers: str) -> httpx.Response:
    return await world.http.post("/models/iris/jobs", content=body, headers={**HEADERS, **headers})


async def test_bodies_beyond_what_may_be_held_are_refused_and_small_ones_are_not(world: JobWorld) -> None:
    go = asyncio.Event()
    first = world.soon(post(world, slowly(go)))
    await world.clock.settle()
    refused = await post(world, LARGE)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
    assert int(refused.headers["retry-after"]) > 0
    assert (await post(world, b"1" * SMALL_BYTES)).status_code == 202
    go.set()
    assert (await first).status_code == 202
    assert (await post(world, LARGE)).status_code == 202, "what was held is free again"


async def test_one_body_is_let_in_however_large(world: JobWorld) -> None:
    assert (await post(world, LARGE * 2)).status_code == 202


async def test_who_waits_for_a_job_holds_nothing(world: JobWorld) -> None:
    waiting = [world.soon(post(world, LARGE, prefer="wait=30")) for _ in range(3)]
    await world.clock.settle()
    assert len(await world.claim(most=5)) == 3
    world.closing.set()
    assert {(await one).status_code for one in waiting} == {202}


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES, CHUNK_BYTES + 1, 2 * CHUNK_BYTES, 2 * CHUNK_BYTES + 1])
async def test_a_result_of_any_size_comes_whole(world: JobWorld, size: int) -> None:
    job = (await post(world, b"1")).json()
    (work,) = await world.claim()
    body = bytes(range(256)) * (size // 256) + b"z" * (size % 256)
    assert await world.finish(work, body)
    result = await world.http.get(job["links"]["result"])
    assert (result.status_code, result.content) == (200, body)
    assert result.headers["content-length"] == str(size)
