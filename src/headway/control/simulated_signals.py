"""SimulatedSignals: what triggers would have read of simulated replicas.

The counters of the replicas go the way they go in production, through :class:`ReplicaRates`; windows of latency are
cut from the simulated requests as the query log would, asked for as long before an evaluation as in production. What
came from outside (queues, Prometheus, a user's function, memory) was not recorded, so a trigger that reads it is
refused by name instead of being fed with something made up.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from headway.control.latency_signals import LEAD_S
from headway.control.replica_rates import ReplicaRates
from headway.control.scaling_plan import Plan, Size
from headway.domain.errors import InvalidInput
from headway.domain.lifecycle import ReplicaPhase
from headway.domain.replicas import ReplicaStatus
from headway.planning.fleet import EXPIRED, OK, Fleet, Replica
from headway.ports.replica_stats import ReplicaStat
from headway.scaling.decision import State
from headway.scaling.policy import CronTrigger, LatencyTrigger, Policy, ReplicaTrigger, Signal, Statistic
from headway.scaling.samples import LatencyReading, LatencyWindow, PerReplica, Reading, Samples

_SHARE: Final = {Statistic.P50: 0.5, Statistic.P75: 0.75, Statistic.P95: 0.95, Statistic.P99: 0.99}


def check_replayable(policy: Policy, where: str) -> None:
    """Raises ``InvalidInput`` for a trigger whose signal nobody recorded."""
    for trigger in policy.triggers:
        if isinstance(trigger, LatencyTrigger | CronTrigger):
            continue
        if isinstance(trigger, ReplicaTrigger):
            if trigger.signal is not Signal.MEMORY:
                continue
            kind = "memory"
        else:
            kind = getattr(trigger, "kind", "python")
        raise InvalidInput(
            f"trigger {trigger.name!r} cannot be replayed: what its signal ({kind}) was is not in the query log",
            where=where,
            hint="give a policy without it (--policy FILE); cpu, concurrency, rps, latency and cron can be replayed",
        )


@dataclass(slots=True)
class _Asked:
    at: float
    windows: tuple[LatencyWindow, ...]


class SimulatedSignals:
    """Of one policy's run."""

    def __init__(self, fleet: Fleet, plan: Plan, size: Size) -> None:
        self._fleet, self._plan, self._size = fleet, plan, size
        self._rates = ReplicaRates()
        self._statuses: dict[str, ReplicaStatus] = {}
        self._asked: dict[str, _Asked] = {}
        outcomes = fleet.outcomes
        self._arrived_at = outcomes.arrived_at
        # Views, so they see what the run fills in.
        self._total_s = np.frombuffer(outcomes.total_s, dtype=np.float64)
        self._waited_s = np.frombuffer(outcomes.waited_s, dtype=np.float64)
        self._status = np.frombuffer(outcomes.status, dtype=np.int16)

    def samples(self, now: float, current: int, state: State) -> Samples:
        """What a decision at ``now`` is made from, ``current`` replicas being wished."""
        fleet, triggers = self._fleet, self._plan.policy.triggers
        replicas = self._observe()
        if self._plan.windows:
            stats = {one.name: _stat(one, now) for one in fleet.ready}
            self._rates.take_in(replicas, stats, self._plan.windows, now, now)
            if len(self._rates) > len(replicas):
                self._rates.keep({one.replica_id for one in replicas})
        readings: dict[str, PerReplica | LatencyReading | Reading] = {}
        for trigger in triggers:
            if isinstance(trigger, ReplicaTrigger):
                readings[trigger.name] = self._rates.reading(trigger, replicas, now, self._size.cores, None)
            elif isinstance(trigger, LatencyTrigger):
                readings[trigger.name] = self._latency(trigger, state, now)
        return Samples(current, len(fleet.ready), fleet.held, readings)

    def _observe(self) -> list[ReplicaStatus]:
        found = []
        for replica in self._fleet.ready:
            known = self._statuses.get(replica.name)
            if known is None or known.phase is not ReplicaPhase.READY:
                known = self._statuses[replica.name] = _status(replica, ReplicaPhase.READY)
            found.append(known)
        for replica in self._fleet.starting:
            known = self._statuses.get(replica.name)
            if known is None:
                known = self._statuses[replica.name] = _status(replica, ReplicaPhase.STARTING)
            found.append(known)
        return found

    def _latency(self, trigger: LatencyTrigger, state: State, now: float) -> LatencyReading:
        asked = self._asked.get(trigger.name)
        if asked is None or _due(asked.at, trigger, state, now):
            asked = self._asked[trigger.name] = _Asked(now, self._windows(trigger, now))
        return LatencyReading(asked.windows, now - asked.at)

    def _windows(self, trigger: LatencyTrigger, now: float) -> tuple[LatencyWindow, ...]:
        count = max(1, round(trigger.span_s / trigger.window_s))
        edges = now - np.arange(count, -1, -1) * trigger.window_s
        places = np.searchsorted(self._arrived_at, edges)
        return tuple(self._window(trigger, first, last, now) for first, last in pairwise(places.tolist()))

    def _window(self, trigger: LatencyTrigger, first: int, last: int, now: float) -> LatencyWindow:
        status, total = self._status[first:last], self._total_s[first:last]
        timed = ((status == OK) | (status == EXPIRED)) & (self._arrived_at[first:last] + total <= now)
        times = total[timed]
        if not len(times):
            return LatencyWindow(0, None, None)
        average = float(times.mean())
        share = _SHARE.get(trigger.statistic)
        value = average if share is None else float(np.quantile(times, share))
        waited = float(self._waited_s[first:last][timed].mean())
        return LatencyWindow(len(times), value, min(1.0, waited / average) if average > 0 else None)


def _due(asked_at: float, trigger: LatencyTrigger, state: State, now: float) -> bool:
    """As production asks: once an interval, and so that each evaluation meets an answer of its own."""
    if now - asked_at >= trigger.every_s:
        return True
    memory = state.latency.get(trigger.name)
    if memory is None or memory.evaluated_at is None:
        return False
    wanted_at = memory.evaluated_at + trigger.every_s - min(LEAD_S, trigger.every_s / 2)
    return now >= wanted_at > asked_at


def _stat(replica: Replica, now: float) -> ReplicaStat:
    return ReplicaStat(
        replica.name,
        now,
        "1",
        cpu_s=replica.busy_s(now),
        in_flight=replica.in_flight,
        in_flight_s=replica.in_flight_s(now),
        finished=replica.finished,
    )


def _status(replica: Replica, phase: ReplicaPhase) -> ReplicaStatus:
    ready_at = replica.ready_at if phase is ReplicaPhase.READY else None
    return ReplicaStatus(replica.name, "simulated", "v1", phase, None, started_at=replica.wished_at, ready_at=ready_at)


__all__ = ["SimulatedSignals", "check_replayable"]
