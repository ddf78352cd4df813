"""Autoscaler: every second, for every version that takes traffic, decides how many replicas there shall be.

The deciding is :func:`headway.scaling.decide.decide`, a pure function; this loop brings it what is known, has the
fleet carry out what it says and hands the decision to be recorded. Carrying out comes first, recording after it, and
neither waits for a slow source: what is unknown is left out, and then the decision is to hold. It is one loop for a
machine and for a cluster: what there is to scale, and how, is the :class:`~headway.control.fleet.Fleet`'s.

Each version of a live split has a state of its own: stabilization windows, cooldowns, what latency did. It lives in
memory. After a restart it is taken from the version's last record if that is fresh; otherwise from nothing, which is
safe, since a decision begins by remembering the present count and no data means hold: at worst a scale-down comes one
stabilization window, and the way to zero one cooldown period, later.

:meth:`Autoscaler.wake` is for requests that wait for a first replica: versions at zero, only they, are looked at then.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from headway.control.fleet import Fleet, Scaled
from headway.control.scaling_memory import remembered
from headway.control.scaling_recorder import ScalingRecorder, Taken
from headway.control.scaling_signals import ScalingSignals
from headway.control.waits import pause
from headway.domain.events import EventType, NewEvent
from headway.ports.clock import Clock
from headway.ports.decision_log import DecisionLog
from headway.ports.replica_stats import ReplicaStat, ReplicaStats
from headway.scaling.decide import decide
from headway.scaling.decision import Decision, State
from headway.scaling.record import interesting

log = logging.getLogger(__name__)

TICK_S: Final = 1.0
WAKE_S: Final = 0.005
"""Least time between two looks at versions at zero, however many requests arrive for them."""


@dataclass(slots=True)
class _Kept:
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
        fleet: Fleet,
        stats: ReplicaStats,
        signals: ScalingSignals,
        recorder: ScalingRecorder,
        decisions: DecisionLog,
        clock: Clock,
        decided: Callable[[Scaled, Decision], None] | None = None,
        tick_s: float = TICK_S,
    ) -> None:
        self._fleet = fleet
        self._stats = stats
        self._signals = signals
        self._recorder = recorder
        self._decisions = decisions
        self._clock = clock
        self._decided = decided
        self._tick_s = tick_s
        self._versions: dict[str, dict[str, _Kept]] = {}
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
        taken = [(version, kept.taken) for version, kept in self._versions.get(model, {}).items()]
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
        fleet = self._fleet
        fleet.begin()
        taken: list[Taken] = []
        models = fleet.models()
        for model in models:
            await self._scale(model, stats, taken)
        self._forget(models)
        self._signals.sweep(fleet.replica_ids())
        self._recorder.record(taken)

    async def look_at_zero(self) -> None:
        """Decide at once about versions without replicas for which requests wait; nothing is measured for that."""
        taken: list[Taken] = []
        self._fleet.begin()
        for model in self._fleet.waiting():
            await self._scale(model, {}, taken, at_zero=True)
        self._recorder.record(taken)

    async def _read_stats(self) -> Mapping[str, ReplicaStat]:
        try:
            return {stat.replica_id: stat for stat in await self._stats.read()}
        except Exception:
            log.exception("cannot read what replicas are doing")
            return {}

    async def _scale(
        self, model: str, stats: Mapping[str, ReplicaStat], taken: list[Taken], *, at_zero: bool = False
    ) -> None:
        """Decide about the versions of ``model``. What is wrong with it stays with it."""
        try:
            versions = self._fleet.versions(model, at_zero=at_zero)
            for scaled in versions:
                found = await self._decide(scaled, stats)
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
            known = self._versions.get(model)
            if not at_zero and known is not None and len(known) > len(versions):
                for version in known.keys() - {scaled.version for scaled in versions}:
                    del known[version]

    async def _decide(self, scaled: Scaled, stats: Mapping[str, ReplicaStat]) -> Taken | None:
        """Decide, carry out; the decision if it is to be recorded."""
        model, version, plan = scaled.model, scaled.version, scaled.plan
        kept = self._versions.get(model, {}).get(version)
        if kept is None:
            now, window_s = self._clock.now(), plan.policy.down.stabilization_s
            kept = _Kept(await remembered(self._decisions, model, version, scaled.current, window_s, now))
            self._versions.setdefault(model, {})[version] = kept
        before = kept.state
        samples = self._signals.samples(scaled, stats, before)
        decision, after = decide(plan.policy, samples, before, self._clock.now())
        if decision.changed and not decision.shadow and not await self._fleet.carry_out(scaled, decision):
            return None  # somebody else was faster; the next tick decides about what is then
        kept.state = after
        if decision.not_replica_bound:
            self._tell_not_bound(model, version, decision)
        kept.taken = Taken(model, version, plan.policy, samples, before, decision)
        if self._decided is not None:
            self._decided(scaled, decision)
        if not interesting(decision, kept.recorded):
            return None
        kept.recorded = decision
        return kept.taken

    def _tell_not_bound(self, model: str, version: str, decision: Decision) -> None:
        trigger = decision.not_replica_bound
        note = next((p.note for p in decision.proposals if p.trigger == trigger), "")
        log.warning("more replicas do not help %s %s: %s", model, version, note)
        data = {"trigger": trigger, "note": note, "replicas": decision.current}
        self._recorder.tell(NewEvent(decision.at, EventType.SCALING_NOT_REPLICA_BOUND, model, version, data=data))

    def _forget(self, scaled: Collection[str]) -> None:
        """Drop what is kept of models that are not scaled any more."""
        for model in self._versions.keys() - set(scaled):
            del self._versions[model]
            self._faults.pop(model, None)
