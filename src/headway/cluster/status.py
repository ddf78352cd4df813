"""The status of a custom resource: conditions, counts, versions. Conditions keep the moment of their last change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from headway.cluster.elastic import SILENT, Loop
from headway.cluster.names import MODEL_LABEL, Object
from headway.cluster.obstacles import Obstacle
from headway.cluster.versions import ClusterVersion
from headway.domain.cluster_objects import Object as Found
from headway.domain.cluster_objects import moment_of
from headway.domain.errors import HeadwayError
from headway.domain.kubernetes_spec import Engine
from headway.domain.routing_table import Arm
from headway.domain.scaling_policy import ScalingPolicy

LONGEST_MESSAGE: Final = 2000
OF_POLICIES: Final = ("TargetMissing", "TargetOwned", "TargetShared", "ScalingDisabled")
OF_THE_LOOP: Final = ("NoData", "NoRoom", "Decided", "Pending", *OF_POLICIES)
"""Reasons of ``ScalingActive`` that stay until the loop has another."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look has found of a model."""

    versions: Sequence[ClusterVersion]
    split: tuple[Arm, ...]
    live: tuple[Arm, ...]
    records: Mapping[str, Found]
    """Deployments by version."""
    failures: tuple[str, ...]
    """Of the writes before."""
    stuck: Mapping[str, Obstacle]
    """By version: what keeps pods of it from getting ready."""
    engine: Engine | None = None
    """Who moves the number of replicas; None: nobody."""
    looped: bool = False
    """Whether Headway's own loop has a say in it."""
    loop: Loop = SILENT
    """What that says."""


def model_status(resource: Found, verdict: Verdict, now: float) -> Object:
    """Status of a ``ModelDeployment`` whose document was accepted."""
    weights = {arm.version: arm.weight for arm in verdict.live}
    versions = [_version(one, verdict.records.get(one.name, {}), weights) for one in verdict.versions]
    reached = verdict.live == verdict.split
    words = f"traffic: {_text(verdict.live)}"
    if not reached:
        waits = ", ".join(arm.version for arm in verdict.split if arm.weight)
        words = f"{_text(verdict.split)} is asked for; it comes when every replica of {waits} is ready"
    serving = bool(verdict.live)
    arms = [arm.version for arm in verdict.live or verdict.split]
    decided = _decided(resource, arms, verdict.loop) if verdict.looped else []
    conditions = [
        _condition("Accepted", True, "Accepted", ""),
        _applied(verdict.failures),
        _condition("Ready", serving, "Serving" if serving else "NotReady", words),
        _condition("Progressing", not reached, "Reached" if reached else "Waiting", ""),
        _healthy(verdict.stuck),
        _scaling_active(resource, verdict.engine, verdict.looped, verdict.loop),
    ]
    return {
        "observedGeneration": resource["metadata"].get("generation", 0),
        "replicas": sum(one["replicas"] for one in versions),
        "readyReplicas": sum(one["readyReplicas"] for one in versions),
        "selector": f"{MODEL_LABEL}={resource['metadata']['name']}",
        "traffic": _text(verdict.live),
        **_splits(resource.get("status") or {}, verdict.live),
        "versions": versions,
        "scaling": decided,
        "conditions": _dated(conditions, resource, now),
    }


def policy_status(
    resource: Found,
    policy: ScalingPolicy,
    failures: Sequence[str],
    now: float,
    engine: Engine | None = None,
    loop: Loop = SILENT,
) -> Object:
    """Status of a ``ScalingPolicy`` whose document was accepted."""
    before = resource.get("status") or {}
    version = f"deployment/{policy.spec.target_ref.name}"
    words = f"Deployment {policy.spec.target_ref.name} is scaled by {policy.spec.engine}"
    ready = _condition("Ready", not failures, "ApplyFailed" if failures else "Applied", words)
    active = _scaling_active(resource, engine, engine == "headway", loop)
    conditions = [_condition("Accepted", True, "Accepted", ""), _applied(failures), ready, active]
    return {
        "observedGeneration": resource["metadata"].get("generation", 0),
        "replicas": before.get("replicas", 0) if loop.replicas is None else loop.replicas,
        "scaling": _decided(resource, [version], loop) if engine == "headway" else [],
        "conditions": _dated(conditions, resource, now),
    }


def refused_status(resource: Found, error: HeadwayError, now: float) -> Object:
    """Status of a resource whose document cannot be carried out: the rest stays what it was."""
    accepted = _condition("Accepted", False, _reason(error), str(error)[:LONGEST_MESSAGE])
    before = resource.get("status") or {}
    others = [one for one in before.get("conditions", []) if one["type"] != "Accepted"]
    generation = resource["metadata"].get("generation", 0)
    conditions = [*_dated([accepted], resource, now), *others]
    return {**before, "observedGeneration": generation, "conditions": conditions}


