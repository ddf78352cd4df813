"""Kubernetes objects as Headway handles them: JSON documents, their kinds and names, and what differs between two.

An object is its JSON form. Which fields an applier owns is asked of the API server, not remembered here
(server-side apply, KEP-555).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal, NamedTuple

Object = Mapping[str, Any]
"""A Kubernetes object; never changed in place."""


class Kind(NamedTuple):
    """A kind of object, as the API server serves it."""

    api_version: str
    """``group/version``, or ``v1`` for the core group."""
    kind: str
    plural: str
    namespaced: bool = True

    def __str__(self) -> str:
        return f"{self.plural}.{self.api_version}"


DEPLOYMENT: Final = Kind("apps/v1", "Deployment", "deployments")
LEASE: Final = Kind("coordination.k8s.io/v1", "Lease", "leases")
POD: Final = Kind("v1", "Pod", "pods")


class Name(NamedTuple):
    """Which object of a kind. ``namespace`` is empty for kinds of the whole cluster."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


ChangeType = Literal["added", "modified", "deleted", "bookmark"]


class Change(NamedTuple):
    """One event of a watch. A bookmark carries a resource version and nothing else."""

    type: ChangeType
    object: Object


@dataclass(frozen=True, slots=True)
class Listing:
    """What there was of a kind, all at one ``resource_version``, from which a watch goes on."""

    objects: Sequence[Object]
    resource_version: str


def name_of(item: Object) -> Name:
    """Namespace and name."""
    metadata = item["metadata"]
    return Name(metadata.get("namespace", ""), metadata["name"])


def version_of(item: Object) -> str:
    """The resource version; empty when it has none yet."""
    return str(item["metadata"].get("resourceVersion", ""))


def uid_of(item: Object) -> str:
    """The identity of this very object; another of the same name, made later, has another."""
    return str(item["metadata"].get("uid", ""))


def labels_of(item: Object) -> Mapping[str, str]:
    """Its labels."""
    return item["metadata"].get("labels") or {}


def controller_of(item: Object) -> Mapping[str, Any] | None:
    """The owner reference that is marked as the controller, if any."""
    owners = item["metadata"].get("ownerReferences") or ()
    return next((owner for owner in owners if owner.get("controller")), None)


def instant_of(text: str) -> float:
    """An instant as the API writes it (RFC 3339), as seconds since the epoch."""
    return datetime.fromisoformat(text).timestamp()


def moment_of(at: float) -> str:
    """Seconds since the epoch as the API writes an instant."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def is_older(version: str, than: str) -> bool:
    """Whether one resource version of a kind is older than another (KEP-5504: they compare as integers).

    Versions that are no integers, as some other servers hand out, are never older.
    """
    return version.isdigit() and than.isdigit() and int(version) < int(than)
