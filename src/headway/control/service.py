"""ControlService: what the API can ask of the control plane. Commands change wishes; nothing here acts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.control import commands
from headway.control.book import Changed, DeploymentBook
from headway.control.commands import Outcome, existing
from headway.control.differences import Diff, differences
from headway.control.job_workers import WorkersStanding
from headway.control.worker_service import WorkerService
from headway.domain.deployments import Deployment, Source
from headway.domain.errors import Conflict
from headway.domain.lifecycle import DeploymentState
from headway.domain.names import check_model_name
from headway.domain.replicas import ReplicaStatus, serving
from headway.domain.scaling_spec import Scaling
from headway.domain.spec import ModelDeployment, version_digest
from headway.domain.trials import TrialRules
from headway.domain.version_specs import jobs_of
from headway.ports.bundle_store import BundleStore
from headway.ports.clock import Clock
from headway.ports.event_log import EventLog
from headway.ports.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A deployment beside what the runtime sees of it."""

    deployment: Deployment
    replicas: tuple[ReplicaStatus, ...]
    """Those that serve."""
    workers: tuple[ReplicaStatus, ...] = ()
    """Those that carry out jobs."""
    jobs: WorkersStanding | None = None
    """None: nobody carries jobs out."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A command was taken; follow the events after ``cursor`` to see it done."""

    deployment: Deployment
    version: str | None
    unchanged: bool
    cursor: int
    versions: tuple[str, ...] = ()
    """Those of several documents that were deployed together, in their order."""


