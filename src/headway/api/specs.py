"""The ModelDeployment document of a deployment that exists, put together from its parts. Pure."""

from __future__ import annotations

from typing import Any

from headway.domain.deployments import Deployment, Version
from headway.domain.names import version_number
from headway.domain.spec import API_VERSION, KIND
from headway.domain.version_specs import jobs_of


def spec_document(deployment: Deployment) -> dict[str, Any]:
    """What would have to be applied to get what is wished now, defaults filled in.

    The version-level part is that of the newest version in the split. A split over several versions is stated; of
    a single one it is left out, as it would stand in the way of the next version.
    """
    newest = _newest(deployment)
    level = dict(newest.spec) if newest is not None else {}
    jobs = jobs_of(deployment).model_dump(mode="json", by_alias=True)
    spec: dict[str, Any] = {**level, "scaling": _scaling(deployment), "jobs": jobs}
    spec["model"] = {"path": ".", **level.get("model", {})}
    split = deployment.target or deployment.live
    if len(split) > 1:
        spec["traffic"] = [{"version": arm.version, "weight": arm.weight} for arm in split]
    if deployment.sticky is not None:
        spec["sticky"] = {deployment.sticky.kind: deployment.sticky.name}
    if deployment.shadow is not None:
        spec["shadow"] = {"version": deployment.shadow.version, "percent": deployment.shadow.percent}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": deployment.name}, "spec": spec}


def _scaling(deployment: Deployment) -> dict[str, Any]:
    return {"minReplicas": deployment.replicas} if deployment.scaling is None else dict(deployment.scaling)


def _newest(deployment: Deployment) -> Version | None:
    """The newest version of the live split; while nothing is live, of the wished one, then of all."""
    for split in (deployment.live, deployment.target):
        named = {arm.version for arm in split}
        candidates = [v for v in deployment.versions if v.name in named]
        if candidates:
            return max(candidates, key=lambda v: version_number(v.name))
    return deployment.versions[-1] if deployment.versions else None