def _decided(resource: Found, versions: Sequence[str], loop: Loop) -> list[Object]:
    """The last decision about each of ``versions``; after a start of the operator the one told before."""
    before = {one["version"]: one for one in (resource.get("status") or {}).get("scaling") or ()}
    found = []
    for version in versions:
        report = loop.reports.get(version)
        if report is not None:
            found.append(report.document())
        elif version in before:
            found.append(before[version])
    return found


def _scaling_active(resource: Found, engine: Engine | None, looped: bool, loop: Loop) -> Object:
    """Whether the number of replicas follows the load."""
    type_ = "ScalingActive"
    if engine is None:
        return _condition(type_, False, "FixedReplicas", "no triggers: scaling.minReplicas is the number of replicas")
    if not looped:
        return _condition(type_, True, "ByEngine", f"the engine {engine} says how it goes")
    if loop.blocked is not None:
        return _condition(type_, False, *loop.blocked)
    troubled = [report for _, report in sorted(loop.reports.items()) if report.trouble]
    if troubled:
        told = "\n".join(f"{report.version}: {report.message}" for report in troubled)
        return _condition(type_, False, troubled[0].trouble, told[:LONGEST_MESSAGE])
    if loop.reports:
        return _condition(type_, True, "Decided", "status.scaling has the last decision about each version")
    conditions = (resource.get("status") or {}).get("conditions") or ()
    before = next((one for one in conditions if one["type"] == type_), None)
    if before is not None and before["reason"] in OF_THE_LOOP:
        return _condition(type_, before["status"] == "True", before["reason"], before.get("message", ""))
    return _condition(type_, False, "Pending", "nothing has been decided yet")


def _version(version: ClusterVersion, record: Found, weights: Mapping[str, int]) -> Object:
    status = record.get("status") or {}
    return {
        "name": version.name,
        "digest": version.digest,
        "image": version.image,
        "weight": weights.get(version.name, 0),
        "replicas": status.get("replicas", 0),
        "readyReplicas": status.get("readyReplicas", 0),
    }


def _splits(before: Object, live: Sequence[Arm]) -> Object:
    """The split that serves, or did last, and the one before it.

    The one before is only told apart from the present one by looking back, and the status is what there is to look back
    at. Pods that are away for a moment make no split of nobody.
    """
    was = before.get("split") or []
    now = [{"version": arm.version, "weight": arm.weight} for arm in live] or was
    return {"split": now, "previousSplit": was if was and was != now else before.get("previousSplit") or []}


def split_in(status: Sequence[Mapping[str, Any]] | None) -> tuple[Arm, ...]:
    """``split`` or ``previousSplit`` of a status."""
    return tuple(Arm(one["version"], one["weight"]) for one in status or ())


def _text(split: Sequence[Arm]) -> str:
    """``v1 90 %, v2 10 %``"""
    return ", ".join(f"{arm.version} {arm.weight} %" for arm in split)


def _reason(error: HeadwayError) -> str:
    """``invalid_spec`` -> ``InvalidSpec``."""
    return "".join(word.capitalize() for word in error.code.split("_"))


def _healthy(stuck: Mapping[str, Obstacle]) -> Object:
    """Whether something keeps pods from getting ready: why, what to do, and for how many pods of which version."""
    if not stuck:
        return _condition("Healthy", True, "Healthy", "")
    told = [
        f"{version}, {why.pods} {'pod' if why.pods == 1 else 'pods'}: {why.text} ({why.hint})"
        for version, why in sorted(stuck.items())
    ]
    first = stuck[min(stuck)]
    return _condition("Healthy", False, first.reason, "\n".join(told)[:LONGEST_MESSAGE])


def _applied(failures: Sequence[str]) -> Object:
    if not failures:
        return _condition("Applied", True, "Applied", "")
    return _condition("Applied", False, "ApplyFailed", "; ".join(failures)[:LONGEST_MESSAGE])


def _condition(type_: str, status: bool, reason: str, message: str) -> Object:
    return {"type": type_, "status": str(status), "reason": reason, "message": message}


def _dated(conditions: Sequence[Object], resource: Found, now: float) -> list[Object]:
    """With the moment at which each took its status, which is not the moment at which it was looked at."""
    before = {one["type"]: one for one in (resource.get("status") or {}).get("conditions", [])}
    generation = resource["metadata"].get("generation", 0)
    moment = moment_of(now)

    def since(one: Object) -> str:
        known = before.get(one["type"])
        return str(known["lastTransitionTime"]) if known and known["status"] == one["status"] else moment

    return [{**one, "observedGeneration": generation, "lastTransitionTime": since(one)} for one in conditions]
