"""JobWorkers: every second, for every version with jobs or workers, decides how many workers there shall be.

The deciding is that of replicas, :func:`headway.scaling.decide.decide`, with a policy made from ``spec.jobs.workers``;
decisions are recorded like any other, under the role ``work``. How many are wished is known here alone, not in the
book: after a restart it is the number of those that run, and the state is taken up from the last record.

All models share what this machine may have (:mod:`headway.control.worker_shares`); a version that gets less than it
wishes has a ``room`` in its record. The reconciler hands the specs to the runtime, with those of the replicas.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from headway.control.book import DeploymentBook
from headway.control.job_counts import JobCounts
from headway.control.job_desk import JobDesk
from headway.control.replica_specs import workers_warm
from headway.control.scaling_memory import remembered
from headway.control.scaling_recorder import ScalingRecorder, Taken
from headway.control.signal_watch import SignalKey, SignalWatch
from headway.control.worker_pool import AT_WORK, LEAVING, Key, WorkerPool
from headway.control.worker_shares import Wish, shared_out
from headway.domain.deployments import Deployment, Version
from headway.domain.events import EventType, NewEvent
from headway.domain.lifecycle import DeploymentState
from headway.domain.replicas import ReplicaSpec
from headway.domain.version_specs import jobs_of
from headway.ports.clock import Clock
from headway.ports.decision_log import DecisionLog
from headway.scaling.decide import decide
from headway.scaling.decision import Decision, State
from headway.scaling.explain import summary, worded
from headway.scaling.from_spec import worker_policy
from headway.scaling.policy import Policy
from headway.scaling.record import interesting
from headway.scaling.samples import Samples

log = logging.getLogger(__name__)

TICK_S: Final = 1.0
TRIGGER: Final = "jobs"


@dataclass(frozen=True, slots=True)
class WorkersStanding:
    """How a model's jobs and workers stand."""

    queued: int
    delayed: int
    running: int
    wished: Mapping[str, int]
    """Workers, by version."""


@dataclass(slots=True)
class _Worked:
    """What is kept of one version between ticks."""

    wished: int
    state: State
    taken: Taken | None = None
    """The last decision."""
    recorded: Decision | None = None
    """The last one that went to the record."""


@dataclass(frozen=True, slots=True)
class _Look:
    """One version in this tick, before the machine is shared out."""

    deployment: Deployment
    version: Version
    policy: Policy
    samples: Samples
    worked: _Worked = field(compare=False)

    @property
    def key(self) -> Key:
        return self.deployment.name, self.version.name


