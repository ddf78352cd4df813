"""Puts the policy of a plan in force: triggers and bounds at once, the queue bound as a new version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from headway.cli.output import note
from headway.domain.errors import Conflict, InvalidInput

if TYPE_CHECKING:
    from headway.api.schemas_plans import PlanView
    from headway.client import Client


def following(policy: Mapping[str, Any]) -> dict[str, Any]:
    """``spec.scaling`` that follows; where one number of replicas is both the least and the most, that number alone.

    Triggers have nothing to move there, and a policy that has them is refused.
    """
    if policy["maxReplicas"] > policy["minReplicas"]:
        return dict(policy)
    return {"minReplicas": policy["minReplicas"]}


def put_in_force(client: Client, name: str, stored: PlanView) -> None:
    """Targets, ``minReplicas`` and ``maxReplicas`` for all versions, ``server.maxQueue`` for the one that was measured.

    It takes the place of the policy there was, and what is another one is told. Raises ``InvalidInput`` when no policy
    follows from the plan, and what a deploy raises.
    """
    from headway.cli.scaling_text import changed

    policy = stored.document.get("policy")
    if policy is None:
        raise InvalidInput("no policy follows: nothing is carried", where="--write-policy")
    before = client.scaling(name)
    answer = client.set_scaling(name, following(policy))
    note("")
    for line in changed(before, answer.scaling, answer.replicas):
        note(escape(line))
    note(f"in force; headway autoscale {name} shows how it stands")
    bound = stored.document.get("max_queue")
    if bound is not None and _bound_now(client, name, stored.basis.version) != bound:
        _set_bound(client, name, stored, bound)


def _bound_now(client: Client, name: str, version: str) -> int | None:
    from headway.domain.spec import VersionSpec

    spec = next((one.spec for one in client.versions(name) if one.name == version), None)
    return None if spec is None else VersionSpec.model_validate(spec).server.max_queue


def _set_bound(client: Client, name: str, stored: PlanView, bound: int) -> None:
    note(f"server.maxQueue is part of a version: {stored.basis.version} is to be deployed again with {bound}")
    try:
        made = client.set_queue_bound(name, bound)
    except Conflict as error:
        # Several versions share the traffic, or one is on its way: the policy is in force, and this can be done later.
        note(f"not now: {escape(error.message)}; {escape(error.hint or 'later')}")
        return
    document: dict[str, Any] = {**stored.document}
    told = f"measured with {stored.basis.version}; {made.version} differs in server.maxQueue alone, as this plan says"
    document["notes"] = [*document["notes"], told]
    # Else the plan would be stale since it was followed.
    client.add_plan(name, made.version, stored.basis.requests, document)
    note(f"{made.version} serves with server.maxQueue {bound}")
    note("put it into headway.yaml too, or the next deploy takes it back")
