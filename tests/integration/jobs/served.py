"""A real job server's process on a home with one deployed model; the test is its callers, its workers, its gateway."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec

from headway.adapters.local import SystemClock, run_dir_for
from headway.adapters.local.job_server import LocalJobServer
from headway.adapters.local.sockets import job_socket, job_worker_socket
from headway.adapters.sql import SqlDatabase, SqlDeploymentStore
from headway.domain.deployments import Deployment
from headway.domain.job_wire import ClaimAnswer, ClaimRequest, Report, ReportAnswer, WireJob, WireOutcome
from headway.job_server import mark_of
from headway.settings import Settings
from tests.unit.jobs.world import deployment
from tests.waiting import eventually


async def deploy(home: Path, *deployments: Deployment) -> None:
    database = SqlDatabase(home / "headway.db")
    await database.open()
    for one in deployments or (deployment(),):
        await SqlDeploymentStore(database).save(one)
    await database.close()


class Served:
    """What a test does with it."""

    def __init__(self, home: Path, **variables: str) -> None:
        self.home = home
        self.variables = variables
        run_dir = run_dir_for(home)
        self.callers = _client(job_socket(run_dir))
        self.workers = _client(job_worker_socket(run_dir))
        self.looker = self.another()

    def another(self, **variables: str) -> LocalJobServer:
        """Another one who looks after the same job server, as the next control plane does."""
        given = {**self.variables, **variables}
        fields: dict[str, Any] = {name.removeprefix("HEADWAY_").lower(): value for name, value in given.items()}
        mark = mark_of(Settings(home=self.home, **fields))
        env = {**os.environ, **given}
        return LocalJobServer(self.home, run_dir_for(self.home), clock=SystemClock(), env=env, mark=mark)

    async def up(self) -> None:
        async def answers() -> bool:
            try:
                return (await self.callers.get("/health")).status_code == 200
            except httpx.TransportError:
                return False

        await eventually(answers, what="the job server answers")  # type: ignore[arg-type]

    async def submit(self, body: object = None, **headers: str) -> dict[str, Any]:
        given = {"x-headway-version": "v1", **{k.replace("_", "-"): v for k, v in headers.items()}}
        answer = await self.callers.post("/models/iris/jobs", json=body or [[1]], headers=given)
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def get(self, job: dict[str, Any], query: str = "") -> dict[str, Any]:
        found: dict[str, Any] = (await self.callers.get(job["links"]["self"] + query)).json()
        return found

    async def claim(self, wait_s: float = 10.0, most: int = 1) -> list[WireJob]:
        wish = ClaimRequest(worker="w1", model="iris", version="v1", most=most, wait_s=wait_s)
        answer = await self.workers.post("/claim", content=msgspec.msgpack.encode(wish))
        assert answer.status_code == 200, answer.text
        return msgspec.msgpack.decode(answer.content, type=ClaimAnswer).jobs

    async def finish(self, job: WireJob, body: bytes = b"[0]") -> bool:
        report = Report(worker="w1", outcomes=[WireOutcome(job_id=job.job_id, token=job.token, body=body)])
        answer = await self.workers.post("/report", content=msgspec.msgpack.encode(report))
        (accepted,) = msgspec.msgpack.decode(answer.content, type=ReportAnswer).accepted
        return accepted


@asynccontextmanager
async def served(home: Path, *deployments: Deployment, **variables: str) -> AsyncIterator[Served]:
    await deploy(home, *deployments)
    one = Served(home, **variables)
    try:
        await one.looker.start()
        await one.up()
        yield one
    finally:
        await one.looker.stop(stop_server=True)
        await one.callers.aclose()
        await one.workers.aclose()


def _client(socket: Path) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(socket)), base_url="http://jobs", timeout=60)
