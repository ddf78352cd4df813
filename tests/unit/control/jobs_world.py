"""A control plane on memory adapters with jobs: a crew does in every worker what a worker does, on the turned clock."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headway.adapters.memory.decision_log import MemoryDecisionLog
from headway.adapters.memory.jobs import MemoryJobs
from headway.control.worker_service import WorkerService, worker_service
from headway.domain.decisions import DecisionRecord
from headway.domain.events import Event
from headway.domain.job_ids import new_id
from headway.domain.jobs import Claim, Job, JobQuery, Lease, NewJob, Outcome
from headway.domain.lifecycle import JobState, ReplicaPhase
from headway.domain.replicas import ReplicaStatus

from .world import World

BEAT_S = 0.1
LEASE_S = 15.0


@dataclass(slots=True)
class Hand:
    """What one worker has under way."""

    lease: Lease
    until: float


class JobsWorld(World):
    """``takes_s``: how long a job of a model takes. Jobs are run by every worker that is ready, one at a time each."""

    def __init__(self, folder: Path, most: int = 100) -> None:
        super().__init__(folder)
        self.jobs = MemoryJobs(self.clock)
        self.decisions = MemoryDecisionLog()
        self.takes_s: dict[str, float] = {}
        self.most = most
        self.peak: Counter[str] = Counter()
        """Most workers there ever were, by model."""
        self.hands: dict[str, Hand] = {}
        self._numbers = itertools.count(1)
        self._crew: asyncio.Task[None] | None = None

    def worker_service(self) -> WorkerService:
        return worker_service(
            jobs=self.jobs,
            book=self.book,
            runtime=self.runtime,
            bundles=self.bundles,
            builds=self.builds,
            decisions=self.decisions,
            events=self.log,
            clock=self.clock,
            suffix=lambda: next(self._suffixes),
            most=self.most,
        )

    async def up(self) -> None:
        await super().up()
        if self._crew is None:
            self._crew = asyncio.create_task(self._work())

    async def down(self) -> None:
        """For good."""
        await self.crash()
        crew, self._crew = self._crew, None
        if crew is not None:
            crew.cancel()
            await asyncio.gather(crew, return_exceptions=True)

    async def publish(self, name: str, content: str = "def predict(X): return X", **jobs: Any) -> None:
        """Deploy and wait until it serves; ``jobs`` is ``spec.jobs``."""
        await self.deploy(name, content, jobs=jobs)
        await self.pass_time(3)

    async def submit(self, name: str, count: int = 1, *, version: str | None = "v1", **fields: Any) -> list[str]:
        """Ids of so many new jobs."""
        new = [
            NewJob(
                job_id=new_id(self.clock.now(), next(self._numbers).to_bytes(10, "big")),
                model=name,
                version=version,
                client="ann",
                route="/predict",
                content_type="application/json",
                body=b"[1]",
                **fields,
            )
            for _ in range(count)
        ]
        return [one.job.job_id for one in await self.jobs.submit(new)]

    def workers(self, name: str) -> dict[str, int]:
        """Workers that are there and stay, by version."""
        return dict(Counter(r.version for r in self.crew(name) if r.phase is not ReplicaPhase.STOPPING))

    def crew(self, name: str) -> list[ReplicaStatus]:
        return [r for r in self.runtime.observe() if r.role == "work" and r.model == name]

    async def states(self, name: str) -> dict[str, int]:
        found = await self.jobs.find(JobQuery(name, limit=100_000))
        return dict(Counter(str(job.state) for job in found))

    async def all_jobs(self, name: str) -> list[Job]:
        return await self.jobs.find(JobQuery(name, limit=100_000))

    async def until_ended(self, name: str, within_s: float) -> float:
        """Seconds until no job of ``name`` is open any more."""
        began = self.clock.monotonic()
        while await self._open(name):
            assert self.clock.monotonic() - began < within_s, await self.states(name)
            await self.pass_time(1)
        return self.clock.monotonic() - began

    async def recorded(self, name: str) -> list[DecisionRecord]:
        return await self.decisions.read(name, role="work", limit=100_000)

    async def events_of(self, *kinds: str) -> list[Event]:
        return [e for e in await self.log.read(limit=100_000) if e.type.removesuffix(".v1") in kinds]

    async def _open(self, name: str) -> bool:
        states = frozenset({JobState.QUEUED, JobState.RUNNING})
        return bool(await self.jobs.find(JobQuery(name, states=states, limit=1)))

    async def _work(self) -> None:
        while True:
            replicas = [r for r in self.runtime.observe() if r.role == "work" and r.pid is not None]
            for model, count in Counter(r.model for r in replicas if r.phase is not ReplicaPhase.STOPPING).items():
                self.peak[model] = max(self.peak[model], count)
            names = {r.worker_name for r in replicas}
            for gone in [worker for worker in self.hands if worker not in names]:
                del self.hands[gone]  # killed with what it had
            for replica in replicas:
                await self._turn(replica)
            await self.jobs.sweep()
            await self.clock.sleep(BEAT_S)

    async def _turn(self, replica: ReplicaStatus) -> None:
        name, now = replica.worker_name, self.clock.monotonic()
        hand = self.hands.get(name)
        if hand is not None and now >= hand.until:
            await self.jobs.finish([Outcome(hand.lease.job.job_id, hand.lease.token, body=b"[1]")])
            del self.hands[name]
            hand = None
        if hand is None and replica.ready:
            deployment = self.book.find(replica.model)
            follows = deployment is not None and any(arm.version == replica.version for arm in deployment.live)
            for lease in await self.jobs.claim(Claim(name, replica.model, replica.version, follows, lease_s=1e6)):
                self.hands[name] = Hand(lease, now + self.takes_s.get(replica.model, 0.2))
