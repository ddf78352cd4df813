"""What people ask for, as changes to a custom resource: pure, the resource as it was read in, as it is to be out.

Whatever else stands in the resource stays: labels, annotations, finalizers, and what a document leaves open and
somebody else has set. The result is written only if nobody has changed the resource since it was read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import msgspec

from headway.cluster.kinds import MODEL_DEPLOYMENT
from headway.cluster.names import LOAN_ANNOTATION, Object, canonical
from headway.cluster.reconcile import document_of, newest_of
from headway.cluster.refusals import admitted
from headway.cluster.standing import Standing
from headway.cluster.versions import ClusterVersion, split_of, with_version
from headway.domain.cluster_objects import Kind, Name, name_of
from headway.domain.cluster_objects import Object as Found
from headway.domain.errors import Conflict, Unsupported
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


@dataclass(frozen=True, slots=True)
class Loan:
    """What a resource says of a load test that scales its model."""

    run: str
    """Name of the test's objects."""
    before: Mapping[str, Any] | None
    """``spec.scaling`` as it was; None: there was none."""


def loan_of(resource: Found) -> Loan | None:
    """None where no load test scales it. Raises ``Conflict`` where what stands there cannot be read."""
    text = (resource["metadata"].get("annotations") or {}).get(LOAN_ANNOTATION)
    if text is None:
        return None
    try:
        return msgspec.json.decode(text, type=Loan)
    except msgspec.MsgspecError as error:
        raise Conflict(
            f"how {name_of(resource).name} was scaled before a load test cannot be read: {error}",
            where=f"metadata.annotations[{LOAN_ANNOTATION}]",
            hint="set spec.scaling as it is to be, and take the annotation away",
        ) from None


def with_scaling(resource: Found, scaling: Mapping[str, Any] | None, loan: Loan | None) -> Object:
    """``resource`` with this ``spec.scaling`` (None: without any), and with what is to be known of a load test."""
    spec = {key: value for key, value in resource["spec"].items() if key != "scaling"}
    if scaling is not None:
        spec["scaling"] = dict(scaling)
    metadata = dict(resource["metadata"])
    annotations = {
        key: text for key, text in (metadata.pop("annotations", None) or {}).items() if key != LOAN_ANNOTATION
    }
    if loan is not None:
        annotations[LOAN_ANNOTATION] = canonical(asdict(loan))
    if annotations:
        metadata["annotations"] = annotations
    return {**resource, "metadata": metadata, "spec": spec}


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
