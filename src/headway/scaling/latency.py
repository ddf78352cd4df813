"""Latency: steps while requests wait too long, each judged by what it gained.

Per-replica signals have a target that more replicas reach by arithmetic; latency has none. So this trigger climbs: one
step, a cooldown, a look at windows that lie wholly after the step, and the step is taken back when it did not help.
Only the share of latency that is spent waiting can be bought with replicas, so it acts on saturation alone.

Beside other triggers it is no eternal veto: once it has had no reason to want more for ``down_after_s`` it yields, and
lets the others shrink the count by one step per cooldown, so that it can object after each.
"""

from __future__ import annotations

from dataclasses import replace
from math import isfinite
from typing import NamedTuple

from headway.scaling.decision import LatencyState, Proposal, Status
from headway.scaling.policy import LatencyTrigger, Pick
from headway.scaling.said import counted, no_data, waiting
from headway.scaling.samples import LatencyReading, LatencyWindow, PerReplica, Reading, Samples

_AGE_EVALUATIONS = 3.0
"""Windows older than this many evaluations, and one window, are no data."""

_GROWTH_SHARE = 0.5
"""A step from 2 to 4 doubles the replicas. When requests grew by more than half of that meanwhile, latency that did not
fall proves nothing: either the load outgrew the step, or a queue is being worked off at the new, higher rate."""

_REMEMBERED = 12.0
"""For this many times ``down_after_s`` it is remembered how many replicas were too few for how many requests."""

_ROOM = 0.9
"""A step down has to leave so few requests per replica, beside those that were too many: else it would only be the
first half of a swing."""


class LatencySaid(NamedTuple):
    """One latency trigger's answer."""

    proposal: Proposal
    state: LatencyState
    active: bool = False
    fruitless: bool = False
    """A step was found not to help, now."""


def propose(
    trigger: LatencyTrigger,
    reading: PerReplica | LatencyReading | Reading | None,
    samples: Samples,
    state: LatencyState,
    changed_at: float | None,
    now: float,
) -> LatencySaid:
    """An evaluation when one is due; else what the last one wished."""
    name, threshold = trigger.name, trigger.threshold_s
    if samples.current == 0:
        state = LatencyState()
        if samples.held <= 0:
            nothing = Proposal(name, Status.INACTIVE, None, None, threshold, None, "there is no replica to measure")
            return LatencySaid(nothing, state)
        held = Proposal(name, Status.OK, 1, None, threshold, 0.0, waiting(samples.held))
        return LatencySaid(held, state, True)
    lost = _lost(trigger, reading)
    if lost or type(reading) is not LatencyReading:
        if state.below_since is not None or state.idle_since is not None:
            state = replace(state, below_since=None, idle_since=None)
        return LatencySaid(no_data(name, threshold, lost, getattr(reading, "age_s", None)).proposal, state)
    active = any(window.requests > 0 for window in reading.windows)
    found = False
    if state.evaluated_at is None or now - state.evaluated_at >= trigger.every_s:
        state, found = _evaluate(trigger, reading, samples, state, changed_at, now)
    status, wish, note = state.status, _standing(state, samples.current), state.note
    if status is not Status.WAITING and wish != state.wish:
        status, note = Status.WAITING, f"somebody else has changed the count since: {note}"
    proposal = Proposal(name, status, wish, state.value_s, threshold, reading.age_s, note)
    return LatencySaid(proposal, state, active, found)


def _standing(state: LatencyState, current: int) -> int | None:
    """The last evaluation's wish now. A hold means the present count; so does a wish when others changed the count."""
    if state.wish is None or state.status is Status.WAITING:
        return current
    low, high = (state.count, state.wish) if state.count < state.wish else (state.wish, state.count)
    return state.wish if low <= current <= high else current


