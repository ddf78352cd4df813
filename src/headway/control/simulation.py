"""Simulation: a scaling policy replayed against recorded arrivals, by the very function that scales production.

Once a tick, :func:`headway.scaling.decide.decide` is asked as the autoscaler asks it, and its answer carried out on
simulated replicas (:mod:`headway.planning.fleet`). Requests that come when there is no replica at all are decided about
at once, as there. Each decision worth it is kept as production would record it, so it can be told, and made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from headway.control.autoscaler import TICK_S
from headway.control.scaling_plan import Plan, Size, read
from headway.control.scaling_recorder import Taken
from headway.control.simulated_signals import SimulatedSignals, check_replayable
from headway.domain.errors import InvalidInput
from headway.planning.fleet import Fleet, Outcomes, Serving, replica_seconds
from headway.scaling.decide import decide
from headway.scaling.decision import State
from headway.scaling.record import interesting

TOLD_EVERY: Final = 2000
"""Ticks between two words about progress."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A policy to be tried."""

    name: str
    scaling: Mapping[str, Any]
    """``spec.scaling``, defaults filled in."""
    most_waiting: int | None = None
    """``spec.server.maxQueue`` that goes with it; None: as the model has it."""


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """What arrives, and what the replicas are like that meet it."""

    arrived_at: np.ndarray
    """Seconds since the epoch, rising; at least one."""
    begin_at: float
    until: float
    serving: Serving
    size: Size
    replicas: int | None = None
    """At the begin; None: ``minReplicas`` of each policy."""
    seed: int = 1


@dataclass(slots=True)
class Course:
    """Replicas over time: from each instant on, as many were wished and ready."""

    at: list[float] = field(default_factory=list)
    wished: list[int] = field(default_factory=list)
    ready: list[int] = field(default_factory=list)

    def add(self, at: float, wished: int, ready: int) -> None:
        if not self.at or (wished, ready) != (self.wished[-1], self.ready[-1]):
            self.at.append(at)
            self.wished.append(wished)
            self.ready.append(ready)


@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """One policy's run."""

    candidate: Candidate
    outcomes: Outcomes
    course: Course
    decisions: tuple[Taken, ...]
    """Those that production would have recorded."""
    replica_s: float
    """Replica-seconds, starting and leaving ones included."""
    ended_at: float
    """When the last replica had left: with a queue at the end that is after the time that is replayed."""


def planned(model: str, candidate: Candidate) -> Plan:
    """The policy, ready for use. Raises ``InvalidInput`` when it is none, or a trigger reads what was not recorded."""
    try:
        plan = read(candidate.scaling, model)
    except ValueError as error:
        raise InvalidInput(str(error), where=candidate.name) from None
    check_replayable(plan.policy, candidate.name)
    return plan


def simulate(
    model: str,
    candidate: Candidate,
    traffic: Traffic,
    progress: Callable[[float], None] | None = None,
) -> Simulated:
    """Replay ``candidate`` over ``traffic``; ``progress`` is told shares between 0 and 1.

    Raises as :func:`planned`.
    """
    plan = planned(model, candidate)
    policy = plan.policy
    serving = _with_queue(traffic.serving, candidate.most_waiting)
    count = policy.least if traffic.replicas is None else traffic.replicas
    fleet = Fleet(serving, traffic.arrived_at, count, traffic.begin_at, traffic.seed)
    signals = SimulatedSignals(fleet, plan, traffic.size)
    state, course, recorded = State(), Course(), None
    decisions: list[Taken] = []
    now, due, ticks = traffic.begin_at, traffic.begin_at + TICK_S, 0
    course.add(now, count, count)
    while now < traffic.until or not fleet.over:
        now = fleet.run(due)
        samples = signals.samples(now, fleet.wished, state)
        decision, after = decide(policy, samples, state, now)
        if decision.changed and not decision.shadow:
            fleet.set(decision.desired, now)
        if interesting(decision, recorded):
            recorded = decision
            decisions.append(Taken(model, "v1", policy, samples, state, decision))
        state = after
        course.add(now, fleet.wished, len(fleet.ready))
        if now >= due:
            due += TICK_S
            ticks += 1
            if ticks % TOLD_EVERY == 0 and progress is not None:
                progress(min(1.0, (now - traffic.begin_at) / max(1.0, traffic.until - traffic.begin_at)))
        if now > traffic.until + serving.timeout_s and not fleet.ready and not fleet.starting:
            break  # nobody comes for those that wait
    ended_at = max(now, traffic.until)
    fleet.end(ended_at)
    ended_at = max([ended_at, *(one.stopped_at for one in fleet.gone if one.stopped_at is not None)])
    return Simulated(candidate, fleet.outcomes, course, tuple(decisions), replica_seconds(fleet), ended_at)


def _with_queue(serving: Serving, most_waiting: int | None) -> Serving:
    if most_waiting is None:
        return serving
    return Serving(serving.work_s, serving.rest_s, serving.servers, most_waiting, serving.timeout_s, serving.start_s)


__all__ = ["Candidate", "Course", "Simulated", "Traffic", "planned", "simulate"]
