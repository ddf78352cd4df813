"""What people ask for, as changes to a custom resource: pure, the resource as it was read in, as it is to be out.

Whatever else stands in the resource stays: labels, annotations, finalizers, and what a document leaves open and
somebody else has set. The result is written only if nobody has changed the resource since it was read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from headway.cluster.kinds import MODEL_DEPLOYMENT
from headway.cluster.names import Object
from headway.cluster.reconcile import document_of, newest_of
from headway.cluster.refusals import admitted
from headway.cluster.standing import Standing
from headway.cluster.versions import ClusterVersion, split_of, with_version
from headway.domain.cluster_objects import Kind, Name
from headway.domain.cluster_objects import Object as Found
from headway.domain.errors import Unsupported
from headway.domain.names import version_number
from headway.domain.routing_table import Arm
from headway.domain.spec import ModelDeployment, VersionSpec

VERSION_LEVEL = tuple(field.alias or name for name, field in VersionSpec.model_fields.items())
"""Fields of ``spec`` that make a version, beside the image."""


def with_document(before: Found | None, name: Name, kind: Kind, spec: Mapping[str, Any]) -> Object:
    """``before`` with the ``spec`` of a document; None: there is no such resource yet.

    Of a model, ``scaling`` and each field of ``kubernetes`` that the document leaves out stay as they are.
    """
    held: Mapping[str, Any] = {} if before is None else before.get("spec") or {}
    after = dict(spec)
    if kind == MODEL_DEPLOYMENT:
        if "scaling" not in after and "scaling" in held:
            after["scaling"] = held["scaling"]
        after["kubernetes"] = {**held.get("kubernetes", {}), **after.get("kubernetes", {})}
    metadata = {"name": name.name, "namespace": name.namespace}
    start = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
    return {**(before or start), "spec": after}


def with_split(standing: Standing, split: tuple[Arm, ...]) -> Object:
    """The resource of ``standing`` with ``split``, which names versions that there are.

    A document describes one version, and its split names it: when that one gets no place in ``split``, the newest one
    that does takes its place, as it was when it was made. A shadow that takes traffic is a shadow no longer.
    """
    shadow = standing.document.spec.shadow.version if standing.document and standing.document.spec.shadow else None
    named = [arm.version for arm in split]
    described = standing.newest
    if described is None or described not in [*named, shadow]:
        described = max(named, key=version_number)
    version = next(one for one in standing.versions if one.name == described)
    spec = dict(standing.resource["spec"])
    if described != standing.newest:
        spec = {key: value for key, value in spec.items() if key not in VERSION_LEVEL}
        spec |= version.spec().model_dump(by_alias=True, mode="json", exclude_defaults=True)
        spec["kubernetes"] = {**spec.get("kubernetes", {}), "image": version.image}
    if shadow in named:
        del spec["shadow"]
    spec.pop("traffic", None)
    if split != (Arm(described, 100),):
        spec["traffic"] = [{"version": arm.version, "weight": arm.weight} for arm in split]
    return {**standing.resource, "spec": spec}


def with_replicas(standing: Standing, replicas: int) -> Object:
    """The resource of ``standing`` with so many replicas of each version. ``Unsupported`` where triggers move them."""
    document = standing.document
    if document is not None and document.spec.scaling.elastic:
        raise Unsupported(
            f"triggers move the number of replicas of {standing.name.name}",
            where="REPLICAS",
            hint="change minReplicas and maxReplicas in its document, then headway apply",
        )
    spec = standing.resource["spec"]
    after = {**spec, "scaling": {**(spec.get("scaling") or {}), "minReplicas": replicas}}
    return {**standing.resource, "spec": after}


class Described(NamedTuple):
    """What a resource says."""

    document: ModelDeployment
    version: str
    """The version that the document describes, under the name that it has or will get."""
    target: tuple[Arm, ...]


def described_in(resource: Found, kept: Sequence[ClusterVersion]) -> Described:
    """What ``resource`` says beside the ``kept`` versions; raises what the operator would refuse it with."""
    document = admitted(document_of(resource))
    if not isinstance(document, ModelDeployment):
        raise Unsupported("a ScalingPolicy has no versions")
    newest = newest_of(resource, document, kept)
    return Described(document, newest.name, split_of(document, newest, with_version(kept, newest)))
