"""A real worker process and a real job server's process: both ends of the wire."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from headway.adapters.local import run_dir_for
from headway.adapters.local.sockets import job_worker_socket
from tests.integration.jobs.served import served
from tests.integration.server.replica import Replica
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
MODEL = """\
import time
from headway import jobs

class Model:
    def predict(self, X: dict):
        if X["do"] == "wait":
            while not jobs.canceled():
                jobs.progress(0.5, "half")
                time.sleep(0.01)
        elif X["do"] == "fail":
            raise ValueError("no luck")
        return X
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_jobs_end_as_they_should(scratch: Path) -> None:
    home = scratch / "home"
    address = f"unix:{job_worker_socket(run_dir_for(home))}"
    async with served(home) as jobs:
        replica = Replica(scratch, MODEL, wait=False, job_server=address, worker_name="iris-v1-bcdfg.0")
        with replica:
            fine = await jobs.get(await jobs.submit({"do": "well"}), "?wait=20")
            assert (fine["state"], fine["attempts"], fine["ranVersion"]) == ("succeeded", 1, "v1")
            result = await jobs.callers.get(fine["links"]["result"])
            assert result.json() == {"predictions": {"do": "well"}}

            bad = await jobs.get(await jobs.submit([[1]]), "?wait=20")
            assert (bad["state"], bad["error"]["code"], bad["attempts"]) == ("failed", "invalid_request", 1)
            failing = await jobs.submit({"do": "fail"})

            async def tried() -> bool:
                seen = await jobs.get(failing)
                return seen["error"] is not None and "no luck" in seen["error"]["message"]

            await eventually(tried)  # type: ignore[arg-type]

            running = await jobs.submit({"do": "wait"})

            async def half() -> bool:
                progress = (await jobs.get(running))["progress"]
                return progress is not None and progress["note"] == "half"

            await eventually(half)  # type: ignore[arg-type]
            await jobs.callers.delete(running["links"]["self"])
            canceled = await jobs.get(running, "?wait=20")
            assert canceled["state"] == "canceled"

            every = [await jobs.submit({"do": str(number)}) for number in range(100)]
            ended = await asyncio.gather(*(jobs.get(job, "?wait=20") for job in every))
            assert {(job["state"], job["attempts"]) for job in ended} == {("succeeded", 1)}

            replica.process.terminate()  # while it waits for more
            assert await asyncio.to_thread(replica.process.wait, 10) == 0
            left = await jobs.submit({"do": "well"})
            assert (await jobs.get(left))["state"] == "queued"
