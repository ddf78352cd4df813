"""What is told of a model, its versions and its split: from one look at an object of theirs to the next. Pure.

Of the ``ModelDeployment``: the model and the lives of its versions; of a version's Deployment: how many replicas are
wished for, and that they will not come; of a route: the split that it has.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from headway.cluster.names import DIGEST_ANNOTATION, MODEL_LABEL, SPLIT_ANNOTATION, VERSION_LABEL
from headway.domain.cluster_objects import Object, labels_of
from headway.domain.events import EventType, NewEvent
from headway.domain.sightings import Facts, Sighting

_E = EventType
_LIVES: Final = ("created", "starting", "live", "draining", "retired")
"""States of a version, in the order of its life; it may go back to ``starting`` and to ``live``."""
_TOLD: Final = {
    "created": _E.VERSION_CREATED,
    "starting": _E.VERSION_STARTING,
    "live": _E.VERSION_LIVE,
    "draining": _E.VERSION_DRAINING,
    "retired": _E.VERSION_RETIRED,
}


# -- the model -------------------------------------------------------------------------------------------


def model_facts(resource: Object) -> Facts:
    """What of a ``ModelDeployment`` is told of."""
    status: Mapping[str, Any] = resource.get("status") or {}
    conditions = {one.get("type"): one for one in status.get("conditions") or ()}
    state, message = _state(resource, conditions)
    return {
        "model": resource["metadata"]["name"],
        "state": state,
        "message": message,
        "replicas": ((resource.get("spec") or {}).get("scaling") or {}).get("minReplicas", 1),
        "versions": {
            one["name"]: {
                "digest": one.get("digest"),
                "image": one.get("image"),
                "weight": one.get("weight", 0),
                "replicas": one.get("replicas", 0),
            }
            for one in status.get("versions") or ()
        },
    }


def _state(resource: Object, conditions: Mapping[Any, Mapping[str, Any]]) -> tuple[str, str]:
    """``deploying``, ``ready``, ``degraded``, ``failed`` or ``deleting``, and why."""
    if resource["metadata"].get("deletionTimestamp"):
        return "deleting", ""
    serves = conditions.get("Ready", {}).get("status") == "True"
    for type_ in ("Accepted", "Applied", "Healthy"):
        one = conditions.get(type_, {})
        if one.get("status") == "False":
            return "degraded" if serves else "failed", str(one.get("message", ""))
    return ("ready", "") if serves else ("deploying", "")


def model_transitions(before: Sighting | None, after: Sighting, now: float) -> Iterator[NewEvent]:
    """All that happened in between, in order."""
    was: Facts | None = before.facts if before is not None else None
    facts = after.facts
    if facts is None:
        if was is not None:
            yield _event(after, _E.DEPLOYMENT_DELETED, "", was, now)
        return
    if was is None:
        yield _event(after, _E.DEPLOYMENT_CREATED, "", facts, now, replicas=facts["replicas"])
    known = was["versions"] if was is not None else {}
    for name, version in facts["versions"].items():
        yield from _life(after, facts, name, known.get(name), version, now)
    old = was["state"] if was is not None else "deploying"
    if facts["state"] != old:
        turn = f"{facts['state']}/{after.version}"
        words = {"old": old, "new": facts["state"], "message": facts["message"]}
        yield _event(after, _E.DEPLOYMENT_STATE_CHANGED, turn, facts, now, **words)


def with_lives(facts: Facts, before: Facts | None) -> Facts:
    """``facts`` with the state of each version, which depends on what it was before."""
    known = before["versions"] if before is not None else {}
    versions = {
        name: {**one, "state": _state_of(known.get(name, {}).get("state"), one)}
        for name, one in facts["versions"].items()
    }
    return {**facts, "versions": versions}


def _state_of(before: str | None, version: Mapping[str, Any]) -> str:
    if version["weight"]:
        return "live"
    if version["replicas"]:
        return "draining" if before in ("live", "draining") else "starting"
    return "created" if before in (None, "created") else "retired"


def _life(
    after: Sighting, facts: Facts, name: str, before: Mapping[str, Any] | None, version: Mapping[str, Any], now: float
) -> Iterator[NewEvent]:
    old, new = (before["state"] if before is not None else None), version["state"]
    for state in _between(old, new):
        data: dict[str, Any] = {"digest": version["digest"]}
        if state == "created":
            data["image"] = version["image"]
        turn = name if state == "created" else f"{name}/{after.version}"
        yield _event(after, _TOLD[state], turn, facts, now, version=name, **data)


def _between(old: str | None, new: str) -> tuple[str, ...]:
    """The states that a version went through: those that it cannot have left out."""
    if old == new:
        return ()
    start = 0 if old is None else _LIVES.index(old) + 1
    end = _LIVES.index(new)
    if new == "retired" and old != "live":
        # One that never got its share only ran, and does not any more.
        return ("created", "retired") if old is None else ("retired",)
    if start <= end:
        return _LIVES[start : end + 1]
    # Back: a version that drains is still there; one that was retired starts again.
    return ("live",) if (old, new) == ("draining", "live") else _LIVES[1 : end + 1]


# -- the Deployment of a version -------------------------------------------------------------------------


def version_facts(deployment: Object) -> Facts | None:
    """What of a version's Deployment is told of; None for one that is of no version."""
    labels = labels_of(deployment)
    if not {MODEL_LABEL, VERSION_LABEL} <= labels.keys():
        return None
    conditions = (deployment.get("status") or {}).get("conditions") or ()
    progress: Mapping[str, Any] = next((one for one in conditions if one.get("type") == "Progressing"), {})
    late = progress.get("status") == "False" and progress.get("reason") == "ProgressDeadlineExceeded"
    return {
        "model": labels[MODEL_LABEL],
        "version": labels[VERSION_LABEL],
        "digest": (deployment["metadata"].get("annotations") or {}).get(DIGEST_ANNOTATION),
        "wished": deployment["spec"].get("replicas"),
        "generation": deployment["metadata"].get("generation", 0),
        "late": str(progress.get("message", "")) if late else None,
    }