class JobWorkers:
    """A service: ``start`` and ``stop`` may be called twice, and ``stop`` of one that never started does nothing."""

    def __init__(
        self,
        *,
        book: DeploymentBook,
        pool: WorkerPool,
        counts: JobCounts,
        desk: JobDesk,
        recorder: ScalingRecorder,
        decisions: DecisionLog,
        clock: Clock,
        most: int,
        tick_s: float = TICK_S,
    ) -> None:
        """``most``: workers of all models together on this machine."""
        self._book = book
        self._pool = pool
        self._counts = counts
        self._desk = desk
        self._recorder = recorder
        self._decisions = decisions
        self._clock = clock
        self._most = most
        self._tick_s = tick_s
        self._watch = SignalWatch(clock, recorder.tell)
        self._worked: dict[Key, _Worked] = {}
        self._turns: dict[str, tuple[bool, float]] = {}
        """Whether a model has workers, and since when that is so (monotonic)."""
        self._faults: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None
        self.on_change: Callable[[], None] = lambda: None
        """Called when other workers are asked for."""

    async def start(self) -> None:
        """Take in the workers that run, and begin. Call it before the reconciler tells the runtime what to run."""
        if self._task is None:
            self._pool.adopt(self._book.all())
            await self._recorder.start()
            self._task = asyncio.create_task(self._loop(), name="workers of jobs")

    async def stop(self) -> None:
        """End, with everything recorded that was decided. Workers stay as they are."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await self._recorder.stop()

    def specs(self) -> list[ReplicaSpec]:
        """The workers that shall run."""
        return self._pool.specs()

    def done_with(self, model: str) -> bool:
        """Whether neither workers nor open jobs of ``model`` are left."""
        return not self._pool.present(model) and not self._counts.of(model)

    def latest(self, model: str) -> dict[str, dict[str, Any]]:
        """The last decision about each version of ``model`` that has workers or jobs, as a document."""
        taken = {version: worked.taken for (name, version), worked in self._worked.items() if name == model}
        return {version: one.document() for version, one in taken.items() if one is not None}

    def standing(self, model: str) -> WorkersStanding:
        """As of the last tick."""
        counts = self._counts.of(model)
        return WorkersStanding(
            queued=sum(count.queued for count in counts),
            delayed=sum(count.delayed for count in counts),
            running=sum(count.running for count in counts),
            wished={version: worked.wished for (name, version), worked in self._worked.items() if name == model},
        )

    async def _loop(self) -> None:
        due = self._clock.monotonic()
        while True:
            try:
                await self.tick()
            except Exception:
                log.exception("a round over the workers of jobs failed; going on with the next")
            due = max(due + self._tick_s, self._clock.monotonic())
            await self._clock.sleep(due - self._clock.monotonic())

    async def tick(self) -> None:
        """One decision about every version that has workers, jobs, or a fewest number of workers."""
        await self._counts.look()
        self._pool.adopt(self._book.all())
        looks: list[_Look] = []
        changed = False
        for deployment in self._book.all():
            if deployment.state is DeploymentState.DELETING:
                await self._wind_up(deployment.name)
                changed = True
            else:
                looks += await self._look_at(deployment)
        rooms = self._rooms(looks)
        taken: list[Taken] = []
        for look in looks:
            try:
                changed |= await self._decide(look, rooms[look.key], taken)
            except Exception as error:
                self._tell_fault(look.key, error)
            else:
                self._faults.pop(" ".join(look.key), None)
        self._forget({look.key for look in looks})
        self._watch.sweep()
        self._recorder.record(taken)
        if changed:
            self.on_change()

    async def _look_at(self, deployment: Deployment) -> list[_Look]:
        """Every version of ``deployment`` that is decided about."""
        name, jobs, now = deployment.name, jobs_of(deployment), self._clock.now()
        demand = self._counts.demand(deployment)
        live = {arm.version for arm in deployment.live if arm.weight > 0}
        wanted = {*demand, *self._pool.versions(name), *(v for m, v in self._worked if m == name)}
        wanted |= live if jobs.workers.min else set()
        if not wanted:
            return []
        self._watch.look(SignalKey(name, None, TRIGGER), self._counts.failures, self._counts.error, source=TRIGGER)
        self._pool.keep_warm(deployment, warm=workers_warm(deployment))
        ready = [r for r in self._pool.present(name) if r.phase in AT_WORK]
        found = []
        for version in deployment.versions:
            if version.name not in wanted:
                continue
            policy = worker_policy(jobs.workers, jobs.workers.min if version.name in live else 0)
            key = (name, version.name)
            worked = self._worked.get(key)
            if worked is None:
                there = self._pool.count(key)
                state = await remembered(
                    self._decisions, name, version.name, there, policy.down.stabilization_s, now, "work"
                )
                worked = self._worked[key] = _Worked(there, state)
            samples = Samples(
                current=worked.wished,
                ready=sum(r.version == version.name and r.phase not in LEAVING for r in ready),
                readings={TRIGGER: self._counts.reading(demand.get(version.name, 0))},
            )
            found.append(_Look(deployment, version, policy, samples, worked))
        return found

    def _rooms(self, looks: list[_Look]) -> dict[Key, int | None]:
        """Of each version how many workers there is room for; None: for all that it wishes."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        wishes: dict[Key, Wish] = {}
        for look in looks:
            decision, _ = decide(look.policy, look.samples, look.worked.state, now)
            wishes[look.key] = Wish(decision.desired, self._pool.count(look.key))
        turns = {}
        for model in {model for model, _ in wishes}:
            has = any(wish.current for (name, _), wish in wishes.items() if name == model)
            known = self._turns.get(model)
            turns[model] = known if known is not None and known[0] == has else (has, monotonic)
        self._turns = turns
        given = shared_out(wishes, self._most, {model: monotonic - since for model, (_, since) in turns.items()})
        return {key: count if count < wishes[key].wanted else None for key, count in given.items()}

    async def _decide(self, look: _Look, room: int | None, taken: list[Taken]) -> bool:
        """Decide about one version and carry it out; whether the workers asked for are others now."""
        (model, version), worked = look.key, look.worked
        samples = look.samples if room is None else replace(look.samples, room=room)
        before, now = worked.state, self._clock.now()
        decision, worked.state = decide(look.policy, samples, before, now)
        worked.taken = Taken(model, version, look.policy, samples, before, decision, "work")
        if interesting(decision, worked.recorded):
            worked.recorded = decision
            taken.append(worked.taken)
        if decision.changed:
            self._tell(model, version, decision)
        worked.wished = decision.desired
        return await self._pool.settle(look.deployment, look.version, worked.wished)

    def _tell(self, model: str, version: str, decision: Decision) -> None:
        data = {
            "old": decision.current,
            "new": decision.desired,
            "binding": worded(decision.binding, "work"),
            "summary": worded(summary(decision), "work"),
            "role": "work",
        }
        self._recorder.tell(NewEvent(decision.at, EventType.SCALING_DECIDED, model, version, data=data))

    async def _wind_up(self, model: str) -> None:
        """A model that is being deleted needs no workers, and nobody waits for what is left of its jobs."""
        self._pool.drop(model)
        if self._counts.of(model):
            try:
                await self._desk.cancel_all(model)
            except Exception as error:
                self._tell_fault((model, ""), error)

    def _forget(self, looked: set[Key]) -> None:
        """Drop what is kept of versions that have neither jobs nor workers any more."""
        for key in list(self._worked):
            worked = self._worked[key]
            last = worked.taken.decision if worked.taken is not None else None
            idle = last is not None and last.current == last.desired == 0 and not self._pool.count(key)
            if key not in looked or (idle and last is not None and last.wish == 0):
                del self._worked[key]

    def _tell_fault(self, key: Key, error: Exception) -> None:
        name, text = " ".join(key).strip(), f"{type(error).__name__}: {error}"
        if self._faults.get(name) != text:  # every second the same trace would bury everything else
            log.error("workers of %s cannot be looked after: %s", name, text)
        self._faults[name] = text
