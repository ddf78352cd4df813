"""The versions of a model on a cluster: each is an image and the version-level part of a document.

A document with another image, or another version-level part, makes a new version; the same again is the same one. A
version is kept as annotations of its Deployment, whatever its share of the traffic, and read from there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.cluster.names import (
    DIGEST_ANNOTATION,
    IMAGE_ANNOTATION,
    SPEC_ANNOTATION,
    VERSION_LABEL,
    canonical,
)
from headway.domain.cluster_objects import Object as Found
from headway.domain.errors import InvalidSpec, InvalidTraffic, StorageFailed
from headway.domain.names import version_name, version_number
from headway.domain.routing_table import Arm
from headway.domain.spec import ModelDeployment, VersionSpec, arms, version_digest


@dataclass(frozen=True, slots=True)
class ClusterVersion:
    """One immutable version: what its pods run."""

    name: str
    digest: str
    """SHA-256 over the image and the version-level part."""
    image: str
    level: Mapping[str, Any]
    """The version-level part as JSON, defaults filled in."""

    def spec(self) -> VersionSpec:
        """``level``, typed."""
        return VersionSpec.model_validate(self.level)

    def annotations(self) -> dict[str, str]:
        """What :func:`version_of` reads."""
        return {
            DIGEST_ANNOTATION: self.digest,
            IMAGE_ANNOTATION: self.image,
            SPEC_ANNOTATION: canonical(self.level),
        }


def version_of(deployment: Found) -> ClusterVersion:
    """The version that a Deployment of ours keeps. ``StorageFailed`` when somebody has damaged its annotations."""
    metadata = deployment["metadata"]
    kept, labels = metadata.get("annotations", {}), metadata.get("labels", {})
    try:
        level = json.loads(kept[SPEC_ANNOTATION])
        found = ClusterVersion(labels[VERSION_LABEL], kept[DIGEST_ANNOTATION], kept[IMAGE_ANNOTATION], level)
        sound = found.digest == version_digest(found.image, level) and bool(version_number(found.name))
    except (KeyError, ValueError, InvalidSpec):
        sound = False
    if not sound:
        raise StorageFailed(
            f"the annotations of Deployment {metadata['name']} do not tell its version any more",
            hint=f"restore {DIGEST_ANNOTATION}, {IMAGE_ANNOTATION} and {SPEC_ANNOTATION}, or delete the Deployment",
        )
    return found


def described(document: ModelDeployment, known: Sequence[ClusterVersion]) -> ClusterVersion:
    """The version that ``document`` describes: one that is ``known``, or a new one."""
    image, level = document.spec.kubernetes.image, document.version_level()
    assert image is not None  # headway.cluster.refusals has seen to it
    digest = version_digest(image, level)
    for version in reversed(known):
        if version.digest == digest:
            return version
    number = 1 + max((version_number(version.name) for version in known), default=0)
    return ClusterVersion(version_name(number), digest, image, level)


def with_version(known: Sequence[ClusterVersion], version: ClusterVersion) -> tuple[ClusterVersion, ...]:
    """``known`` and ``version``, in order of creation."""
    others = [one for one in known if one.name != version.name]
    return tuple(sorted([*others, version], key=lambda one: version_number(one.name)))


def split_of(document: ModelDeployment, newest: ClusterVersion, versions: Sequence[ClusterVersion]) -> tuple[Arm, ...]:
    """The split that ``document`` asks for: as it says, else everything to the version that it describes.

    ``InvalidTraffic`` for versions that do not exist, or when the described version has no place in it.
    """
    shadow = document.spec.shadow.version if document.spec.shadow is not None else None
    there = [version.name for version in versions]
    if shadow is not None and shadow not in there:
        raise InvalidTraffic(f"there is no version {shadow}", where="spec.shadow.version", hint=_known(there))
    asked = arms(document)
    if asked is None:
        if shadow != newest.name:
            return (Arm(newest.name, 100),)
        raise InvalidTraffic(
            f"{shadow} is what this document describes, and a shadow takes no traffic of its own",
            where="spec.shadow.version",
            hint="say in spec.traffic which version serves",
        )
    for position, arm in enumerate(asked):
        if arm.version not in there:
            where = f"spec.traffic[{position}].version"
            raise InvalidTraffic(f"there is no version {arm.version}", where=where, hint=_known(there))
    if newest.name not in {arm.version for arm in asked} | {shadow}:
        raise InvalidTraffic(
            f"this content is {newest.name}, which spec.traffic does not name",
            where="spec.traffic",
            hint=f"add {{version: {newest.name}, weight: ...}}, or leave traffic out",
        )
    return asked


def _known(names: Sequence[str]) -> str:
    return f"versions: {', '.join(names[-10:])}"