def version_transitions(before: Sighting | None, after: Sighting, now: float) -> Iterator[NewEvent]:
    """All that happened in between, in order."""
    was: Facts | None = before.facts if before is not None else None
    facts = after.facts
    if facts is None:
        return
    version = facts["version"]
    old, new = (was["wished"] if was is not None else None), facts["wished"]
    if old is not None and new is not None and old != new:
        turn = facts["generation"]
        yield _event(after, _E.DEPLOYMENT_SCALED, turn, facts, now, version=version, old=old, new=new)
    if facts["late"] is not None and (was is None or was["late"] is None):
        failure = {"code": "version_failed", "message": facts["late"], "where": after.name}
        data = {"digest": facts["digest"], "failure": failure}
        yield _event(after, _E.VERSION_FAILED, after.version, facts, now, version=version, **data)


# -- routes ----------------------------------------------------------------------------------------------


def route_facts(route: Object) -> Facts | None:
    """What of a route is told of; None for one that holds no split."""
    labels, annotations = labels_of(route), route["metadata"].get("annotations") or {}
    if MODEL_LABEL not in labels or SPLIT_ANNOTATION not in annotations:
        return None
    parts = (part.partition("=") for part in annotations[SPLIT_ANNOTATION].split(","))
    split = {name: int(weight) for name, _, weight in parts if weight.isdigit()}
    return {"model": labels[MODEL_LABEL], "split": split}


def route_transitions(before: Sighting | None, after: Sighting, now: float) -> Iterator[NewEvent]:
    """All that happened in between."""
    was: Facts | None = before.facts if before is not None else None
    facts = after.facts if after.facts is not None else was
    if facts is None:
        return
    old = was["split"] if was is not None else {}
    new = after.facts["split"] if after.facts is not None else {}
    if old != new:
        turn = after.version if after.facts is not None else "gone"
        yield _event(after, _E.TRAFFIC_SHIFTED, turn, facts, now, old=old, new=new)


def _event(
    seen: Sighting, type_: EventType, turn: object, facts: Facts, now: float, *, version: str | None = None, **data: Any
) -> NewEvent:
    told = {"namespace": seen.namespace, **data}
    return NewEvent(now, type_, facts["model"], version, None, told, f"{seen.uid}/{type_}/{turn}".rstrip("/"))