class ControlService:
    """Commands are durable when they return; views are as of now."""

    def __init__(
        self,
        book: DeploymentBook,
        runtime: Runtime,
        bundles: BundleStore,
        events: EventLog,
        clock: Clock,
        jobs: WorkerService | None = None,
    ) -> None:
        """``jobs`` None: there are none."""
        self._book = book
        self._runtime = runtime
        self._bundles = bundles
        self._events = events
        self._clock = clock
        self._jobs = jobs

    async def deploy(
        self,
        spec: ModelDeployment,
        bundle: str,
        canary: int | None,
        rules: TrialRules | None = None,
        source: Source | None = None,
    ) -> Accepted:
        """See :func:`headway.control.commands.deploy`; ``BundleNotFound`` when it was not uploaded."""
        await self._bundles.path(bundle)
        now = self._clock.now()
        name = spec.metadata.name
        return await self._command(
            name, lambda current: commands.deploy(current, spec, bundle, canary, now, rules, source)
        )

    async def deploy_together(
        self, parts: Sequence[tuple[ModelDeployment, str]], sources: Mapping[str, Source] | None = None
    ) -> Accepted:
        """See :func:`headway.control.commands.deploy_together`; ``BundleNotFound`` as :meth:`deploy`."""
        for _, bundle in parts:
            await self._bundles.path(bundle)
        now = self._clock.now()
        name = parts[0][0].metadata.name
        return await self._command(name, lambda current: commands.deploy_together(current, parts, now, sources))

    async def set_traffic(self, name: str, weights: Mapping[str, int]) -> Accepted:
        """See :func:`headway.control.commands.set_traffic`."""
        return await self._change(name, lambda d, now: commands.set_traffic(d, weights, now))

    async def promote(self, name: str, version: str | None) -> Accepted:
        """See :func:`headway.control.commands.promote`."""
        return await self._change(name, lambda d, now: commands.promote(d, version, now))

    async def rollback(self, name: str) -> Accepted:
        """See :func:`headway.control.commands.rollback`."""
        return await self._change(name, commands.rollback)

    async def scale(self, name: str, replicas: int) -> Accepted:
        """See :func:`headway.control.commands.scale`."""
        return await self._change(name, lambda d, now: commands.scale(d, replicas, now))

    async def set_scaling(self, name: str, scaling: Scaling | None) -> Accepted:
        """See :func:`headway.control.commands.configure_scaling`; None: a fixed number of replicas."""
        return await self._change(name, lambda d, now: commands.configure_scaling(d, scaling, now))

    async def delete(self, name: str, *, cancel_jobs: bool = False) -> int:
        """See :func:`headway.control.commands.delete`; the cursor to follow from.

        ``Conflict`` while jobs of the model are open, unless they are to be canceled.
        """
        check_model_name(name)
        begun = self._book.get(name).state is DeploymentState.DELETING
        if self._jobs is not None and not cancel_jobs and not begun:
            waiting = await self._jobs.desk.open(name)
            if waiting:
                jobs = "1 job that has not ended" if waiting == 1 else f"{waiting} jobs that have not ended"
                raise Conflict(
                    f"model {name} has {jobs}",
                    hint=f"wait for them, or cancel them with it: headway delete {name} --cancel-jobs",
                    details={"open_jobs": waiting},
                )
        return (await self._change(name, commands.delete)).cursor

    def get(self, name: str) -> Snapshot:
        """One model. Raises ``ModelNotFound``."""
        check_model_name(name)
        return self._snapshot(self._book.get(name))

    def find(self, name: str) -> Snapshot | None:
        """One model; None when there is none of that name."""
        deployment = self._book.find(name)
        return None if deployment is None else self._snapshot(deployment)

    def list(self) -> list[Snapshot]:
        """Every model, by name."""
        by_model: dict[str, list[ReplicaStatus]] = {}
        for replica in self._runtime.observe():
            by_model.setdefault(replica.model, []).append(replica)
        return [self._seen(d, by_model.get(d.name, ())) for d in self._book.all()]

    def diff(self, spec: ModelDeployment, bundle: str) -> Diff:
        """What :meth:`deploy` of the same would change, without changing it."""
        name = spec.metadata.name
        current = self._book.find(name)
        level = spec.version_level()
        if current is None:
            commands.deploy(None, spec, bundle, None, self._clock.now())  # refuses what a deploy would refuse
            return Diff(False, True, (("bundle", None, bundle),))
        digest = version_digest(bundle, level)
        known = next((v for v in reversed(current.versions) if v.digest == digest), None)
        outcome = commands.deploy(current, spec, bundle, None, self._clock.now())
        base = current.version(current.target[-1].version) if current.target else None
        changes: list[tuple[str, Any, Any]] = []
        if base is None or base.bundle_digest != bundle:
            changes.append(("bundle", base.bundle_digest if base else None, bundle))
        changes.extend(differences("spec", base.spec if base else {}, level))
        after = outcome.deployment
        changes.extend(differences("spec.scaling", _scaling(current), _scaling(after)))
        changes.extend(differences("spec.jobs", _jobs(current), _jobs(after)))
        for field in ("sticky", "shadow"):
            old, new = getattr(current, field), getattr(after, field)
            if old != new:
                changes.append((f"spec.{field}", _plain(old), _plain(new)))
        if after.target != current.target:
            old_split, new_split = commands.weights_of(current.target), commands.weights_of(after.target)
            changes.append(("spec.traffic", old_split, new_split))
        return Diff(True, known is None, tuple(changes))

    def _snapshot(self, deployment: Deployment) -> Snapshot:
        return self._seen(deployment, [r for r in self._runtime.observe() if r.model == deployment.name])

    def _seen(self, deployment: Deployment, own: Sequence[ReplicaStatus]) -> Snapshot:
        standing = None if self._jobs is None else self._jobs.workers.standing(deployment.name)
        return Snapshot(deployment, serving(own), tuple(r for r in own if r.role == "work"), standing)

    async def _change(self, name: str, step: Callable[[Deployment, float], Outcome]) -> Accepted:
        check_model_name(name)
        self._book.get(name)
        now = self._clock.now()
        return await self._command(name, lambda current: step(existing(current, name), now))

    async def _command(self, name: str, step: Callable[[Deployment | None], Outcome]) -> Accepted:
        cursor = await self._events.last_cursor()
        taken: list[Outcome] = []

        def run(current: Deployment | None) -> Changed:
            outcome = step(current)
            taken.append(outcome)
            return Changed(outcome.deployment, outcome.events)

        saved, _ = await self._book.change(name, run)
        outcome = taken[0]
        return Accepted(saved or outcome.deployment, outcome.version, outcome.unchanged, cursor, outcome.versions)


def _scaling(deployment: Deployment) -> dict[str, Any]:
    return {"minReplicas": deployment.replicas} if deployment.scaling is None else dict(deployment.scaling)


def _jobs(deployment: Deployment) -> dict[str, Any]:
    return jobs_of(deployment).model_dump(mode="json", by_alias=True)


def _plain(value: Any) -> Any:
    if value is None:
        return None
    return {name: getattr(value, name) for name in value.__slots__}
