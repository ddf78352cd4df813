"""Reconciler: compares what is wished with what runs and does the next thing, again and again.

It is level-triggered: a round reads everything and needs no memory of earlier rounds, so a crash anywhere
is followed by an ordinary round. What it keeps between rounds only saves work or time: which replicas are
leaving, which were ever routed, and the specs it has asked the runtime for.

The order inside a round is what keeps requests safe:

* a split becomes live in the gateway before the book says so, and only with all its replicas ready;
* a replica leaves the routing table first, is then waited for until no request can reach it any more, and
  only then leaves the runtime's desired state.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from functools import partial

from headway.control import rollout
from headway.control.book import Changed, DeploymentBook
from headway.control.builds import EnvironmentBuilds
from headway.control.job_workers import JobWorkers
from headway.control.replica_specs import kept_warm, replica_spec
from headway.control.waits import pause
from headway.domain.deployments import Deployment
from headway.domain.errors import GatewayFailed, HeadwayError
from headway.domain.events import EventType, NewEvent
from headway.domain.lifecycle import DeploymentState, ReplicaPhase
from headway.domain.names import replica_name
from headway.domain.replicas import ReplicaSpec, ReplicaStatus, serving
from headway.domain.routing_table import GatewayToken, RoutingTable
from headway.domain.version_specs import spec_of
from headway.ports.bundle_store import BundleStore
from headway.ports.clock import Clock
from headway.ports.event_log import EventLog
from headway.ports.gateway import Gateway
from headway.ports.runtime import Runtime
from headway.routing import render

log = logging.getLogger(__name__)

RESYNC_S = 5.0
"""A round even when nothing has called for one."""
DRAIN_POLL_S = 0.2
"""Between looks at replicas that are draining."""
DRAIN_SLACK_S = 90.0
"""Beyond twice its version's request timeout (once in the queue, once in the replica), a replica that is still
not drained is stopped all the same; its own grace period follows."""
RETRY_S = 1.0
"""After a round in which something failed."""


class Reconciler:
    """The one loop that acts on replicas and routes."""

    def __init__(
        self,
        *,
        book: DeploymentBook,
        runtime: Runtime,
        gateway: Gateway,
        bundles: BundleStore,
        builds: EnvironmentBuilds,
        events: EventLog,
        clock: Clock,
        tokens: Callable[[], tuple[GatewayToken, ...]],
        suffix: Callable[[], str],
        require_token: bool = False,
        drain: bool = True,
        workers: JobWorkers | None = None,
        jobs: str | None = None,
    ) -> None:
        """``workers``: what carries out jobs beside the replicas that serve; ``jobs``: address of the job server. None:
        there are no jobs."""
        self._book = book
        self._runtime = runtime
        self._gateway = gateway
        self._bundles = bundles
        self._builds = builds
        self._events = events
        self._clock = clock
        self._tokens = tokens
        self._suffix = suffix
        self._require_token = require_token
        self._drain = drain
        self._workers = workers
        self._jobs = jobs
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._specs: dict[str, ReplicaSpec] = {}
        self._warm: dict[tuple[str, str, str | None], ReplicaSpec] = {}
        """By model, digest and interpreter."""
        self._leaving: dict[str, float] = {}
        """Replicas on their way out, since when (monotonic)."""
        self._released: set[str] = set()
        """Those of them that nothing can reach any more: no longer asked for."""
        self._routed: set[str] | None = None
        """Replicas that were ever routed; None before the first round."""
        self._gateway_fault = ""
        self._faults: dict[str, str] = {}
        """What keeps a deployment from being looked after, by model; the others are not affected."""
        book.on_change(self.wake)
        if workers is not None:
            workers.on_change = self.wake

    @property
    def leaving(self) -> Collection[str]:
        """Ids of replicas on their way out; they may still be ready, for what is on its way to them."""
        return self._leaving.keys()

    def wake(self) -> None:
        """Ask for a round soon."""
        self._wake.set()

    async def start(self) -> None:
        """Begin to reconcile; a second call changes nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._loop(), name="reconciler")

    async def stop(self) -> None:
        """Stop after the present step; a second call changes nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._builds.stop()

    async def _loop(self) -> None:
        while True:
            self._wake.clear()
            seconds = RESYNC_S
            try:
                await self.round()
            except Exception:
                # One bad round must not end the loop that keeps everybody's models up; the next one starts afresh.
                log.exception("a reconcile round failed; trying again in %s s", RETRY_S)
                seconds = RETRY_S
            if self._leaving:
                seconds = min(seconds, DRAIN_POLL_S)
            if self._gateway_fault:
                seconds = min(seconds, RETRY_S)
            await pause(self._clock, seconds, self._wake)

    async def round(self) -> None:
        """One full comparison and everything that follows from it."""
        replicas = serving(self._runtime.observe())
        by_model = _by_model(replicas)
        if self._routed is None:
            # An adopted gateway may route to any of those that run already.
            self._routed = {r.replica_id for r in replicas}
        self._faults.clear()
        for deployment in self._book.all():
            own = by_model.get(deployment.name, [])
            with self._apart(deployment.name):
                await self._step(deployment.name, own, rollout.advance)
        self._builds.ensure(self._book.all())
        for deployment in self._book.all():
            with self._apart(deployment.name):
                self._adopt_specs(deployment, by_model.get(deployment.name, []))
        self._mark_leaving(by_model)
        await self._apply_routes(replicas, by_model)
        await self._release_drained(replicas)
        await self._apply_replicas(by_model)
        for deployment in self._book.all():
            own = by_model.get(deployment.name, [])
            await self._judge(deployment.name, own)
            if deployment.state is DeploymentState.DELETING and not own and self._jobs_over(deployment.name):
                gone = NewEvent(self._clock.now(), EventType.DEPLOYMENT_DELETED, deployment.name)
                await self._book.delete(deployment.name, [gone])

    async def _step(
        self,
        name: str,
        own: list[ReplicaStatus],
        pure: Callable[[Deployment, list[ReplicaStatus], float], tuple[Deployment, list[NewEvent]]],
    ) -> None:
        def step(current: Deployment | None) -> Changed | None:
            if current is None:
                return None
            after, events = pure(current, own, self._clock.now())
            return Changed(after, tuple(events))

        await self._book.change(name, step)

    @contextlib.contextmanager
    def _apart(self, name: str) -> Iterator[None]:
        """What is wrong with one model is that model's; the round goes on with the others."""
        try:
            yield
        except (HeadwayError, ValueError) as error:
            if name not in self._faults:
                log.error("model %s cannot be looked after: %s", name, error)
            self._faults[name] = str(error)

    def _jobs_over(self, name: str) -> bool:
        return self._workers is None or self._workers.done_with(name)

    async def _judge(self, name: str, own: list[ReplicaStatus]) -> None:
        fault = self._faults.get(name, "")

        def step(current: Deployment | None) -> Changed | None:
            judged = rollout.judge(current, own, self._clock.now(), fault) if current is not None else None
            return Changed(judged[0], tuple(judged[1])) if judged is not None else None

        await self._book.change(name, step)

    # -- replicas that go ------------------------------------------------------------------------

    def _mark_leaving(self, by_model: dict[str, list[ReplicaStatus]]) -> None:
        now = self._clock.monotonic()
        names = {d.name for d in self._book.all()} | set(by_model)
        for name in names:
            for replica in rollout.surplus(self._book.find(name), by_model.get(name, []), self._leaving):
                self._leaving[replica.replica_id] = now

    async def _release_drained(self, replicas: tuple[ReplicaStatus, ...]) -> None:
        """Stop those of the leaving replicas to which no request is on its way any more."""
        routed = self._routed if self._routed is not None else set()
        present = {r.replica_id for r in replicas}
        for replica_id in [r for r in self._leaving if r not in present]:
            del self._leaving[replica_id]
            self._released.discard(replica_id)
            self._specs.pop(replica_id, None)
            routed.discard(replica_id)
        held = [r for r in self._leaving if r not in self._released]
        if not self._drain:
            idle = frozenset(held)
        else:
            waiting = [r for r in held if r in routed]
            idle = await self._gateway.drained(waiting) if waiting else frozenset()
            idle |= frozenset(held) - routed
        now = self._clock.monotonic()
        by_id = {r.replica_id: r for r in replicas}
        late = {r for r in held if now - self._leaving[r] > self._drain_limit_s(by_id[r])}
        for replica_id in idle | late:
            self._released.add(replica_id)
            self._specs.pop(replica_id, None)

    def _drain_limit_s(self, replica: ReplicaStatus) -> float:
        deployment = self._book.find(replica.model)
        known = [v for v in deployment.versions if v.name == replica.version] if deployment is not None else []
        timeout_s = spec_of(known[0]).timeout_s if known else 0.0
        return 2 * timeout_s + DRAIN_SLACK_S

    # -- routes ----------------------------------------------------------------------------------

    async def _apply_routes(
        self, replicas: tuple[ReplicaStatus, ...], by_model: dict[str, list[ReplicaStatus]]
    ) -> None:
        """Make what is due the routing, first in the gateway, then in the book."""
        now = self._clock.now()
        due: dict[str, tuple[Deployment, list[NewEvent]]] = {}
        for deployment in self._book.all():
            staying = [r for r in by_model.get(deployment.name, []) if r.replica_id not in self._leaving]
            shifted = rollout.shift(deployment, staying, now)
            if shifted is not None:
                due[deployment.name] = shifted
        proposed = [due[d.name][0] if d.name in due else d for d in self._book.all()]
        leaving = frozenset(self._leaving)
        table = render(proposed, replicas, self._tokens(), self._require_token, leaving, self._jobs)
        try:
            changed = await self._gateway.apply(table)
        except (GatewayFailed, OSError) as error:
            await self._tell_gateway_fault(str(error))
            return
        self._gateway_fault = ""
        if self._routed is not None:
            self._routed.update(e.replica_id for m in table.models for v in m.versions for e in v.endpoints)
        for name, (shifted_to, events) in due.items():
            await self._book.change(name, partial(_adopt_shift, shifted_to, events))
        if changed:
            await self._tell_routes(table)

    async def _tell_routes(self, table: RoutingTable) -> None:
        data = {
            "models": len(table.models),
            "endpoints": sum(len(v.endpoints) for m in table.models for v in m.versions),
        }
        await self._events.append([NewEvent(self._clock.now(), EventType.ROUTE_APPLIED, data=data)])

    async def _tell_gateway_fault(self, message: str) -> None:
        if message != self._gateway_fault:
            log.error("the gateway refused the routes: %s", message)
            event = NewEvent(self._clock.now(), EventType.GATEWAY_FAILED, data={"message": message[:2000]})
            await self._events.append([event])
        self._gateway_fault = message

    # -- replicas that come ----------------------------------------------------------------------

    async def _apply_replicas(self, by_model: dict[str, list[ReplicaStatus]]) -> None:
        specs: dict[str, list[ReplicaSpec]] = {}
        for spec in self._specs.values():
            specs.setdefault(spec.model, []).append(spec)
        for deployment in self._book.all():
            with self._apart(deployment.name):
                own = by_model.get(deployment.name, [])
                await self._ask_for_missing(deployment, own, specs.get(deployment.name, []))
        await self._keep_warm()
        workers = [] if self._workers is None else self._workers.specs()
        await self._runtime.apply([*self._specs.values(), *workers], list(self._warm.values()))

    async def _keep_warm(self) -> None:
        """One example of a replica for each version that is kept warm: it may have none at the moment.

        The runtime also goes by what the specs of running replicas say, so these follow a changed policy.
        """
        warm: dict[tuple[str, str, str | None], ReplicaSpec] = {}
        models = set()
        for deployment in filter(kept_warm, self._book.all()):
            models.add(deployment.name)
            with self._apart(deployment.name):
                for version in deployment.versions:
                    mending = (deployment.name, version.name) in self._builds.mending
                    if mending or not rollout.runs(deployment, version.name):
                        continue
                    key = (deployment.name, version.digest, version.python)
                    if key not in self._warm:
                        await self._bundles.path(version.bundle_digest)
                        name = replica_name(deployment.name, version.name, "warm")
                        self._warm[key] = self._spec(deployment, version.name, name)
                    warm[key] = self._warm[key]
        self._warm = warm
        for replica_id, spec in self._specs.items():
            if spec.warm != (spec.model in models):
                self._specs[replica_id] = replace(spec, warm=spec.model in models)

    async def _ask_for_missing(
        self, deployment: Deployment, own: list[ReplicaStatus], specs: list[ReplicaSpec]
    ) -> None:
        # Replicas asked for in an earlier round may not be observable yet: count what was asked for.
        observed = {r.replica_id for r in own}
        asked = [_coming(spec) for spec in specs if spec.replica_id not in observed]
        for version, count in rollout.missing(deployment, [*own, *asked], self._leaving).items():
            if (deployment.name, version) in self._builds.mending:
                continue
            await self._bundles.path(deployment.version(version).bundle_digest)
            for _ in range(count):
                self._add_spec(deployment, version, replica_name(deployment.name, version, self._suffix()))

    def _adopt_specs(self, deployment: Deployment, own: list[ReplicaStatus]) -> None:
        """After a restart: the specs of replicas that run already."""
        known = {v.name for v in deployment.versions if v.python is not None}
        for replica in own:
            fresh = replica.replica_id not in self._specs and replica.replica_id not in self._released
            if fresh and replica.phase not in rollout.GONE and replica.version in known:
                self._add_spec(deployment, replica.version, replica.replica_id)

    def _add_spec(self, deployment: Deployment, version: str, replica_id: str) -> None:
        self._specs[replica_id] = self._spec(deployment, version, replica_id)

    def _spec(self, deployment: Deployment, version: str, replica_id: str) -> ReplicaSpec:
        record = deployment.version(version)
        place = str(self._bundles.place(record.bundle_digest))
        spec = replica_spec(deployment.name, record, replica_id, place, warm=kept_warm(deployment))
        return spec if self._drain else replace(spec, termination_grace_s=0.0)


def _coming(spec: ReplicaSpec) -> ReplicaStatus:
    return ReplicaStatus(spec.replica_id, spec.model, spec.version, ReplicaPhase.STARTING, None)


def _by_model(replicas: tuple[ReplicaStatus, ...]) -> dict[str, list[ReplicaStatus]]:
    grouped: dict[str, list[ReplicaStatus]] = {}
    for replica in replicas:
        grouped.setdefault(replica.model, []).append(replica)
    return grouped


def _adopt_shift(shifted: Deployment, events: list[NewEvent], current: Deployment | None) -> Changed | None:
    """The shift as saved: on top of what commands may have changed while the gateway took it."""
    if current is None or current.state is DeploymentState.DELETING:
        return None
    merged = replace(current, live=shifted.live, previous=shifted.previous, message=shifted.message)
    for version in shifted.versions:
        if any(arm.version == version.name for arm in shifted.live):
            merged = merged.with_version(version)
    return Changed(merged, tuple(events))
