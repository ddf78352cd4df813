"""Wishes that come from outside the replicas: a number (KEDA's semantics), a calendar, the user's own function.

``AverageValue`` asks for ceil(value / target) replicas unless value / (target x current) is within the tolerance of 1;
``Value`` multiplies what serves by value / target. Whether a trigger is *active* is a question apart, and only decides
between no replica and one. Sources: KEDA's "Scaling Deployments" and ``fallback`` pages, the HPA's ``External`` metric.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import isfinite
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from headway.scaling.decision import Proposal, Status
from headway.scaling.policy import CronTrigger, ExternalTrigger, Fallback, FallbackBehavior, FunctionTrigger
from headway.scaling.said import Said, no_data, up, within
from headway.scaling.samples import LatencyReading, PerReplica, Reading, Samples

_Given = PerReplica | LatencyReading | Reading | None


def propose_external(
    trigger: ExternalTrigger,
    reading: _Given,
    samples: Samples,
    tolerance: tuple[float, float],
    fallback: Fallback | None,
) -> Said:
    """What one number from outside asks for."""
    name, target, current = trigger.name, trigger.target, samples.current
    if type(reading) is not Reading:
        return no_data(name, target, "nothing has been read yet")
    value, age_s = reading.value, reading.age_s
    if fallback is not None and reading.failures >= fallback.failure_threshold:
        desired = fallback_wish(fallback, current)
        note = f"failed {reading.failures} times in a row ({reading.error or 'no reason given'}); fallback {desired}"
        return Said(Proposal(name, Status.FALLBACK, desired, None, target, age_s, note), desired > 0)
    unusable = _unusable(reading, trigger.max_age_s)
    if unusable or value is None:
        return no_data(name, target, unusable, age_s)
    active = value > trigger.activation
    if current == 0:
        if not active:
            note = f"{value:.6g}, not above {trigger.activation:.6g}"
            return Said(Proposal(name, Status.INACTIVE, None, value, target, age_s, note))
        desired = up(value / target)
    else:
        desired = _for_value(trigger, value, samples, tolerance)
    if active:
        per = "per replica" if trigger.average else "in all"
        note = f"{value:.6g}, target {target:.6g} {per}"
        return Said(Proposal(name, Status.OK, desired, value, target, age_s, note), True)
    note = f"{value:.6g}, not above {trigger.activation:.6g}, target {target:.6g}"
    return Said(Proposal(name, Status.INACTIVE, desired, value, target, age_s, note))


def _for_value(trigger: ExternalTrigger, value: float, samples: Samples, tolerance: tuple[float, float]) -> int:
    current = samples.current
    ratio = value / (trigger.target * current) if trigger.average else value / trigger.target
    if within(ratio, tolerance):
        return current
    if trigger.average:
        return up(value / trigger.target)
    if ratio > 1.0:
        # Replicas that are starting have had no chance to lower the value: multiplying them too would run away (HPA).
        return max(current, up(ratio * min(samples.ready, current)))
    return min(current, up(ratio * current))


def fallback_wish(fallback: Fallback, current: int) -> int:
    """KEDA's four behaviours."""
    match fallback.behavior:
        case FallbackBehavior.STATIC:
            return fallback.replicas
        case FallbackBehavior.CURRENT:
            return current
        case FallbackBehavior.CURRENT_IF_HIGHER:
            return max(current, fallback.replicas)
        case FallbackBehavior.CURRENT_IF_LOWER:
            return min(current, fallback.replicas)


def propose_function(trigger: FunctionTrigger, reading: _Given) -> Said:
    """What the user's function answered last."""
    if type(reading) is not Reading:
        return no_data(trigger.name, None, "it has not answered yet")
    unusable = _unusable(reading, trigger.max_age_s)
    if unusable or reading.value is None:
        return no_data(trigger.name, None, unusable, reading.age_s)
    desired = up(reading.value)
    note = f"it answered {reading.value:.6g}"
    return Said(Proposal(trigger.name, Status.OK, desired, reading.value, None, reading.age_s, note), desired > 0)


def _unusable(reading: Reading, max_age_s: float) -> str:
    """Why a reading is no data; empty when it is data."""
    because = f": {reading.error}" if reading.error else ""
    if reading.value is None:
        return f"no value{because}"
    if not isfinite(reading.value):
        return f"the value is {reading.value}, not a number to scale by"
    if reading.age_s is None or reading.age_s > max_age_s:
        age = "of unknown age" if reading.age_s is None else f"{reading.age_s:.0f} s old, more than {max_age_s:.0f} s"
        return f"the value is {age}{because}"
    return ""


def propose_cron(trigger: CronTrigger, now: float) -> Said:
    """``desired`` inside the window, no wish outside."""
    name = trigger.name
    try:
        inside, until = _window(trigger.start, trigger.end, trigger.timezone, _tick(trigger, now))
    except (CronSimError, ValueError, KeyError) as error:  # A specification is checked before; a record may be edited.
        return no_data(name, None, f"its window cannot be read: {error}")
    if not inside:
        return Said(Proposal(name, Status.INACTIVE, None, None, None, 0.0, f"outside its window{until}"))
    wish = float(trigger.desired)
    return Said(Proposal(name, Status.OK, trigger.desired, wish, None, 0.0, f"inside its window{until}"), wish > 0)


def _tick(trigger: CronTrigger, now: float) -> int:
    """The minute, or the second when an expression has a field for it, as seconds since the epoch."""
    grain = 1 if len(trigger.start.split()) > 5 or len(trigger.end.split()) > 5 else 60
    return int(now // grain) * grain


@lru_cache(maxsize=8192)
def _window(start: str, end: str, timezone: str, at: int) -> tuple[bool, str]:
    """Whether the last start came after the last end, and when that changes, in words.

    KEDA asks which one comes *next*: the same where every start has an end of its own, but it would call Saturday noon
    inside for a start on weekdays and an end every day. ``CronSim`` moves wall-clock times over daylight saving as
    Debian's cron does: one that is skipped counts at the end of the gap, one that comes twice counts once.
    """
    here = datetime.fromtimestamp(at, UTC).astimezone(ZoneInfo(timezone))
    after = (here.astimezone(UTC) + timedelta(seconds=1)).astimezone(here.tzinfo)
    begun, ended = next(CronSim(start, after, reverse=True), None), next(CronSim(end, after, reverse=True), None)
    inside = begun is not None and (ended is None or begun.timestamp() >= ended.timestamp())
    border = next(CronSim(end if inside else start, here), None)
    return inside, "" if border is None else f" until {border:%Y-%m-%d %H:%M} {timezone}"
