"""Use and load per replica: the algorithm of Kubernetes' HorizontalPodAutoscaler.

Replicas = ceil(replicas measured x average / target), unless average / target is within the tolerance of 1. A replica
that is ready and has no measurement is taken to use all of its target on the way down and nothing on the way up; one
that is not ready yet uses nothing on the way up and does not count on the way down; when that turns the direction
round, nothing changes. Source: the HPA's documentation ("Algorithm details") and its ``replica_calculator.go``.

Two refinements keep the answer from falling as load grows: replicas that are wished and not seen yet count as not
ready, and a wish to grow never is below the present count, a wish to shrink never above it.
"""

from __future__ import annotations

from math import inf

from headway.scaling.decision import Proposal, Status
from headway.scaling.policy import ReplicaTrigger, Signal
from headway.scaling.said import Said, no_data, up, waiting, within
from headway.scaling.samples import LatencyReading, PerReplica, Reading, Samples

_OLDEST_S = 5.0
"""A measurement older than its window, and than this, says nothing about now."""


def replicas_for(
    total: float,
    measured: int,
    missing: int,
    unready: int,
    target: float,
    current: int,
    tolerance: tuple[float, float] = (0.1, 0.1),
) -> int:
    """The HPA algorithm for ``total`` over ``measured`` (at least one) replicas; tolerance as (up, down)."""
    ratio = total / (measured * target)
    counted = measured
    if missing or (unready and ratio > 1.0):
        first = ratio
        counted += missing
        if first <= 1.0:
            total += missing * target
        else:
            counted += unready
        ratio = total / (counted * target)
        if first < 1.0 < ratio or ratio < 1.0 < first:
            return current
    if within(ratio, tolerance):
        return current
    wish = up(ratio * counted)
    return max(wish, current) if ratio > 1.0 else min(wish, current)


def propose(
    trigger: ReplicaTrigger,
    reading: PerReplica | LatencyReading | Reading | None,
    samples: Samples,
    tolerance: tuple[float, float],
) -> Said:
    """What the measurements of all replicas ask for."""
    name, target, current = trigger.name, trigger.target, samples.current
    if current == 0:
        if samples.held <= 0:
            return Said(Proposal(name, Status.INACTIVE, None, None, target, None, "there is no replica to measure"))
        return _held(trigger, samples)
    if type(reading) is not PerReplica:
        return no_data(name, target, "no replica has been measured")
    oldest = max(trigger.window_s, _OLDEST_S)
    # Work done to get ready is in the first window's processor time, so such a replica counts as not ready (as in HPA).
    settled_s = trigger.window_s if trigger.signal is Signal.CPU else 0.0
    total, measured, missing, unready, age_s = 0.0, 0, 0, 0, None
    for ready, ready_for_s, value, _burst, age in reading.replicas:
        if not ready or ready_for_s < settled_s:
            unready += 1
        elif value is None or not 0.0 <= value < inf or (age is not None and age > oldest):
            missing += 1
        else:
            total += value
            measured += 1
            if age is not None and (age_s is None or age > age_s):
                age_s = age
    seen = len(reading.replicas)
    if current > seen:
        unready += current - seen
    if not measured:
        if samples.held > 0 and samples.ready == 0:
            return _held(trigger, samples)
        return no_data(name, target, _why_none(missing, unready))
    desired = replicas_for(total, measured, missing, unready, target, current, tolerance)
    average = total / measured
    note = f"{average:.4g} per replica over {measured}, target {target:.4g}"
    if missing or unready:
        note += f"; {missing} without data, {unready} not ready"
    active = total > 0.0 and trigger.signal in _WORK
    return Said(Proposal(name, Status.OK, desired, average, target, age_s, note), active)


_WORK = frozenset((Signal.CONCURRENCY, Signal.RPS))
"""Signals that are 0 when nobody asks for anything. A process at rest still uses memory and some processor time."""


def tells_work(trigger: ReplicaTrigger) -> bool:
    """Whether its signal can tell that there is nothing to do."""
    return trigger.signal in _WORK


def held_need(trigger: ReplicaTrigger, held: int) -> int:
    """Replicas that requests waiting at the gateway ask for; at least one."""
    return max(1, up(held / trigger.target)) if trigger.signal is Signal.CONCURRENCY else 1


def _held(trigger: ReplicaTrigger, samples: Samples) -> Said:
    need = max(samples.current, held_need(trigger, samples.held))
    note = waiting(samples.held)
    value = float(samples.held) if trigger.signal is Signal.CONCURRENCY else None
    return Said(Proposal(trigger.name, Status.OK, need, value, trigger.target, 0.0, note), True)


def _why_none(missing: int, unready: int) -> str:
    if missing:
        return f"none of {missing} ready replicas has a measurement"
    return f"none of {unready} replicas is ready to be measured"
