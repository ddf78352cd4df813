"""One look at one custom resource: from it and what it owns to what there is to be. Pure.

The cluster is the only memory. Versions stand on their Deployments; the split that the routes have stands on the route.
A new version takes its name by a write to the custom resource that holds only for the state in which it was read:
whoever has an older one in hand, a second operator, say, is refused and reads again, so no name ever means two things.
All the rest is the same whoever writes it and however often.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from headway.cluster.elastic import SILENT, Elastic, Loop, Scaled, counts, elastic, floor_of, floors, latency_alone
from headway.cluster.names import CLAIM_ANNOTATION, MANAGER, NAMESPACE, SPLIT_ANNOTATION, VERSION_LABEL, Object, Owner
from headway.cluster.obstacles import obstacle
from headway.cluster.refusals import admitted
from headway.cluster.render import render_model, render_policy
from headway.cluster.status import Verdict, model_status, policy_status, refused_status, split_in
from headway.cluster.versions import ClusterVersion, described, split_of, version_of, with_version
from headway.domain.cluster_objects import Name, labels_of
from headway.domain.cluster_objects import Object as Found
from headway.domain.errors import HeadwayError
from headway.domain.kubernetes_spec import Engine
from headway.domain.names import version_number
from headway.domain.routing_table import Arm
from headway.domain.scaling_policy import ScalingPolicy
from headway.domain.scaling_spec import Scaling
from headway.domain.spec import ModelDeployment

PATIENCE_S: Final = 30.0
"""For a container that has started to get ready."""
SCALED_BY: Final = ("HorizontalPodAutoscaler", "ScaledObject")
ROUTES: Final = ("HTTPRoute", "IngressRoute")
"""Kinds that hold the split of a model."""

_SHARE: Final = re.compile(r"(v\d+)=(\d+)")
"""Of ``v1=90,v2=10``, as routes have it."""


@dataclass(frozen=True, slots=True)
class Look:
    """What there is to be."""

    status: Object
    objects: tuple[Object, ...] | None = None
    """All objects, in the order in which they are made; None: what is there stays as it is."""
    claim: Object | None = None
    """The custom resource with a name for a new version: to be written before anything else, and looked at again."""
    again_s: float | None = None
    """When to look again although nothing has changed: somebody's patience may be over then."""
    scaled: Scaled | None = None
    """None: Headway's own loop has no say."""


def reconcile(
    resource: Found,
    owned: Sequence[Found],
    pods: Sequence[Found],
    failures: Sequence[str],
    now: float,
    loop: Loop = SILENT,
    operator_namespace: str = NAMESPACE,
) -> Look:
    """What ``resource`` asks for, while it owns ``owned``; ``failures`` are those of the writes before, for the status.

    ``pods`` are those of its versions; ``now`` is seconds since the epoch. ``loop`` is what Headway's own loop has
    decided; it asks the pods from ``operator_namespace``.
    """
    metadata = resource["metadata"]
    owner = Owner(resource["kind"], metadata["name"], metadata["namespace"], metadata["uid"])
    try:
        document = admitted(document_of(resource))
        if isinstance(document, ScalingPolicy):
            return _policy(resource, document, owner, failures, now, loop)
        return _model(resource, document, owner, owned, pods, failures, now, loop, operator_namespace)
    except HeadwayError as error:
        # A mistake in a document takes nothing down.
        return Look(refused_status(resource, error, now))


def document_of(resource: Found) -> Object:
    """The document in a custom resource: without what only the API knows."""
    metadata = {key: resource["metadata"][key] for key in ("name", "namespace")}
    kinds = {key: resource[key] for key in ("apiVersion", "kind")}
    return {**kinds, "metadata": metadata, "spec": resource.get("spec", {})}


