"""How a model stands on a cluster, in the bodies of the REST API: what commands print is the same wherever it runs.

What a cluster does not know is left empty: process numbers, memory, Python's version. What a laptop does not know comes
on top: the namespace and the conditions of the custom resource. The image stands where a version was fetched from.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from headway.api.schemas import (
    ArmView,
    FailureView,
    ModelSummary,
    ModelView,
    ReplicaView,
    ScalingRange,
    ShadowView,
    SourceView,
    StickyView,
    Urls,
    VersionView,
    View,
)
from headway.cluster.names import version_object
from headway.cluster.obstacles import Obstacle
from headway.cluster.pod_states import instant
from headway.cluster.standing import Standing
from headway.domain.routing_table import Arm
from headway.domain.spec import ModelDeployment


class ConditionView(View):
    """A condition of the custom resource."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    since: float | None = None


class ClusterModelView(ModelView):
    """A model on a cluster, in full."""

    namespace: str
    conditions: list[ConditionView] = Field(default=[])


def model_view(standing: Standing) -> ClusterModelView:
    """A model in full."""
    document = standing.document
    sticky = document.spec.sticky if document is not None else None
    shadow = document.spec.shadow if document is not None else None
    return ClusterModelView(
        name=standing.name.name,
        namespace=standing.name.namespace,
        state=str(standing.state),
        message=standing.message,
        created_at=standing.created_at,
        generation=standing.generation,
        replicas=first_count(document),
        scaling=scaling_range(document),
        ready_replicas=sum(standing.ready(version) for version in standing.running),
        target=arm_views(standing.target),
        live=arm_views(standing.live),
        previous=arm_views(standing.previous),
        sticky=StickyView(kind="cookie", name=sticky.cookie) if sticky is not None and sticky.cookie else None,
        shadow=ShadowView(version=shadow.version, percent=shadow.percent) if shadow is not None else None,
        urls=urls(standing),
        versions=[_version(standing, version.name) for version in standing.versions],
        replica_list=[
            ReplicaView(
                name=pod.name,
                version=pod.version,
                phase=str(pod.phase),
                ready=pod.ready,
                restarts=pod.restarts,
                reason=pod.reason,
                started_at=pod.started_at,
                ready_at=pod.ready_at,
            )
            for pod in standing.pod_states()
        ],
        conditions=[
            ConditionView(
                type=one["type"],
                status=one["status"],
                reason=one.get("reason", ""),
                message=one.get("message", ""),
                since=instant(one.get("lastTransitionTime")),
            )
            for one in standing.conditions
        ],
    )


def model_summary(standing: Standing) -> ModelSummary:
    """A model in a list."""
    live = [arm.version for arm in standing.live]
    return ModelSummary(
        name=standing.name.name,
        state=str(standing.state),
        message=standing.message,
        live=arm_views(standing.live),
        replicas=first_count(standing.document),
        scaling=scaling_range(standing.document),
        wished=sum(standing.wished(version) or 0 for version in live),
        ready_replicas=sum(standing.ready(version) for version in standing.running),
        created_at=standing.created_at,
        url=urls(standing).production,
    )


def _version(standing: Standing, name: str) -> VersionView:
    version = next(one for one in standing.versions if one.name == name)
    record: Any = standing.records.get(name) or {"metadata": {}}
    made_at = instant(record["metadata"].get("creationTimestamp")) or standing.created_at
    weights = {arm.version: arm.weight for arm in standing.live}
    return VersionView(
        name=name,
        digest=version.digest,
        bundle_digest="",
        state=str(standing.version_state(name)),
        state_since=made_at,
        created_at=made_at,
        failure=failure_view(standing.obstacles.get(name)),
        source=SourceView(uri=version.image),
        weight=weights.get(name),
        wished=standing.wished(name),
        spec=dict(version.level),
    )


def failure_view(why: Obstacle | None) -> FailureView | None:
    """What keeps a version from coming up."""
    if why is None:
        return None
    return FailureView(code=why.reason, message=f"{why.reason}: {why.message}", hint=why.hint, log_tail=why.said)


def first_count(document: ModelDeployment | None) -> int:
    """Replicas of each version, or what it begins with."""
    return 0 if document is None else document.spec.scaling.first_count


def scaling_range(document: ModelDeployment | None) -> ScalingRange | None:
    """Between how many replicas triggers move a version; None: the number is fixed."""
    scaling = None if document is None else document.spec.scaling
    if scaling is None or not scaling.elastic or scaling.max_replicas is None:
        return None
    return ScalingRange(min_replicas=scaling.min_replicas, max_replicas=scaling.max_replicas)


def arm_views(split: tuple[Arm, ...]) -> list[ArmView]:
    """A split."""
    return [ArmView(version=arm.version, weight=arm.weight) for arm in split]


def urls(standing: Standing) -> Urls:
    """Where the model answers: by its route, else each version at its Service, within the cluster.

    Which scheme a Gateway's listener speaks stands in the Gateway: it is left out. A route for every host has none.
    """
    model, namespace = standing.name.name, standing.name.namespace
    route = standing.document.spec.kubernetes.route if standing.document is not None else None
    if route is None:
        service = {v: f"http://{version_object(model, v)}.{namespace}.svc" for v in standing.running}
        main = max(standing.live or standing.target, key=lambda arm: arm.weight, default=None)
        return Urls(production=service.get(main.version, "") if main is not None else "", pinned=service)
    host = route.hosts[0] if route.hosts else ""
    scheme = ""
    if route.ingress is not None and host:
        scheme = "https://" if route.ingress.tls_secret else "http://"
    root = f"{scheme}{host}/models/{model}"
    return Urls(production=root, pinned={version: f"{root}/versions/{version}" for version in standing.running})
