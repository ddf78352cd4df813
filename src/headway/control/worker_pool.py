"""WorkerPool: the workers that are asked for, one spec each; brought to a wished number, idle ones leaving first.

A worker is told to go by leaving the desired state. It then takes no new job, and has the grace period of
``spec.jobs`` for the one it runs.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Final

from headway.control.builds import EnvironmentBuilds
from headway.control.replica_specs import worker_spec
from headway.control.waits import within
from headway.domain.deployments import Deployment, Version
from headway.domain.errors import HeadwayError
from headway.domain.jobs import JobQuery
from headway.domain.lifecycle import JobState, ReplicaPhase
from headway.domain.names import replica_name
from headway.domain.replicas import ReplicaSpec, ReplicaStatus
from headway.ports.bundle_store import BundleStore
from headway.ports.clock import Clock
from headway.ports.job_store import JobStore
from headway.ports.runtime import Runtime

log = logging.getLogger(__name__)

LEAVING: Final = frozenset({ReplicaPhase.STOPPING, ReplicaPhase.STOPPED})
AT_WORK: Final = frozenset({ReplicaPhase.READY, ReplicaPhase.UNREADY})
"""Phases in which a worker may have a job: one that computes may fail its readiness probe."""
ASK_S: Final = 3.0
MOST_RUNNING: Final = 10_000
Key = tuple[str, str]


class WorkerPool:
    """Of all models. What is in it is what the runtime is told to run."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        bundles: BundleStore,
        builds: EnvironmentBuilds,
        store: JobStore,
        clock: Clock,
        suffix: Callable[[], str],
    ) -> None:
        self._runtime = runtime
        self._bundles = bundles
        self._builds = builds
        self._store = store
        self._clock = clock
        self._suffix = suffix
        self._specs: dict[Key, dict[str, ReplicaSpec]] = {}
        """By model and version, then replica id."""
        self._told: set[str] = set()
        """Workers that were told to go and are still there."""

    def specs(self) -> list[ReplicaSpec]:
        """All of them: the workers' part of the desired state."""
        return [spec for own in self._specs.values() for spec in own.values()]

    def count(self, key: Key) -> int:
        """How many are asked for."""
        return len(self._specs.get(key, ()))

    def versions(self, model: str) -> set[str]:
        """Versions of ``model`` with workers."""
        return {version for name, version in self._specs if name == model}

    def present(self, model: str) -> list[ReplicaStatus]:
        """Every worker of ``model`` that is there, those on their way out included."""
        return [r for r in self._runtime.observe() if r.role == "work" and r.model == model]

    def adopt(self, deployments: Iterable[Deployment]) -> None:
        """Take in workers that run and that nobody here asked for: those of the control plane before."""
        known = {deployment.name: deployment for deployment in deployments}
        there = set()
        for replica in self._runtime.observe():
            if replica.role != "work":
                continue
            there.add(replica.replica_id)
            key = (replica.model, replica.version)
            deployment = known.get(replica.model)
            asked = replica.replica_id in self._specs.get(key, ()) or replica.replica_id in self._told
            if asked or deployment is None or replica.phase in LEAVING or replica.phase is ReplicaPhase.FAILED:
                continue
            version = next((v for v in deployment.versions if v.name == replica.version), None)
            if version is not None and version.python is not None:
                self._add(deployment, version, replica.replica_id)
        self._told &= there

    async def settle(self, deployment: Deployment, version: Version, wished: int) -> bool:
        """Ask for ``wished`` workers of ``version``; whether anything changed.

        Not for more while the version's environment is not there. Raises ``BundleNotFound``.
        """
        key = (deployment.name, version.name)
        lacking = wished - self.count(key)
        if lacking < 0:
            await self._release(key, -lacking)
            return True
        if lacking == 0 or version.python is None or self._builds.lacks(deployment.name, version):
            return False
        await self._bundles.path(version.bundle_digest)
        for _ in range(lacking):
            self._add(deployment, version, replica_name(*key, self._suffix()))
        return True

    def drop(self, model: str) -> bool:
        """Ask for none of ``model``; whether there were any."""
        gone = [key for key in self._specs if key[0] == model]
        for key in gone:
            self._told.update(self._specs.pop(key))
        return bool(gone)

    def keep_warm(self, deployment: Deployment, *, warm: bool) -> None:
        """Whether workers of ``deployment`` start from a process that has loaded the model."""
        for (model, _), own in self._specs.items():
            if model == deployment.name:
                for replica_id, spec in own.items():
                    if spec.warm != warm:
                        own[replica_id] = replace(spec, warm=warm)

    def _add(self, deployment: Deployment, version: Version, replica_id: str) -> None:
        spec = worker_spec(deployment, version, replica_id, str(self._bundles.place(version.bundle_digest)))
        self._specs.setdefault((deployment.name, version.name), {})[replica_id] = spec

    async def _release(self, key: Key, count: int) -> None:
        own = self._specs[key]
        going = await self._choose(key, list(own), count)
        for replica_id in going:
            del own[replica_id]
        self._told.update(going)
        if not own:
            del self._specs[key]

    async def _choose(self, key: Key, ids: Sequence[str], count: int) -> list[str]:
        """Those that do nothing yet, then idle ones, then the youngest."""
        there = {r.replica_id: r for r in self._runtime.observe()}
        found = {replica_id: there.get(replica_id) for replica_id in ids}
        fresh = [i for i, status in found.items() if status is None or status.phase not in AT_WORK]
        busy = await self._busy(key) if len(fresh) < count < len(ids) else frozenset()

        def order(replica_id: str) -> tuple[bool, bool, float, str]:
            status = found[replica_id]
            at_work = status is not None and status.phase in AT_WORK
            has_job = status is not None and status.worker_name in busy
            began = 0.0 if status is None or status.started_at is None else status.started_at
            return at_work, has_job, -began, replica_id

        return sorted(ids, key=order)[:count]

    async def _busy(self, key: Key) -> frozenset[str]:
        """Names of workers that hold jobs; empty also when nobody tells."""
        running = JobQuery(key[0], states=frozenset({JobState.RUNNING}), limit=MOST_RUNNING)
        try:
            jobs = await within(self._clock, ASK_S, self._store.find(running))
        except (HeadwayError, OSError, TimeoutError) as error:
            log.warning("cannot tell which workers of %s %s are idle: %s", *key, error)
            return frozenset()
        return frozenset(job.worker for job in jobs if job.worker is not None)
