"""Autoscaler: every second, for every version that takes traffic, decides how many replicas there shall be.

The deciding is :func:`headway.scaling.decide.decide`, a pure function; this loop brings it what is known, carries out
what it says (the count in the book, which the reconciler follows) and hands the decision to be recorded. Carrying out
comes first, recording after it, and neither waits for a slow source: what is unknown is left out, and then the decision
is to hold.

Each version of a live split has a state of its own: stabilization windows, cooldowns, what latency did. It lives in
memory. After a restart it is taken from the version's last record if that is fresh; otherwise from nothing, which is
safe, since a decision begins by remembering the present count and no data means hold: at worst a scale-down comes one
stabilization window, and the way to zero one cooldown period, later.

:meth:`Autoscaler.wake` is for requests that wait for a first replica: versions at zero, only they, are looked at then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from headway.control.book import Changed, DeploymentBook
from headway.control.commands import set_wished
from headway.control.replica_rates import LEAVING
from headway.control.scaling_memory import remembered
from headway.control.scaling_plan import Plan, Plans
from headway.control.scaling_recorder import ScalingRecorder, Taken
from headway.control.scaling_signals import ScalingSignals
from headway.control.waits import pause
from headway.domain.deployments import Deployment
from headway.domain.events import EventType, NewEvent
from headway.domain.lifecycle import DeploymentState
from headway.domain.replicas import ReplicaStatus, serving
from headway.domain.routing_table import Arm
from headway.ports.clock import Clock
from headway.ports.decision_log import DecisionLog
from headway.ports.gateway import Gateway
from headway.ports.replica_stats import ReplicaStat, ReplicaStats
from headway.ports.runtime import Runtime
from headway.scaling.decide import decide
from headway.scaling.decision import Decision, State
from headway.scaling.explain import summary
from headway.scaling.record import interesting

log = logging.getLogger(__name__)

TICK_S: Final = 1.0
WAKE_S: Final = 0.005
"""Least time between two looks at versions at zero, however many requests arrive for them."""
_Replicas = dict[tuple[str, str], list[ReplicaStatus]]


@dataclass(slots=True)
class _Scaled:
    """What is kept of one version between ticks."""

    state: State = field(default_factory=State)
    taken: Taken | None = None
    """The last decision."""
    recorded: Decision | None = None
    """The last one that went to the record."""


class Autoscaler:
    """A service: ``start`` and ``stop`` may be called twice, and ``stop`` of one that never started does nothing."""

    def __init__(
        self,
        *,
        book: DeploymentBook,
        runtime: Runtime,
        gateway: Gateway,
        stats: ReplicaStats,
        signals: ScalingSignals,
        recorder: ScalingRecorder,
        decisions: DecisionLog,
        clock: Clock,
        leaving: Callable[[], Collection[str]] = frozenset,
        tick_s: float = TICK_S,
    ) -> None:
        self._book = book
        self._runtime = runtime
        self._gateway = gateway
        self._stats = stats
        self._signals = signals
        self._recorder = recorder
        self._decisions = decisions
        self._clock = clock
        self._leaving = leaving
        self._tick_s = tick_s
        self._plans = Plans()
        self._versions: dict[str, dict[str, _Scaled]] = {}
        """By model, then version."""
        self._faults: dict[str, str] = {}
        """What keeps a deployment from being scaled, by model; the others are not affected."""
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """A request waits for the first replica of some version."""
        self._wake.set()

    async def start(self) -> None:
        """Begin; a second call changes nothing."""
        if self._task is None:
            await self._recorder.start()
            self._task = asyncio.create_task(self._loop(), name="autoscaler")

    async def stop(self) -> None:
        """End, with everything recorded that was decided. A second call changes nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._signals.close()
        await self._recorder.stop()

    def latest(self, model: str) -> dict[str, dict[str, Any]]:
        """The last decision about each version of ``model`` that is scaled, as a document; see
        ``headway.scaling.record``. Empty for one that is not."""
        taken = [(version, scaled.taken) for version, scaled in self._versions.get(model, {}).items()]
        return {version: one.document() for version, one in taken if one is not None}

    async def _loop(self) -> None:
        due = self._clock.monotonic()
        while True:
            began = self._clock.monotonic()
            ticking = began >= due
            self._wake.clear()
            try:
                if ticking:
                    await self.tick()
                else:
                    await self.look_at_zero()
            except Exception:
                log.exception("a round of the autoscaler failed; going on with the next")
            if ticking:
                due = max(due + self._tick_s, self._clock.monotonic())
            await self._clock.sleep(WAKE_S)
            await pause(self._clock, due - self._clock.monotonic(), self._wake)

    async def tick(self) -> None:
        """One decision about every version that is scaled, carried out and handed to be recorded."""
        stats = await self._read_stats()
        replicas = self._replicas()
        held = self._gateway.held()
        taken: list[Taken] = []
        scaled: set[str] = set()
        for deployment in self._book.all():
            if is_scaled(deployment):
                scaled.add(deployment.name)
                await self._scale(deployment, deployment.live, replicas, stats, held, taken)
        self._forget(scaled)
        self._signals.sweep({replica.replica_id for own in replicas.values() for replica in own})
        self._recorder.record(taken)

    async def look_at_zero(self) -> None:
        """Decide at once about versions without replicas for which requests wait; nothing is measured for that."""
        taken: list[Taken] = []
        held = self._gateway.held()
        for model in sorted({model for model, _ in held}):
            deployment = self._book.find(model)
            if deployment is None or not is_scaled(deployment):
                continue
            waited_for = [arm for arm in deployment.live if (model, arm.version) in held]
            at_zero = [arm for arm in waited_for if deployment.wished(arm.version) == 0]
            await self._scale(deployment, at_zero, self._replicas(), {}, held, taken)
        self._recorder.record(taken)

    async def _read_stats(self) -> Mapping[str, ReplicaStat]:
        try:
            return {stat.replica_id: stat for stat in await self._stats.read()}
        except Exception:
            log.exception("cannot read what replicas are doing")
            return {}

    def _replicas(self) -> _Replicas:
        """All that are there and stay, by model and version."""
        leaving = self._leaving()
        grouped: _Replicas = {}
        for replica in serving(self._runtime.observe()):
            if replica.phase not in LEAVING and replica.replica_id not in leaving:
                grouped.setdefault((replica.model, replica.version), []).append(replica)
        return grouped

    async def _scale(
        self,
        deployment: Deployment,
        arms: Sequence[Arm],
        replicas: _Replicas,
        stats: Mapping[str, ReplicaStat],
        held: Mapping[tuple[str, str], int],
        taken: list[Taken],
    ) -> None:
        """Decide about the versions of ``arms``. What is wrong with it stays with it."""
        model = deployment.name
        try:
            plan = self._plans.plan_of(deployment)
            if plan is None:
                return
            for arm in arms:
                key = (model, arm.version)
                found = await self._decide(deployment, arm, plan, replicas.get(key, ()), stats, held.get(key, 0))
                if found is not None:
                    taken.append(found)
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if self._faults.get(model) != text:  # every second the same trace would bury everything else
                log.exception("model %s cannot be scaled; its replicas stay as they are", model)
            self._faults[model] = text
        else:
            if self._faults and self._faults.pop(model, None) is not None:
                log.info("model %s can be scaled again", model)

    async def _decide(
        self,
        deployment: Deployment,
        arm: Arm,
        plan: Plan,
        replicas: Sequence[ReplicaStatus],
        stats: Mapping[str, ReplicaStat],
        held: int,
    ) -> Taken | None:
        """Decide, carry out; the decision if it is to be recorded."""
        model, version = deployment.name, arm.version
        scaled = self._versions.get(model, {}).get(version)
        if scaled is None:
            now, window_s = self._clock.now(), plan.policy.down.stabilization_s
            wished = deployment.wished(version)
            scaled = _Scaled(await remembered(self._decisions, model, version, wished, window_s, now))
            self._versions.setdefault(model, {})[version] = scaled
        before, built = scaled.state, deployment.version(version)
        samples = self._signals.samples(
            model,
            built,
            plan,
            self._plans.size_of(model, built),
            current=deployment.wished(version),
            weight=arm.weight,
            held=held,
            replicas=replicas,
            stats=stats,
            state=before,
        )
        decision, after = decide(plan.policy, samples, before, self._clock.now())
        if decision.changed and not decision.shadow and not await self._carry_out(model, version, plan, decision):
            return None  # somebody else was faster; the next tick decides about what is then
        scaled.state = after
        if decision.not_replica_bound:
            self._tell_not_bound(model, version, decision)
        scaled.taken = Taken(model, version, plan.policy, samples, before, decision)
        if not interesting(decision, scaled.recorded):
            return None
        scaled.recorded = decision
        return scaled.taken

    async def _carry_out(self, model: str, version: str, plan: Plan, decision: Decision) -> bool:
        """Whether the count is the decided one now: not when the deployment changed since it was looked at."""

        def step(current: Deployment | None) -> Changed | None:
            if current is None or current.scaling != plan.source or all(a.version != version for a in current.live):
                return None
            outcome = set_wished(
                current,
                version,
                decision.desired,
                summary(decision),
                decision.at,
                binding=decision.binding,
                based_on=decision.current,
            )
            return None if outcome.unchanged else Changed(outcome.deployment, outcome.events)

        return (await self._book.change(model, step))[1]

    def _tell_not_bound(self, model: str, version: str, decision: Decision) -> None:
        trigger = decision.not_replica_bound
        note = next((p.note for p in decision.proposals if p.trigger == trigger), "")
        log.warning("more replicas do not help %s %s: %s", model, version, note)
        data = {"trigger": trigger, "note": note, "replicas": decision.current}
        self._recorder.tell(NewEvent(decision.at, EventType.SCALING_NOT_REPLICA_BOUND, model, version, data=data))

    def _forget(self, scaled: Collection[str]) -> None:
        """Drop what is kept of models and versions that are not scaled any more."""
        for model in [model for model in self._versions if model not in scaled]:
            del self._versions[model]
            self._faults.pop(model, None)
        for model, versions in self._versions.items():
            deployment = self._book.find(model)
            if deployment is not None and len(versions) > len(deployment.live):
                for version in versions.keys() - {arm.version for arm in deployment.live}:
                    del versions[version]
        self._plans.keep(scaled)


def is_scaled(deployment: Deployment) -> bool:
    """Whether triggers move its replicas."""
    return deployment.scaling is not None and deployment.state is not DeploymentState.DELETING
