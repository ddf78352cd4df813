"""What happened since the last decision: a clock that was set back, a count that somebody else has changed."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from headway.scaling.behavior import Queue
from headway.scaling.decision import LatencyState, State


def catch_up(state: State, current: int, now: float) -> State:
    """The state as ``decide`` wants it: nothing in it is later than ``now``, and other hands' changes are noted."""
    if state.at is not None and now < state.at:
        state = _shifted(state, now - state.at)
    if state.last is not None and state.last != current:
        # Also when a decision of ours was not carried out: the two changes then cancel out.
        changes = (*state.changes, (now, current - state.last))
        state = replace(state, changes=changes, changed_at=now, last=current)
    return state


def _shifted(state: State, by: float) -> State:
    """Every instant moved, so that all ages are what they were at the last decision."""
    return replace(
        state,
        ups=_queue(state.ups, by),
        downs=_queue(state.downs, by),
        changes=_queue(state.changes, by),
        changed_at=_instant(state.changed_at, by),
        panic_until=_instant(state.panic_until, by),
        active_at=_instant(state.active_at, by),
        at=_instant(state.at, by),
        latency=MappingProxyType({name: _latency(memory, by) for name, memory in state.latency.items()}),
    )


def _latency(memory: LatencyState, by: float) -> LatencyState:
    return replace(
        memory,
        evaluated_at=_instant(memory.evaluated_at, by),
        below_since=_instant(memory.below_since, by),
        idle_since=_instant(memory.idle_since, by),
        step_at=_instant(memory.step_at, by),
        ready_at=_instant(memory.ready_at, by),
        short_at=_instant(memory.short_at, by),
        fruitless_at=_instant(memory.fruitless_at, by),
    )


def _instant(at: float | None, by: float) -> float | None:
    return None if at is None else at + by


def _queue(queue: Queue, by: float) -> Queue:
    return tuple((at + by, count) for at, count in queue)
