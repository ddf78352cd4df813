"""Policies, readings and a clock to play scaling decisions with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from headway.scaling.decide import decide
from headway.scaling.decision import Decision, State
from headway.scaling.policy import (
    Direction,
    ExternalTrigger,
    LatencyTrigger,
    Panic,
    Pick,
    Policy,
    ReplicaTrigger,
    Signal,
    Statistic,
    Trigger,
)
from headway.scaling.samples import LatencyReading, LatencyWindow, PerReplica, Reading, ReplicaReading, Samples

AT_ONCE = Direction(0.0, ())
"""No window, no rule."""
T0 = 1_700_000_000.0
"""2023-11-14 22:13:20 UTC."""


def concurrency(target: float = 4.0, panic: Panic | None = None, window_s: float = 60.0) -> ReplicaTrigger:
    return ReplicaTrigger("concurrency", Signal.CONCURRENCY, target, window_s, panic)


def queue(target: float = 10.0, activation: float = 0.0, average: bool = True) -> ExternalTrigger:
    return ExternalTrigger("queue", "redis", target, activation, average)


def latency(**changes: Any) -> LatencyTrigger:
    """p95 of one-minute windows, threshold 900 ms, a step of 1, a look every 15 s, cooldown a minute."""
    trigger = LatencyTrigger("latency", Statistic.P95, 0.9, 60.0, 60.0, Pick.MAX, 15.0, 1, 60.0, 0.5, 300.0, 0.2, 0.1)
    return replace(trigger, **changes)


def policy(*triggers: Trigger, least: int = 1, most: int = 100, **more: Any) -> Policy:
    """Without windows and rules unless given."""
    return Policy(**{"least": least, "most": most, "triggers": triggers, "up": AT_ONCE, "down": AT_ONCE, **more})


def each(*values: float | None, ready: bool = True, burst: float | None = None) -> PerReplica:
    """One long ready replica for each value."""
    return PerReplica(tuple(ReplicaReading(ready, 600.0 if ready else 0.0, value, burst, 0.5) for value in values))


def window(value_s: float | None, queue_share: float | None = 0.8, requests: int = 600) -> LatencyWindow:
    if value_s is None:
        return LatencyWindow(0, None, None)
    return LatencyWindow(requests, value_s, queue_share)


def windows(*values: float | None, queue_share: float = 0.8) -> LatencyReading:
    return LatencyReading(tuple(window(value, queue_share) for value in values), 0.0)


def samples(current: int, held: int = 0, ready: int | None = None, /, **readings: Any) -> Samples:
    return Samples(current, current if ready is None else ready, held, readings)


def reading(value: float | None, age_s: float | None = 1.0, error: str = "", failures: int = 0) -> Reading:
    return Reading(value, age_s, error, failures)


class Scene:
    """A version under one policy: its count follows the decisions, and every new replica is ready at once."""

    def __init__(self, rules: Policy, count: int, now: float = T0) -> None:
        self.policy = rules
        self.count = count
        self.now = now
        self.state = State()
        self.said: list[Decision] = []

    def step(self, after_s: float = 0.0, held: int = 0, ready: int | None = None, **readings: Any) -> Decision:
        """One decision, that long after the one before."""
        self.now += after_s
        seen = samples(self.count, held, ready, **readings)
        decision, self.state = decide(self.policy, seen, self.state, self.now)
        self.said.append(decision)
        if not decision.shadow:
            self.count = decision.desired
        return decision

    @property
    def last(self) -> Decision:
        return self.said[-1]
