"""A job server on memory adapters: its services, its two APIs, a clock turned by hand."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine
from typing import Any

import httpx
import msgspec

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.event_log import MemoryEventLog
from headway.adapters.memory.job_broker import MemoryBroker, MemoryJobBroker
from headway.adapters.memory.jobs import MemoryJobs
from headway.adapters.memory.stores import MemoryDeploymentStore
from headway.api.jobs.app import JobsApi
from headway.api.jobs.streams import JobStreams
from headway.api.jobs.workers import WorkersApi
from headway.control.jobs.announcer import JobAnnouncer
from headway.control.jobs.dispatch import Dispatch
from headway.control.jobs.news import JobNews
from headway.control.jobs.policies import stored_policies
from headway.control.jobs.rescuer import JobRescuer
from headway.control.jobs.service import JobService
from headway.domain.deployments import Deployment, Version
from headway.domain.events import EventType, NewEvent
from headway.domain.job_wire import ClaimAnswer, ClaimRequest, Report, ReportAnswer, WireJob, WireOutcome
from headway.domain.lifecycle import VersionState
from headway.domain.routing_table import Arm
from headway.domain.spec import VersionSpec

SPEC = VersionSpec.model_validate({"model": {"path": "."}}).model_dump(mode="json", by_alias=True)


def version(name: str, **spec: Any) -> Version:
    return Version(name, f"{name:0>64}", "b" * 64, 1.0, {**SPEC, **spec}, VersionState.LIVE)


def deployment(name: str = "iris", *versions: str, jobs: dict[str, Any] | None = None) -> Deployment:
    """All traffic goes to the last of ``versions``."""
    named = versions or ("v1",)
    return Deployment(
        name,
        1.0,
        versions=tuple(version(v) for v in named),
        live=(Arm(named[-1], 100),),
        target=(Arm(named[-1], 100),),
        extra={} if jobs is None else {"jobs": jobs},
    )


class JobWorld:
    """One job server; ``broker``: with a connection to that one."""

    def __init__(self, *deployments: Deployment, broker: MemoryBroker | None = None, beside: JobWorld | None = None):
        self.clock: ManualClock = beside.clock if beside is not None else ManualClock()
        self.jobs: MemoryJobs = beside.jobs if beside is not None else MemoryJobs(self.clock)
        self.events = MemoryEventLog()
        self.deployments = MemoryDeploymentStore(self.events)
        self._first = deployments or (deployment(),)
        self.policies = stored_policies(self.deployments, self.events, self.clock)
        self.broker = MemoryJobBroker(broker) if broker is not None else None
        self.dispatch = Dispatch(self.jobs, self.policies, self.clock, self.broker)
        self.announcer = JobAnnouncer(self.broker, self.clock) if self.broker is not None else None
        self.news = JobNews(self.jobs, self.clock)
        numbers = itertools.count(1)
        self.service = JobService(
            self.jobs,
            self.policies,
            self.news,
            self.dispatch,
            self.clock,
            announcer=self.announcer,
            random=lambda size: next(numbers).to_bytes(size, "big"),
        )
        self.rescuer = JobRescuer(self.jobs, self.clock, self.on_due)
        self.closing = asyncio.Event()
        streams = JobStreams(self.service, self.jobs, self.news, self.clock)
        self.api = JobsApi(self.service, streams, self.clock, self.closing)
        self.http = client(self.api.bounded())
        self.worker = client(WorkersApi(self.dispatch, self.jobs).bounded())

    def on_due(self, due: Any) -> None:
        self.dispatch.due({model for model, _ in due})
        if self.announcer is not None:
            self.announcer.tell(due)

    async def __aenter__(self) -> JobWorld:
        for one in self._first:
            await self.deploy(one)
        for service in (self.policies, self.news, self.dispatch, self.broker, self.announcer):
            if service is not None:
                await service.start()
        await self.clock.settle()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.closing.set()
        for service in (self.announcer, self.broker, self.dispatch, self.news, self.policies):
            if service is not None:
                await service.stop()
        await self.http.aclose()
        await self.worker.aclose()

    async def deploy(self, one: Deployment) -> None:
        known = {d.name: d.resource_version for d in await self.deployments.load_all()}
        from dataclasses import replace

        one = replace(one, resource_version=known.get(one.name, 0))
        await self.deployments.save(one, [NewEvent(self.clock.now(), EventType.CONTROL_STARTED)])

    async def submit(self, body: object = "[[1]]", path: str = "/models/iris/jobs", **headers: str) -> httpx.Response:
        named = {"x-headway-version": "v1", "x-headway-client": "ann"}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, (bytes, str)) else msgspec.json.encode(body)
        return await self.http.post(path, content=content, headers={**named, **given})

    async def claim(
        self, version: str = "v1", *, wait_s: float = 0.0, most: int = 1, worker: str = "w1"
    ) -> list[WireJob]:
        wish = ClaimRequest(worker=worker, model="iris", version=version, most=most, wait_s=wait_s)
        answer = await self.worker.post("/claim", content=msgspec.msgpack.encode(wish))
        assert answer.status_code == 200, answer.text
        return msgspec.msgpack.decode(answer.content, type=ClaimAnswer).jobs

    async def report(self, *outcomes: WireOutcome, **fields: Any) -> ReportAnswer:
        body = msgspec.msgpack.encode(Report(worker="w1", outcomes=list(outcomes), **fields))
        answer = await self.worker.post("/report", content=body)
        assert answer.status_code == 200, answer.text
        return msgspec.msgpack.decode(answer.content, type=ReportAnswer)

    async def finish(self, job: WireJob, body: bytes = b"[0]", **fields: Any) -> bool:
        (accepted,) = (await self.report(WireOutcome(job_id=job.job_id, token=job.token, body=body, **fields))).accepted
        return accepted

    def soon(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        return asyncio.ensure_future(work)


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://jobs")