def _lost(trigger: LatencyTrigger, reading: object) -> str:
    """Why there is no data; empty when there is."""
    if type(reading) is not LatencyReading:
        return "latency has not been asked for yet"
    if reading.error:
        return f"latency is not known: {reading.error}"
    if not reading.windows or reading.age_s is None:
        return "there is no window of latency yet"
    if reading.age_s > trigger.window_s + _AGE_EVALUATIONS * trigger.every_s:
        return f"the newest window is {reading.age_s:.0f} s old"
    return ""


def _evaluate(
    trigger: LatencyTrigger,
    reading: LatencyReading,
    samples: Samples,
    state: LatencyState,
    changed_at: float | None,
    now: float,
) -> tuple[LatencyState, bool]:
    current = samples.current
    worst = _pick(trigger, reading.windows)
    value = worst.value_s if worst is not None else None
    above = value is not None and value > trigger.threshold_s
    well_below = value is None or value < trigger.down_share * trigger.threshold_s
    state = replace(
        state,
        evaluated_at=now,
        count=current,
        value_s=value,
        below_since=_since(state.below_since, well_below, now),
        fruitless_at=state.fruitless_at if above else None,
        revert_to=state.revert_to if above and state.revert_to is not None and state.revert_to < current else None,
    )
    cooling_s = 0.0 if changed_at is None else max(0.0, trigger.cooldown_s - (now - changed_at))
    if state.step_at is not None:
        state, verdict = _judge(trigger, reading, samples, state, changed_at, cooling_s, now)
        if verdict is not None:
            return verdict, verdict.revert_to is not None
    if state.revert_to is not None:
        return _wish(state, Status.OK, state.revert_to, f"taking back the step to {state.step_to}"), False
    seen = (
        "no requests"
        if value is None
        else f"{trigger.statistic} {_text(value)}, threshold {_text(trigger.threshold_s)}"
    )
    idle = _no_reason(trigger, worst, state) if above else "content"
    state = replace(state, idle_since=_since(state.idle_since, bool(idle), now))
    if not idle:
        return _step(trigger, reading, current, state, changed_at, cooling_s, now, seen), False
    if cooling_s > 0.0:
        return _wish(state, Status.WAITING, current, f"{seen}; {idle}; cooldown for {cooling_s:.0f} s more"), False
    fewer = max(0, current - trigger.step)
    if _too_few(trigger, state, fewer, reading, now):
        few = counted(state.short_count, "replica")
        verb = "was" if state.short_count == 1 else "were"
        note = f"{seen}; {few} {verb} too few for {state.short_requests} requests in a window"
        return _wish(state, Status.WAITING, current, note), False
    if state.below_since is not None and now - state.below_since >= trigger.down_after_s:
        note = f"{seen}; well below for {now - state.below_since:.0f} s: a step down"
        return _wish(state, Status.OK, fewer, note), False
    if state.idle_since is not None and now - state.idle_since >= trigger.down_after_s:
        note = f"{seen}; {idle}; leaves the count to the other triggers, a step at a time"
        return _wish(state, Status.YIELDS, fewer, note), False
    return _wish(state, Status.WAITING, current, f"{seen}; {idle}"), False


def _no_reason(trigger: LatencyTrigger, worst: LatencyWindow | None, state: LatencyState) -> str:
    """Why latency above the threshold is no reason for more replicas; empty when it is one."""
    if state.fruitless_at is not None:
        return "not replica-bound: a step did not lower it, none follows until it has been below the threshold"
    share = worst.queue_share if worst is not None else None
    if share is not None and share < trigger.min_queue_share:
        return f"waiting is only {share:.0%} of it, more replicas would not help"
    return ""


def _too_few(trigger: LatencyTrigger, state: LatencyState, fewer: int, reading: LatencyReading, now: float) -> bool:
    """Whether what is known of the last time that replicas were too few says the same of ``fewer``."""
    if state.short_at is None or now - state.short_at > _REMEMBERED * trigger.down_after_s:
        return False
    most = max(window.requests for window in reading.windows)
    return most > _ROOM * state.short_requests * fewer / state.short_count


