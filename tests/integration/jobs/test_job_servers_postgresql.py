"""Two job servers on one PostgreSQL, told of work by RabbitMQ: what one takes in, the other's workers carry out."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.integration.jobs.served import served
from tests.services.fixtures import PostgresqlService, RabbitmqService
from tests.services.rabbitmq import amqp

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_a_job_taken_in_by_one_is_carried_out_by_the_workers_of_the_other(
    scratch: Path, postgresql_service: PostgresqlService, rabbitmq_service: RabbitmqService
) -> None:
    shared = {
        "HEADWAY_JOBS_DATABASE": postgresql_service.address,
        "HEADWAY_JOBS_BROKER": amqp(rabbitmq_service),
        "HEADWAY_JOBS_FILES": str(scratch / "files"),
    }
    async with served(scratch / "home", **shared) as here, served(scratch / "b", **shared) as there:
        claim = asyncio.create_task(there.claim(wait_s=40))
        jobs = [await here.submit([[n] * 20_000]) for n in range(2)]
        lot = [*await claim, *await there.claim(wait_s=40)]
        assert {work.job_id for work in lot} == {job["id"] for job in jobs}
        poll = asyncio.create_task(here.get(jobs[0], "?wait=40"))
        for work in lot:
            assert await there.finish(work, b"[" + b"0," * 20_000 + b"0]")
        assert (await poll)["state"] == "succeeded"
        result = await here.callers.get(jobs[1]["links"]["result"])
        assert len(result.content) == 40_003
