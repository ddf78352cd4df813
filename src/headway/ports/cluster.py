"""Cluster: the objects of a Kubernetes API server."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Protocol

from headway.domain.cluster_objects import Change, Kind, Listing, Name, Object


class Cluster(Protocol):
    """Every method raises ``ClusterFailed`` when the server does not answer, or answers that it cannot, and
    ``ClusterForbidden`` when it refuses for lack of rights."""

    async def listing(self, kind: Kind, labels: Mapping[str, str]) -> Listing:
        """All objects of the kind that carry ``labels``, of every namespace that is watched.

        Raises ``KindMissing`` where the server does not know the kind (its CRD is not installed).
        """
        ...

    def watch(self, kind: Kind, labels: Mapping[str, str], resource_version: str) -> AsyncGenerator[Change]:
        """What happened after ``resource_version``; ends when the server ends it, to be asked again from the last
        version seen. Raises ``WatchExpired`` when the server no longer knows what happened since (410)."""
        ...

    async def read(self, kind: Kind, name: Name) -> Object | None:
        """The object as it is now; None when there is none."""
        ...

    async def apply(self, kind: Kind, item: Object, *, subresource: str = "") -> Object:
        """Server-side apply under Headway's field manager, taking over fields that others own; the result.

        With the subresource ``scale``, ``item`` is its name and ``spec.replicas``, and the result is of no meaning.
        Fields that an earlier apply had and this one lacks are given up, and vanish when nobody else owns them.
        """
        ...

    async def replace(self, kind: Kind, item: Object) -> Object:
        """Create it when it has no resource version, else replace the one of that version; the result.

        Raises ``ClusterConflict`` when it exists already or was changed since.
        """
        ...

    async def delete(self, kind: Kind, name: Name, uid: str) -> None:
        """Delete the object of this identity, dependents after it; nothing when it is gone or another."""
        ...