def _policy(
    resource: Found, policy: ScalingPolicy, owner: Owner, failures: Sequence[str], now: float, loop: Loop
) -> Look:
    objects = tuple(render_policy(policy, owner))
    status = policy_status(resource, policy, failures, now, engine_of(policy), loop)
    if not is_own(policy):
        return Look(status, objects)
    scaling, target = policy.spec.scaling.model_dump(mode="json", by_alias=True), policy.spec.target_ref.name
    scale = next((wish.desired for wish in loop.wishes.values()), None)
    secret = _secret(owner, policy.spec.trigger_secret)
    return Look(status, objects, scaled=Scaled(scaling, secret, target=Name(owner.namespace, target), scale=scale))


def _secret(owner: Owner, name: str | None) -> Name | None:
    return None if name is None else Name(owner.namespace, name)


def _model(
    resource: Found,
    document: ModelDeployment,
    owner: Owner,
    owned: Sequence[Found],
    pods: Sequence[Found],
    failures: Sequence[str],
    now: float,
    loop: Loop,
    operator_namespace: str,
) -> Look:
    # Objects of workers bear no version's label.
    of_versions = [one for one in owned if VERSION_LABEL in labels_of(one)]
    records = {labels_of(one)[VERSION_LABEL]: one for one in of_versions if one["kind"] == "Deployment"}
    kept = tuple(sorted((version_of(one) for one in records.values()), key=lambda one: version_number(one.name)))
    newest = newest_of(resource, document, kept)
    if newest not in kept and _claimed(resource).get(newest.name) != newest.digest:
        return Look(dict(resource.get("status") or {}), claim=_with_claim(resource, newest))
    versions = with_version(kept, newest)
    split = split_of(document, newest, versions)
    ready = {name for name, one in records.items() if is_ready(one)}
    before = live_split(resource, owned, versions)
    shares = {arm.version: arm.weight for arm in before}
    # One that has its share already may be without replicas, or wait for one of many; that holds up no other version.
    live = split if all(arm.version in ready for arm in split if arm.weight > shares.get(arm.version, 0)) else before
    scaling, own, looped = document.spec.scaling, is_own(document), is_looped(document)
    wished: Mapping[str, int] = {}
    lowest: Mapping[str, int] = {}
    scalers = {labels_of(one)[VERSION_LABEL]: one for one in of_versions if one["kind"] in SCALED_BY}
    if looped and not own:
        scaling = latency_alone(scaling)
        lowest = floors(scaling, before, scalers, loop.wishes)
    if scaling.elastic and not own:
        wished = {name: count for name, one in records.items() if (count := stated_count(one))}
    if own:
        shadow = document.spec.shadow
        beside = None if shadow is None else Arm(shadow.version, shadow.percent)
        wished = counts(scaling, split, before, beside, records, loop.wishes)
    objects = render_model(
        document, versions, split, owner, live=live, counts=wished, floors=lowest, operator_namespace=operator_namespace
    )
    short = [name for name in records if _lacks_pods(records[name])]
    stuck = {name: why for name in short if (why := obstacle(records[name], _of_version(name, pods), now, PATIENCE_S))}
    verdict = Verdict(versions, split, live, records, tuple(failures), stuck, engine_of(document), looped, loop)
    scaled = None
    if looped:
        scaled = Scaled(
            scaling.model_dump(mode="json", by_alias=True),
            _secret(owner, document.spec.kubernetes.trigger_secret),
            _elastic(elastic(before, split, versions, wished, records, pods, now), scalers, scaling, lowest),
        )
    again_s = PATIENCE_S if short else None
    return Look(model_status(resource, verdict, now), tuple(objects), again_s=again_s, scaled=scaled)


def _elastic(
    found: tuple[Elastic, ...], scalers: Mapping[str, Found], scaling: Scaling, lowest: Mapping[str, int]
) -> tuple[Elastic, ...]:
    """``found``, with the floors of another engine where there is one."""
    if not lowest:
        return found
    return tuple(
        replace(one, there=floor_of(scalers.get(one.version), scaling), floor=lowest[one.version]) for one in found
    )


def _lacks_pods(deployment: Found) -> bool:
    status = deployment.get("status") or {}
    return bool(status.get("readyReplicas", 0) < deployment["spec"].get("replicas", status.get("replicas", 1)))


