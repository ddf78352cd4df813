"""Decisions in plain words."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from headway.domain.replicas import Role
from headway.scaling.decision import Decision, Proposal, Status
from headway.scaling.record import decision_of, policy_in
from headway.scaling.said import counted

_STATUS = {
    Status.OK: "wishes",
    Status.WAITING: "holds",
    Status.YIELDS: "lets others go down to",
    Status.FALLBACK: "falls back to",
    Status.INACTIVE: "would have",
}

_OF_WORKERS = (("minReplicas", "workers.min"), ("maxReplicas", "workers.max"), ("replica", "worker"))


def summary(decision: Decision) -> str:
    """One sentence: what became of the count, and what settled it."""
    if decision.changed:
        verb = "would go" if decision.shadow else "goes"
        head = f"{verb} from {decision.current} to {decision.desired}"
    else:
        head = f"stays at {decision.current}"
    text = f"The count {head}: {_reason(decision)}."
    if decision.not_replica_bound:
        text += f" {decision.not_replica_bound} is not replica-bound."
    return text


def _reason(decision: Decision) -> str:
    if decision.clamps:
        last = decision.clamps[-1]
        return f"{last.name}, instead of {last.before} ({last.why})"
    if decision.binding == "no_data":
        return "no trigger has data"
    if decision.binding == "minReplicas":
        return "no trigger has a wish"
    if decision.binding == "none":
        return "there is no trigger"
    proposal = next(each for each in decision.proposals if each.trigger == decision.binding)
    return f"{proposal.trigger} ({proposal.note})"


def worded(text: str, role: Role) -> str:
    """``text`` about a decision in the words of what it counts: the core itself knows replicas alone."""
    if role == "work":
        for said, meant in _OF_WORKERS:
            text = text.replace(said, meant)
    return text


def tell(document: Mapping[str, Any], role: Role = "serve") -> list[str]:
    """Several lines: what was seen, what each trigger wished, each clamp, what was binding, what would have flipped it.

    ``document`` is one of ``headway.scaling.record``. Raises ``InvalidInput`` when it is none.
    """
    return [worded(line, role) for line in _told(document)]


def _told(document: Mapping[str, Any]) -> list[str]:
    decision, policy = decision_of(document), policy_in(document)
    samples = document["samples"]
    when = f"{datetime.fromtimestamp(decision.at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    most = max(policy.most, policy.least)
    seen = f"{counted(decision.current, 'replica')} wished, {samples['ready']} ready, bounds {policy.least} to {most}"
    if samples["held"]:
        seen += f", {counted(samples['held'], 'request')} held"
    lines = [f"{when}: {seen}{', shadow: nothing is carried out' if decision.shadow else ''}"]
    lines += [f"  {_line(proposal)}" for proposal in decision.proposals]
    lines.append(f"  largest wish: {decision.wish}")
    lines += [f"  {clamp.name}: {clamp.before} -> {clamp.after} ({clamp.why})" for clamp in decision.clamps]
    lines.append(f"  {summary(decision)}")
    lines.append(f"  binding: {decision.binding}")
    flip = document.get("flip")
    if flip:
        lines.append(f"  what would have changed it: {flip['text']}")
    return lines


def _line(proposal: Proposal) -> str:
    if proposal.status is Status.NO_DATA:
        wish = "has no data"
    elif proposal.desired is None:
        wish = "wishes nothing"
    else:
        wish = f"{_STATUS[proposal.status]} {proposal.desired}"
    age = "" if proposal.age_s is None else f", {proposal.age_s:.0f} s old"
    return f"{proposal.trigger} {wish}: {proposal.note}{age}"
