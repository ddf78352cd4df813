"""Names, labels and annotations of the objects that a deployment has on a cluster.

Objects of a version are called ``<model>-<version>``, those of a model by the model's name. What a model needs besides
gets a digest in its name, longer than any model's name may be, so that no two models ever mean the same object.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

from headway.domain.cluster_drift import stamped
from headway.domain.spec import API_VERSION, KIND

GROUP: Final = "headway.dev"
OPERATOR: Final = "headway-operator"
"""Name of the operator's own objects."""
NAMESPACE: Final = "headway-system"
"""Where the operator is unless somebody says another."""
MODEL_LABEL: Final = f"{GROUP}/model"
VERSION_LABEL: Final = f"{GROUP}/version"
DIGEST_ANNOTATION: Final = f"{GROUP}/version-digest"
IMAGE_ANNOTATION: Final = f"{GROUP}/image"
SPEC_ANNOTATION: Final = f"{GROUP}/version-spec"
SPLIT_ANNOTATION: Final = f"{GROUP}/split"
"""On a model's route: the split that it has, ``v1=90,v2=10``."""
CLAIM_ANNOTATION: Final = f"{GROUP}/claimed-version"
"""On a ``ModelDeployment``: the version that was named last, ``v2=`` and its digest."""
LOAN_ANNOTATION: Final = f"{GROUP}/scaling-before-load-test"
"""On a ``ModelDeployment`` that a load test scales: which one, and how the model was scaled before."""
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "headway"
"""Field manager, and value of :data:`MANAGED_BY`."""

Object = dict[str, Any]
"""One object of the Kubernetes API, as JSON."""


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose the objects are: with ``uid``, which only a cluster knows, they go when it goes."""

    kind: str
    name: str
    namespace: str
    uid: str | None = None

    def references(self) -> list[Object]:
        """As ``metadata.ownerReferences``."""
        if self.uid is None:
            return []
        reference = {"apiVersion": API_VERSION, "kind": self.kind, "name": self.name, "uid": self.uid}
        return [{**reference, "controller": True, "blockOwnerDeletion": True}]


def model_owner(model: str, namespace: str, uid: str | None = None) -> Owner:
    """The ``ModelDeployment`` that owns a model's objects."""
    return Owner(KIND, model, namespace, uid)


def version_object(model: str, version: str) -> str:
    """``iris``, ``v1`` -> ``iris-v1``; at most 51 characters."""
    return f"{model}-{version}"


def side_object(owner: str, what: str) -> str:
    """A further object of ``owner``: ``iris``, ``mirror`` -> ``iris-mirror-`` and 40 hex digits."""
    return f"{owner}-{what}-{hashlib.sha256(f'{owner}/{what}'.encode()).hexdigest()[:40]}"


def labels(model: str, version: str | None = None) -> dict[str, str]:
    """Of an object of ``model``, or of one version of it."""
    found = {
        "app.kubernetes.io/name": model,
        "app.kubernetes.io/component": "model",
        MANAGED_BY: MANAGER,
        MODEL_LABEL: model,
    }
    return found if version is None else {**found, "app.kubernetes.io/version": version, VERSION_LABEL: version}


def selector(model: str, version: str) -> dict[str, str]:
    """What tells a version's pods from all others; never changes."""
    return {MODEL_LABEL: model, VERSION_LABEL: version}


def built(
    api_version: str,
    kind: str,
    name: str,
    owner: Owner,
    labels: dict[str, str],
    body: Object,
    annotations: dict[str, str] | None = None,
) -> Object:
    """A whole object; among its annotations is the digest of all the rest."""
    metadata: Object = {"name": name, "namespace": owner.namespace, "labels": labels}
    if annotations:
        metadata["annotations"] = annotations
    if references := owner.references():
        metadata["ownerReferences"] = references
    return stamped({"apiVersion": api_version, "kind": kind, "metadata": metadata, **body})


def canonical(value: object) -> str:
    """``value`` as JSON in the one spelling that hashes and annotations use."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