def _of_version(version: str, pods: Sequence[Found]) -> list[Found]:
    return [pod for pod in pods if labels_of(pod).get(VERSION_LABEL) == version]


def stated_count(record: Found) -> int:
    """Replicas that the API keeps as stated by Headway and nobody else; 0: another engine has set them, or none run.

    A field that its only owner states no more goes back to its default. So an engine that is new to a version finds the
    replicas that there are, and not one, until it has set their number itself.
    """
    for entry in record["metadata"].get("managedFields") or ():
        if entry.get("manager") == MANAGER and not entry.get("subresource"):
            fields = entry.get("fieldsV1") or {}
            if "f:replicas" in (fields.get("f:spec") or {}):
                return int(record["spec"].get("replicas", 0))
    return 0


def engine_of(document: ModelDeployment | ScalingPolicy) -> Engine | None:
    """Who moves the number of replicas; None: nobody."""
    if not document.spec.scaling.elastic:
        return None
    return document.spec.engine if isinstance(document, ScalingPolicy) else document.spec.kubernetes.engine


def is_looped(document: ModelDeployment | ScalingPolicy) -> bool:
    """Whether Headway's own loop has a say: in all, or in what latency asks of another engine."""
    engine, triggers = engine_of(document), document.spec.scaling.triggers
    return engine == "headway" or (engine is not None and any(one.type == "latency" for one in triggers))


def is_own(document: ModelDeployment | ScalingPolicy) -> bool:
    """Whether Headway's own loop does."""
    return engine_of(document) == "headway"


def newest_of(resource: Found, document: ModelDeployment, kept: Sequence[ClusterVersion]) -> ClusterVersion:
    """The version that ``document``, which ``resource`` holds, describes: under the name that it has or is to get."""
    newest = described(document, kept)
    return newest if newest in kept else _named(newest, kept, _claimed(resource))


def _claimed(resource: Found) -> Mapping[str, str]:
    """The version that was named last, with its digest."""
    name, _, digest = (resource["metadata"].get("annotations") or {}).get(CLAIM_ANNOTATION, "").partition("=")
    return {name: digest} if digest else {}


def _with_claim(resource: Found, version: ClusterVersion) -> Object:
    metadata: dict[str, Any] = dict(resource["metadata"])
    claim = {CLAIM_ANNOTATION: f"{version.name}={version.digest}"}
    metadata["annotations"] = {**(metadata.get("annotations") or {}), **claim}
    return {**resource, "metadata": metadata}


def _named(newest: ClusterVersion, kept: Sequence[ClusterVersion], claimed: Mapping[str, str]) -> ClusterVersion:
    """A name that none was given before, unless it was given to this one."""
    for name, digest in claimed.items():
        if digest == newest.digest and name not in {one.name for one in kept}:
            return replace(newest, name=name)
    highest = max((version_number(name) for name in (*claimed, *(one.name for one in kept))), default=0)
    return replace(newest, name=f"v{highest + 1}")


def is_ready(deployment: Found) -> bool:
    """Whether as many pods of the present template are available as it has replicas, and at least one."""
    status, wished = deployment.get("status") or {}, deployment["spec"].get("replicas", 1)
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    enough = min(status.get("availableReplicas", 0), status.get("updatedReplicas", 0)) >= wished
    return bool(seen and wished > 0 and enough)


def live_split(resource: Found, owned: Sequence[Found], versions: Sequence[ClusterVersion]) -> tuple[Arm, ...]:
    """The split that the routes have, or, without a route, that the status tells of; none before the first."""
    known = {version.name for version in versions}
    routes = (one for one in owned if one["kind"] in ROUTES)
    marked = ((one["metadata"].get("annotations") or {}).get(SPLIT_ANNOTATION, "") for one in routes)
    splits = [tuple(Arm(name, int(weight)) for name, weight in _SHARE.findall(text)) for text in marked]
    splits.append(split_in((resource.get("status") or {}).get("split")))
    return next((one for one in splits if one and {arm.version for arm in one} <= known), ())
