"""The job server as a process: what it has acknowledged outlives it, and somebody starts it again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import msgspec
import pytest

from headway.adapters.local.job_server import end_job_servers, find_job_servers
from headway.domain.job_wire import ClaimRequest
from tests.integration.jobs.served import Served, served
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def jobs(scratch: Path) -> AsyncIterator[Served]:
    async with served(scratch / "home") as jobs:
        yield jobs


async def test_what_it_acknowledged_outlives_a_kill(jobs: Served) -> None:
    waiting, held, done = [await jobs.submit([[n]]) for n in range(3)]
    lot = {work.job_id: work for work in await jobs.claim(most=3)}
    assert await jobs.finish(lot[done["id"]], b'{"y": 1}')
    killed = jobs.looker.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    await eventually(lambda: jobs.looker.pid not in (None, killed), what="it is started again")
    await jobs.up()
    assert (await jobs.callers.get(done["links"]["result"])).content == b'{"y": 1}'
    assert (await jobs.get(held))["state"] == "running"
    assert await jobs.finish(lot[held["id"]]), "its worker goes on with the next job server"
    assert await jobs.finish(lot[waiting["id"]])
    assert (await jobs.get(waiting, "?wait=10"))["state"] == "succeeded"


async def test_it_is_adopted_by_who_comes_next_and_replaced_when_settings_differ(jobs: Served, tmp_path: Path) -> None:
    first = jobs.looker.pid
    await jobs.looker.stop(stop_server=False)
    following = jobs.another()
    await following.start()
    await following.start()
    assert (following.pid, following.adopted) == (first, True)
    await following.stop(stop_server=False)

    other = jobs.another(HEADWAY_JOBS_FILES=str(tmp_path / "elsewhere"))
    try:
        await other.start()
        assert other.adopted is False
        await jobs.up()
        assert [one.pid for one in find_job_servers(jobs.home)] == [other.pid] != [first]
    finally:
        await asyncio.gather(other.stop(stop_server=True), other.stop(stop_server=True))
    assert find_job_servers(jobs.home) == []


async def test_without_a_control_plane_it_can_be_ended(jobs: Served) -> None:
    await jobs.looker.stop(stop_server=False)
    assert await end_job_servers(jobs.home) is True
    assert await end_job_servers(jobs.home) is False


async def test_told_that_all_stops_it_lets_nobody_wait_and_hears_workers_out(jobs: Served) -> None:
    job = await jobs.submit()
    (work,) = await jobs.claim()
    poll = asyncio.create_task(jobs.get(job, "?wait=50"))
    stream = asyncio.create_task(jobs.callers.get("/models/iris/jobs/events"))
    claim = asyncio.create_task(jobs.claim(wait_s=50))
    await jobs.submit(prefer="wait=0")
    assert len(await claim) == 1, "it was woken by the submission"
    await jobs.looker.quiesce()
    assert (await poll)["state"] == "running"
    assert (await stream).status_code == 200
    assert await jobs.finish(work)
    assert (await jobs.get(job, "?wait=50"))["state"] == "succeeded"
    claim = asyncio.create_task(jobs.claim(wait_s=50))
    await asyncio.sleep(0)
    await jobs.looker.stop(stop_server=True)
    with contextlib.suppress(httpx.TransportError):  # it may not have been taken yet
        assert await claim == []


async def test_a_worker_that_leaves_while_it_waits_gets_no_job(jobs: Served) -> None:
    wish = msgspec.msgpack.encode(ClaimRequest(worker="w2", model="iris", version="v1", wait_s=60))
    with pytest.raises(httpx.TimeoutException):
        await jobs.workers.post("/claim", content=wish, timeout=0.5)
    job = await jobs.submit()
    (work,) = await jobs.claim()
    assert (work.job_id, work.attempt) == (job["id"], 1)
    assert await jobs.finish(work)
