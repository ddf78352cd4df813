"""Asks every trigger of a policy, and weighs their answers: what is wished, by whom, and who could not tell."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

from headway.scaling import external, hpa, latency, panic
from headway.scaling.decision import LatencyState, Proposal, State, Status
from headway.scaling.policy import (
    CronTrigger,
    ExternalTrigger,
    LatencyTrigger,
    Policy,
    ReplicaTrigger,
    Trigger,
)
from headway.scaling.said import Said
from headway.scaling.samples import PerReplica, Samples

_FRESH = LatencyState()


class Answers(NamedTuple):
    """Of all triggers, in the policy's order."""

    proposals: tuple[Proposal, ...]
    active: bool
    """Whether anything tells of work."""
    panic_until: float | None
    latency: Mapping[str, LatencyState]
    fruitless: str
    """The latency trigger that has just found its last step useless."""


def ask(policy: Policy, samples: Samples, state: State, now: float) -> Answers:
    """Every trigger's answer."""
    readings = samples.readings or {}
    tolerance = (policy.up.tolerance, policy.down.tolerance)
    proposals: list[Proposal] = []
    active, panic_until, memories, fruitless = samples.held > 0, state.panic_until, state.latency, ""
    for trigger in policy.triggers:
        reading = readings.get(trigger.name)
        said: Said | latency.LatencySaid
        if isinstance(trigger, ReplicaTrigger):
            said = hpa.propose(trigger, reading, samples, tolerance)
            if trigger.panic is not None and samples.current > 0 and type(reading) is PerReplica:
                said, panic_until = panic.watch(trigger, reading, samples.ready, said, panic_until, now)
        elif isinstance(trigger, LatencyTrigger):
            memory = memories.get(trigger.name, _FRESH)
            said = latency.propose(trigger, reading, samples, memory, state.changed_at, now)
            if said.state is not memory:
                memories = MappingProxyType({**memories, trigger.name: said.state})
            if said.fruitless and not fruitless:
                fruitless = trigger.name
        elif isinstance(trigger, ExternalTrigger):
            said = external.propose_external(trigger, reading, samples, tolerance, policy.fallback)
        elif isinstance(trigger, CronTrigger):
            said = external.propose_cron(trigger, now)
        else:
            said = external.propose_function(trigger, reading)
        proposals.append(said.proposal)
        active = active or said.active
    return Answers(tuple(proposals), active, panic_until, memories, fruitless)


class Wishes(NamedTuple):
    """What the proposals come to."""

    wish: int
    winner: str
    """Whose it is; ``minReplicas``: all are inactive; ``no_data``: nobody can tell; ``none``: there is no trigger."""
    counted: int | None
    """The wish that enters the scale-down stabilization window."""
    blind: tuple[str, ...]
    """Triggers without data."""


def weigh(policy: Policy, proposals: tuple[Proposal, ...], current: int) -> Wishes:
    """The largest proposal. A trigger that yields counts beside another trigger's wish only."""
    firm = yielding = counted = -1
    winner = yielder = ""
    blind: tuple[str, ...] = ()
    for trigger, proposal in zip(policy.triggers, proposals, strict=True):
        status, desired = proposal.status, proposal.desired
        if status is Status.NO_DATA:
            blind = (*blind, proposal.trigger)
        elif desired is None:
            continue
        elif status is Status.YIELDS:
            if desired > yielding:
                yielding, yielder = desired, proposal.trigger
        else:
            if desired > firm:
                firm, winner = desired, proposal.trigger
            # A latency trigger waits for its own cooldown and ``down_after_s`` before it lets go: its holds and steps
            # down do not have to wait once more for the window.
            if desired > counted and (desired > current or type(trigger) is not LatencyTrigger):
                counted = desired
    seen = counted if counted >= 0 else None
    if firm >= 0:
        return Wishes(firm, winner, seen, blind) if firm >= yielding else Wishes(yielding, yielder, seen, blind)
    if yielding >= 0:
        return Wishes(current, yielder, seen, blind)
    if blind:
        return Wishes(current, "no_data", seen, blind)
    if proposals:
        return Wishes(policy.least, "minReplicas", seen, blind)
    return Wishes(current, "none", seen, blind)


def can_rest(triggers: tuple[Trigger, ...]) -> bool:
    """Whether any of them can tell that there is nothing to do; processor time and memory cannot."""
    return any(hpa.tells_work(trigger) if isinstance(trigger, ReplicaTrigger) else True for trigger in triggers)


def held_need(policy: Policy, held: int) -> int:
    """Replicas to wake up with: one, or what the held requests ask for."""
    need = 1
    if held > 0:
        for trigger in policy.triggers:
            if isinstance(trigger, ReplicaTrigger):
                need = max(need, hpa.held_need(trigger, held))
    return need
