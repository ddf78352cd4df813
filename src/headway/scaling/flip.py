"""The smallest change that would have led a decision elsewhere, found by asking ``decide`` again.

For a rule that was binding: the moment it would have let go, or what would have come of it without. For a trigger: the
nearest value, above or below, with another result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from headway.scaling.ask import ask
from headway.scaling.decide import decide
from headway.scaling.decision import Clamp, Decision, LatencyState, Proposal, State, Status
from headway.scaling.policy import (
    CronTrigger,
    ExternalTrigger,
    FunctionTrigger,
    LatencyTrigger,
    Policy,
    ReplicaTrigger,
)
from headway.scaling.samples import PerReplica, Reading, Samples

_HALVINGS = 20
"""Of the search for a value: to a millionth of where it began."""


def flip(policy: Policy, samples: Samples, state: State, decision: Decision) -> dict[str, Any] | None:
    """What would have flipped it: ``text``, and where they apply ``trigger`` or ``clamp``, ``value``, ``at`` (a time),
    ``desired`` (what would have come instead). None when nothing simple would have."""
    clamp = decision.clamps[-1] if decision.clamps else None
    if clamp is not None:
        idle = _of_floor(policy, samples, state, decision) if clamp.name == "minReplicas" else None
        return idle or _of_clamp(policy, samples, state, decision, clamp)
    trigger = next((each for each in policy.triggers if each.name == decision.binding), None)
    proposal = next((each for each in decision.proposals if each.trigger == decision.binding), None)
    if trigger is None or proposal is None:
        return _of_nothing(decision)
    name = trigger.name
    if isinstance(trigger, LatencyTrigger):
        return _of_latency(trigger, decision, proposal, state.latency.get(name, LatencyState()))
    if isinstance(trigger, CronTrigger) or proposal.status is Status.FALLBACK or proposal.value is None:
        return _without(policy, samples, state, decision, proposal)
    return _of_value(policy, samples, state, decision, trigger, proposal.value)


def clock(at: float) -> str:
    """A moment as ``HH:MM:SS UTC``."""
    return f"{datetime.fromtimestamp(at, UTC):%H:%M:%S} UTC"


def _of_value(
    policy: Policy,
    samples: Samples,
    state: State,
    decision: Decision,
    trigger: ReplicaTrigger | ExternalTrigger | FunctionTrigger,
    value: float,
) -> dict[str, Any] | None:
    readings, now = dict(samples.readings or {}), decision.desired
    reading = readings.get(trigger.name)
    if not isinstance(reading, PerReplica | Reading):
        return None
    alone = replace(policy, triggers=(trigger,))

    def seen(at: float) -> Samples:
        there = _at_average(reading, value, at) if isinstance(reading, PerReplica) else replace(reading, value=at)
        return replace(samples, readings={**readings, trigger.name: there})

    def desired(at: float) -> int:
        return decide(policy, seen(at), state, decision.at)[0].desired

    def proposed(at: float) -> int:
        """What the trigger itself proposes, within the bounds: mostly the same, and five times as fast."""
        wish = ask(alone, seen(at), state, decision.at).proposals[0].desired
        return now if wish is None else min(max(wish, policy.least), policy.most)

    target = 1.0 if isinstance(trigger, FunctionTrigger) else trigger.target
    far = max(value, target) * 4 + target * (now + 2)
    found = []
    for there, side in ((far, "above"), (0.0, "below")):
        if there != value and desired(there) != now:
            border = _border(proposed, value, there, now) if proposed(there) != now else value
            beyond = desired(border)
            if beyond == now:  # Another trigger, or a rule, wanted more than that.
                border = _border(desired, border, there, now)
                beyond = desired(border)
            found.append((abs(border - value), border, beyond, side))
    if not found:
        return None
    _, border, beyond, side = min(found)
    per = " per replica" if isinstance(trigger, ReplicaTrigger) else ""
    text = f"{trigger.name} {side} {border:.4g}{per} would have led to {beyond} instead of {now}"
    return {"trigger": trigger.name, "value": border, "desired": beyond, "text": text}


def _of_floor(policy: Policy, samples: Samples, state: State, decision: Decision) -> dict[str, Any] | None:
    """The load that would lift the count off its floor, which is nearer than another floor."""
    for trigger, proposal in zip(policy.triggers, decision.proposals, strict=True):
        if proposal.desired != decision.wish or proposal.value is None or proposal.status is Status.FALLBACK:
            continue
        if isinstance(trigger, ReplicaTrigger | ExternalTrigger | FunctionTrigger):
            return _of_value(policy, samples, state, decision, trigger, proposal.value)
    return None


def _at_average(reading: PerReplica, average: float, wanted: float) -> PerReplica:
    """The reading with every value scaled so that the average is the wanted one; all equal when it was 0."""

    def scaled(value: float | None) -> float | None:
        if value is None:
            return None
        return value * wanted / average if average > 0 else wanted

    return PerReplica(
        tuple(each._replace(value=scaled(each.value), burst=scaled(each.burst)) for each in reading.replicas)
    )


def _border(count: Callable[[float], int], here: float, there: float, now: int) -> float:
    """The value nearest to ``here``, on the way to ``there``, at which another count than ``now`` comes out."""
    for _ in range(_HALVINGS):
        middle = (here + there) / 2
        if count(middle) == now:
            here = middle
        else:
            there = middle
    return there


def _without(policy: Policy, samples: Samples, state: State, decision: Decision, proposal: Proposal) -> dict[str, Any]:
    name = proposal.trigger
    triggers = tuple(each for each in policy.triggers if each.name != name)
    other = decide(replace(policy, triggers=triggers), samples, state, decision.at)[0].desired
    return {"trigger": name, "desired": other, "text": f"without the wish of {name}: {other}"}


def _of_latency(
    trigger: LatencyTrigger, decision: Decision, proposal: Proposal, before: LatencyState
) -> dict[str, Any]:
    name, desired = trigger.name, decision.desired
    seen = f"{name} ({trigger.statistic})"
    if desired > decision.current:
        text = f"{seen} at or below {trigger.threshold_s:g} s would have left it at {decision.current}"
        return {"trigger": name, "value": trigger.threshold_s, "desired": decision.current, "text": text}
    if desired < decision.current:
        border = trigger.down_share * trigger.threshold_s
        text = f"{seen} at or above {border:g} s would have left it at {decision.current}"
        if decision.not_replica_bound or before.revert_to is not None:
            text = f"a step that had lowered {seen} by {trigger.min_gain:.0%} would have stayed"
            return {"trigger": name, "desired": decision.current, "text": text}
        return {"trigger": name, "value": border, "desired": decision.current, "text": text}
    more = decision.current + trigger.step
    due = decision.at if before.evaluated_at is None else max(decision.at, before.evaluated_at + trigger.every_s)
    if proposal.value is None or proposal.value <= trigger.threshold_s:
        text = f"{seen} above {trigger.threshold_s:g} s at the evaluation of {clock(due)} would lead to {more}"
        return {"trigger": name, "value": trigger.threshold_s, "at": due, "desired": more, "text": text}
    text = f"above its threshold, {name} asks for {more} once this no longer holds: {proposal.note}"
    return {"trigger": name, "at": due, "desired": more, "text": text}


def _of_nothing(decision: Decision) -> dict[str, Any] | None:
    if decision.binding == "no_data":
        return {"text": "no trigger has data: a value from any of them would have been a wish"}
    if decision.binding == "minReplicas":
        return {"text": "no trigger has a wish: any one that becomes active would have one"}
    return None


def _of_clamp(policy: Policy, samples: Samples, state: State, decision: Decision, clamp: Clamp) -> dict[str, Any]:
    name, wanted, now = clamp.name, clamp.before, decision.at
    found: dict[str, Any] = {"clamp": name, "desired": wanted}
    down = wanted < clamp.after
    if name == "stabilization":
        after = decide(policy, samples, state, now)[1]
        window_s = policy.down.stabilization_s if down else policy.up.stabilization_s
        queue = after.downs if down else after.ups
        at = queue[0][0] + window_s
        way = "scale-down" if down else "scale-up"
        text = f"after {clock(at)} the {way} stabilization window lets it go further, towards {wanted}"
        return {**found, "at": at, "text": text}
    if name == "rate":
        direction = policy.down if down else policy.up
        return {**found, "text": f"without the {'scale-down' if down else 'scale-up'} rules: {wanted}"} | _next_rate(
            [rule.period_s for rule in direction.rules], state, now
        )
    if name == "panic":
        until = decide(policy, samples, state, now)[1].panic_until or now
        return {**found, "at": until, "text": f"after {clock(until)}, without another burst: {wanted}"}
    if name == "cooldown":
        at = (now if state.active_at is None else state.active_at) + policy.cooldown_s
        return {**found, "at": at, "text": f"after {clock(at)}, if nothing becomes active: {wanted}"}
    if name == "no_data":
        return {**found, "text": f"with data that asks for no more than the others do: {wanted}"}
    if name in ("minReplicas", "maxReplicas"):
        return {**found, "text": f"with {name}: {wanted} it would have been {wanted}"}
    if name == "kept":
        return {**found, "text": f"if the other engine kept no more: {wanted}"}
    if name == "full":
        return {**found, "text": f"with a place for more replicas: {wanted}"}
    if name == "room":
        return {**found, "text": f"with room for {wanted} it would have been {wanted}"}
    if clamp.after == 0:
        return {**found, "text": f"one active trigger, or one request, would have led to {wanted}"}
    return {**found, "text": f"without work: {wanted}"}


def _next_rate(periods: list[float], state: State, now: float) -> dict[str, Any]:
    """When the next change leaves a rule's period, so that the rule allows another count."""
    ends = [at + period_s for at, _ in state.changes for period_s in periods if at + period_s > now]
    return {"at": min(ends)} if ends else {}
