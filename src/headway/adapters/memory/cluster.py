"""MemoryCluster: a Kubernetes API server's storage without the server.

Resource versions grow by one with each write, watches go on from any of them that is not forgotten yet, an apply
that changes nothing writes nothing, and the objects that a deleted one controlled go with it, as the garbage
collector sees to in a real cluster. Nothing else happens by itself: nobody starts pods here.

What comes in is copied, and never changed in place from then on; so what goes out is the stored object itself.
"""

from __future__ import annotations

import asyncio
import copy
import itertools
from bisect import bisect_right
from collections import defaultdict
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from typing import Any

from headway.adapters.memory.field_ownership import Path, differing, fields, merged, value_at, without
from headway.domain.cluster_objects import Change, ChangeType, Kind, Listing, Name, Object, labels_of, name_of, uid_of
from headway.domain.errors import KindMissing, StaleWrite, WatchExpired

MANAGER = "headway"


@dataclass(slots=True)
class _Stored:
    item: dict[str, Any]
    owners: dict[str, set[Path]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Event:
    version: int
    kind: Kind
    type: ChangeType
    item: Object
    before: Object | None


class MemoryCluster:
    """The ``Cluster`` port. ``missing`` kinds are not installed."""

    def __init__(self) -> None:
        self.missing: set[Kind] = set()
        self.writes = 0
        """Writes asked for, those that changed nothing included."""
        self._objects: dict[tuple[Kind, Name], _Stored] = {}
        self._events: dict[Kind, list[_Event]] = defaultdict(list)
        self._version = itertools.count(1)
        self._last = 0
        self._forgotten = 0
        self._told: dict[Kind, asyncio.Event] = defaultdict(asyncio.Event)

    # -- the port ------------------------------------------------------------------------------------

    async def listing(self, kind: Kind, labels: Mapping[str, str]) -> Listing:
        """What there is."""
        self._check(kind)
        found = [s.item for (k, _), s in self._objects.items() if k == kind and _has(s.item, labels)]
        return Listing(found, str(self._last))

    async def watch(self, kind: Kind, labels: Mapping[str, str], resource_version: str) -> AsyncGenerator[Change]:
        """What happens; never ends by itself."""
        self._check(kind)
        seen = int(resource_version)
        if seen < self._forgotten:
            raise WatchExpired(f"too old resource version: {seen} ({self._forgotten})")
        while True:
            told, events = self._told[kind], self._events[kind]
            for event in events[bisect_right(events, seen, key=lambda event: event.version) :]:
                if change := _as_seen(event, labels):
                    yield change
                seen = event.version
            await told.wait()

    async def read(self, kind: Kind, name: Name) -> Object | None:
        """The object."""
        self._check(kind)
        return self.find(kind, name)

    async def apply(self, kind: Kind, item: Object, *, subresource: str = "") -> Object:
        """As Headway."""
        return self.apply_as(MANAGER, kind, item, subresource=subresource)

    async def replace(self, kind: Kind, item: Object) -> Object:
        """As Headway."""
        return self.update_as(MANAGER, kind, item)

    async def delete(self, kind: Kind, name: Name, uid: str) -> None:
        """With what it controls."""
        self.writes += 1
        stored = self._objects.get((kind, name))
        if stored is not None and (not uid or uid_of(stored.item) == uid):
            self._remove(kind, name)

    # -- what others do ------------------------------------------------------------------------------

    def apply_as(self, manager: str, kind: Kind, item: Object, *, subresource: str = "") -> Object:
        """Server-side apply, forced."""
        self._check(kind)
        self.writes += 1
        name = name_of(item)
        stated = {k: v for k, v in item.items() if _belongs(k, subresource)}
        stored = self._objects.get((kind, name))
        owner = f"{manager}/{subresource}"
        owned = fields(stated)
        if stored is None:
            if subresource:
                raise StaleWrite(f"{kind.plural} {name} is not there any more")
            made = self._new(kind, stated, item)
            return self._store(kind, name, _Stored(made, {owner: owned}), "added", None)
        others = set[Path]().union(*(paths for who, paths in stored.owners.items() if who != owner))
        gone = stored.owners.get(owner, set()) - owned - others
        result = merged(without(stored.item, gone) if gone else stored.item, stated)
        owners = {
            who: {path for path in paths if path not in owned or value_at(stored.item, path) == value_at(result, path)}
            for who, paths in stored.owners.items()
        }
        return self._changed(kind, name, stored, result, {**owners, owner: owned}, subresource)

    def update_as(self, manager: str, kind: Kind, item: Object) -> Object:
        """Create or replace, ``status`` included, as a test's stand-in for controllers does."""
        self._check(kind)
        self.writes += 1
        name = name_of(item)
        stored = self._objects.get((kind, name))
        version = item["metadata"].get("resourceVersion")
        if stored is None:
            if version:
                raise StaleWrite(f"{kind.plural} {name} is not there any more")
            made = self._new(kind, item, item)
            return self._store(kind, name, _Stored(made, {manager: fields(made)}), "added", None)
        if version is None:
            raise StaleWrite(f"{kind.plural} {name} exists already")
        if version != stored.item["metadata"]["resourceVersion"]:
            raise StaleWrite(f"{kind.plural} {name} was changed since it was read")
        result = copy.deepcopy(dict(item))
        taken = differing(stored.item, result)
        kept = fields(result)
        owners = {who: (paths & kept) - taken for who, paths in stored.owners.items()}
        owners[manager] = owners.get(manager, set()) | taken
        return self._changed(kind, name, stored, result, owners, "")

    def find(self, kind: Kind, name: Name) -> dict[str, Any] | None:
        """A copy of the object, for the caller to change; None when there is none."""
        stored = self._objects.get((kind, name))
        return None if stored is None else copy.deepcopy(stored.item)

    def every(self, kind: Kind) -> list[Object]:
        """All objects of the kind."""
        return [stored.item for (k, _), stored in self._objects.items() if k == kind]

    def forget(self) -> None:
        """What happened until now can no longer be watched, as after a compaction."""
        self._forgotten = self._last
        self._events.clear()

    def owner_of(self, kind: Kind, name: Name, path: Path) -> set[str]:
        """The field managers that own a field."""
        return {who for who, paths in self._objects[kind, name].owners.items() if path in paths}

    # -- storage -------------------------------------------------------------------------------------

    def _check(self, kind: Kind) -> None:
        if kind in self.missing:
            raise KindMissing(f"the server knows no {kind}")

    def _new(self, kind: Kind, stated: Object, item: Object) -> dict[str, Any]:
        made = copy.deepcopy(dict(stated))
        made |= {"apiVersion": kind.api_version, "kind": kind.kind}
        made["metadata"] = {**copy.deepcopy(dict(item["metadata"])), "uid": f"uid-{self._last + 1}", "generation": 1}
        return made

    def _changed(
        self, kind: Kind, name: Name, stored: _Stored, result: dict[str, Any], owners: dict[str, set[Path]], sub: str
    ) -> Object:
        before = stored.item
        kept = {key: before["metadata"][key] for key in ("uid", "resourceVersion", "generation")}
        result["metadata"] = {**result["metadata"], **kept}
        if result == before:
            stored.owners = owners
            return before
        if {k: v for k, v in result.items() if k not in ("metadata", "status")} != {
            k: v for k, v in before.items() if k not in ("metadata", "status")
        }:
            result["metadata"]["generation"] += 1
        return self._store(kind, name, _Stored(result, owners), "modified", before)

    def _store(self, kind: Kind, name: Name, stored: _Stored, how: ChangeType, before: Object | None) -> Object:
        self._last = next(self._version)
        stored.item["metadata"]["resourceVersion"] = str(self._last)
        self._objects[kind, name] = stored
        self._tell(_Event(self._last, kind, how, stored.item, before))
        return stored.item

    def _remove(self, kind: Kind, name: Name) -> None:
        item = self._objects.pop((kind, name)).item
        self._last = next(self._version)
        last = {**item, "metadata": {**item["metadata"], "resourceVersion": str(self._last)}}
        self._tell(_Event(self._last, kind, "deleted", last, item))
        uid = uid_of(item)
        for other, held in list(self._objects.items()):
            owners = held.item["metadata"].get("ownerReferences") or ()
            if any(owner["uid"] == uid for owner in owners) and other in self._objects:
                self._remove(*other)

    def _tell(self, event: _Event) -> None:
        self._events[event.kind].append(event)
        self._told.pop(event.kind, asyncio.Event()).set()


def _belongs(key: str, subresource: str) -> bool:
    if key in ("apiVersion", "kind", "metadata"):
        return key == "metadata" and not subresource
    if subresource == "scale":
        return key == "spec"
    return (key == "status") == (subresource == "status")


def _has(item: Object, labels: Mapping[str, str]) -> bool:
    own = labels_of(item)
    return all(own.get(key) == value for key, value in labels.items())


def _as_seen(event: _Event, labels: Mapping[str, str]) -> Change | None:
    """What a watcher of ``labels`` sees of it: an object that loses them is deleted to its eyes."""
    now = event.type != "deleted" and _has(event.item, labels)
    then = event.before is not None and _has(event.before, labels)
    if now:
        return Change("modified" if then else "added", event.item)
    return Change("deleted", event.item) if then else None