def _step(
    trigger: LatencyTrigger,
    reading: LatencyReading,
    current: int,
    state: LatencyState,
    changed_at: float | None,
    cooling_s: float,
    now: float,
    seen: str,
) -> LatencyState:
    if cooling_s > 0.0:
        return _wish(state, Status.WAITING, current, f"{seen}; cooldown for {cooling_s:.0f} s more")
    fresh = _fresh(trigger, reading, changed_at, now)
    latest = _pick(trigger, fresh)
    if latest is None or latest.value_s is None or latest.value_s <= trigger.threshold_s:
        return _wish(state, Status.WAITING, current, f"{seen}, but not since the last change")
    requests = max(window.requests for window in fresh)
    state = replace(
        state,
        step_at=now,
        step_from=current,
        step_to=current + trigger.step,
        ready_at=None,
        before_s=latest.value_s,
        before_requests=requests,
        short_at=now,
        short_count=current,
        short_requests=requests,
    )
    return _wish(state, Status.OK, current + trigger.step, f"{seen}: a step up")


def _judge(
    trigger: LatencyTrigger,
    reading: LatencyReading,
    samples: Samples,
    state: LatencyState,
    changed_at: float | None,
    cooling_s: float,
    now: float,
) -> tuple[LatencyState, LatencyState | None]:
    """Whether the last step helped: the state, and what to wish when that settles this evaluation."""
    current = samples.current
    done = replace(state, step_at=None, ready_at=None, before_s=None, before_requests=0)
    before = state.before_s
    if current <= state.step_from or before is None:
        return done, None  # A clamp, or somebody, did not let it happen: there is nothing to judge.
    if state.ready_at is None and samples.ready >= current:
        state = replace(state, ready_at=now)
    if state.ready_at is None:
        note = f"{samples.ready} of {current} replicas are ready after the last step"
        return state, _wish(state, Status.WAITING, current, note)
    fresh = _fresh(trigger, reading, max(state.ready_at, changed_at or state.ready_at), now)
    if cooling_s > 0.0 or now - state.ready_at < trigger.cooldown_s or not fresh:
        return state, _wish(state, Status.WAITING, current, "waits for the effect of its last step")
    latest = _pick(trigger, fresh)
    after = latest.value_s if latest is not None else None
    if after is None or after <= trigger.threshold_s or after <= before * (1.0 - trigger.min_gain):
        return done, None
    share = (current - state.step_from) / state.step_from
    requests = max(window.requests for window in fresh)
    if state.before_requests and requests / state.before_requests - 1.0 > _GROWTH_SHARE * share:
        return done, None
    back = replace(done, fruitless_at=now, revert_to=state.step_from, idle_since=now, short_at=None)
    note = (
        f"not replica-bound: {state.step_from} to {current} replicas took {trigger.statistic} from {_text(before)} to "
        f"{_text(after)}, so the step is taken back"
    )
    return back, _wish(back, Status.OK, state.step_from, note)


def _fresh(
    trigger: LatencyTrigger, reading: LatencyReading, since: float | None, now: float
) -> tuple[LatencyWindow, ...]:
    """The windows that lie wholly after ``since``."""
    if since is None:
        return reading.windows
    count = int((now - since - (reading.age_s or 0.0)) / trigger.window_s + 1e-9)
    return reading.windows[-count:] if count > 0 else ()


def _pick(trigger: LatencyTrigger, windows: tuple[LatencyWindow, ...]) -> LatencyWindow | None:
    """The slowest, or the latest, of the windows with requests; None when there is none."""
    best: LatencyWindow | None = None
    slowest = -1.0
    for window in reversed(windows):
        value = window.value_s
        if window.requests <= 0 or value is None or not isfinite(value):
            continue
        if trigger.pick is Pick.LATEST:
            return window
        if value > slowest:
            best, slowest = window, value
    return best


def _since(since: float | None, holds: bool, now: float) -> float | None:
    if not holds:
        return None
    return now if since is None else since


def _wish(state: LatencyState, status: Status, wish: int, note: str) -> LatencyState:
    return replace(state, status=status, wish=wish, note=note)


def _text(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
