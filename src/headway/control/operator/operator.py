"""Operator: makes the objects of a cluster what ModelDeployments say they should be, and says how far it is.

Level-triggered: each look at a deployment renders all that it wants from what is there now, compares, and writes the
difference. Nothing is remembered between looks, so a crash between any two writes is mended by the next look, and a
cluster that is as wanted is not written to. Only the leader writes.

``render`` is pure: the deployment and the objects that it controls in, all wanted objects and the status out.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Final

from headway.cluster.elastic import Scaled
from headway.control.operator.cache import RESYNC_S, ObjectCache
from headway.control.operator.leader import Leader
from headway.control.operator.work_queue import WorkQueue
from headway.domain.cluster_drift import says, stamped
from headway.domain.cluster_objects import DEPLOYMENT, Kind, Name, Object, controller_of, labels_of, name_of, uid_of
from headway.domain.errors import ClusterRefused, HeadwayError, KindMissing, StaleWrite
from headway.ports.clock import Clock
from headway.ports.cluster import Cluster

_log = logging.getLogger(__name__)

REFUSED_AGAIN_S: Final = 60.0
"""A refused object is tried again this much later: a quota may have been raised meanwhile."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """All that a deployment wants of the cluster, in the order in which it is made, and its status then."""

    objects: Sequence[tuple[Kind, Object]] | None
    """None: what is there stays as it is."""
    status: Mapping[str, Any]
    claim: Object | None = None
    """The deployment as it is to be replaced before anything else is written, and looked at again; refused when it was
    changed since."""
    again_s: float | None = None
    """When to look again although nothing has changed."""
    scaled: Scaled | None = None
    """None: Headway's own loop has no say."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What stood in the way of the writes of a look, for the status."""

    where: str
    message: str


class Children:
    """The objects that a deployment controls, by kind, and those that only belong to it by their labels."""

    def __init__(
        self, caches: Mapping[Kind, ObjectCache], uid: str, followed: Mapping[Kind, ObjectCache], name: Name
    ) -> None:
        self._caches = caches
        self._uid = uid
        self._followed = followed
        self._name = name

    def of(self, kind: Kind) -> list[Object]:
        """Those of one kind, by name."""
        if kind in self._followed:
            return self._followed[kind].of(str(self._name))
        return self._caches[kind].of(self._uid) if kind in self._caches else []


Render = Callable[[Object, Children, Sequence[Failure], float], Wanted]
"""``render(deployment, children, failures, now)``; called again with what failed, for the status that tells of it."""


class Operator:
    """A service. ``owner`` is the kind that wants, ``kinds`` are those that it may want, by the labels of ours.

    ``followed`` kinds are made by others on its behalf, and never written to; the label named is that of their owner.
    ``looked`` is told what came of every look; None: there is no such resource any more, or soon.
    """

    def __init__(
        self,
        cluster: Cluster,
        clock: Clock,
        leader: Leader,
        render: Render,
        *,
        owner: Kind,
        kinds: Sequence[Kind],
        labels: Mapping[str, str],
        followed: Mapping[Kind, str] = MappingProxyType({}),
        looked: Callable[[Name, Wanted | None], None] = lambda name, wanted: None,
        workers: int = 4,
        resync_s: float = RESYNC_S,
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._leader = leader
        self._render = render
        self._looked = looked
        self._owner = owner
        self._owners = ObjectCache(cluster, owner, {}, clock, self._owner_changed, resync_s=resync_s)
        self._caches = {
            kind: ObjectCache(cluster, kind, labels, clock, self._child_changed, resync_s=resync_s) for kind in kinds
        }
        self._followed = {
            kind: ObjectCache(
                cluster, kind, labels, clock, partial(self._followed_changed, label), resync_s=resync_s,
                belongs_to=partial(_owner_by_label, label),
            )
            for kind, label in followed.items()
        }  # fmt: skip
        self._queue = WorkQueue(clock, self._look, self._failed, workers=workers)
        self._started = False
        self.on_change: Callable[[Kind, Object], None] = lambda _kind, _item: None
        """Called with every object that changed, or as it last was when it is gone."""

    @property
    def idle(self) -> bool:
        """Whether all that is known was looked at."""
        return self._queue.idle

    async def start(self) -> None:
        """Learn what there is, then work; nothing when it does already."""
        if self._started:
            return
        self._started = True
        for cache in self._all_caches():
            cache.start()
        for cache in self._all_caches():
            await cache.wait_listed()
        self._queue.start()
        self.look_at_all()

    async def stop(self) -> None:
        """End, whatever it is in; the next start goes on from what the cluster says."""
        self._started = False
        await self._queue.stop()
        for cache in self._all_caches():
            await cache.stop()

    def _all_caches(self) -> list[ObjectCache]:
        return [self._owners, *self._caches.values(), *self._followed.values()]

    def look_at(self, name: Name) -> None:
        """Look at one deployment as soon as possible."""
        self._queue.add(name)

    @property
    def caches(self) -> Mapping[Kind, ObjectCache]:
        """What is known of each kind."""
        return {cache.kind: cache for cache in self._all_caches()}

    def look_at_all(self) -> None:
        """Look at every deployment, as when the office was just won."""
        for item in self._owners.all():
            self._queue.add(name_of(item))

    # -- one look --------------------------------------------------------------------------------------

    async def _look(self, name: Name) -> float | None:
        owner = self._owners.get(name)
        if owner is None or owner["metadata"].get("deletionTimestamp"):
            self._looked(name, None)
            return None  # what a deleted deployment controlled is the garbage collector's
        if not self._leader.leads:
            return None
        children = Children(self._caches, uid_of(owner), self._followed, name)
        wanted = self._render(owner, children, (), self._clock.now())
        if wanted.claim is not None:
            self._owners.note(await self._cluster.replace(self._owner, wanted.claim))
            self._queue.add(name)
            return None
        self._looked(name, wanted)
        failures = await self._write(owner, wanted.objects) if wanted.objects is not None else []
        failures += await self._scale(wanted)
        if failures:
            wanted = self._render(owner, children, failures, self._clock.now())
        await self._tell(owner, wanted.status)
        return REFUSED_AGAIN_S if failures else wanted.again_s

    async def _write(self, owner: Object, wanted: Sequence[tuple[Kind, Object]]) -> list[Failure]:
        failures: list[Failure] = []
        kept: set[tuple[Kind, Name]] = set()
        for kind, item in wanted:
            name = name_of(item)
            kept.add((kind, name))
            if self._caches[kind].installed is False:
                failures.append(Failure(f"{kind.kind} {name.name}", f"the cluster does not know {kind}"))
                continue
            live = self._caches[kind].get(name)
            if live is not None and (held := controller_of(live)) and held.get("uid") != uid_of(owner):
                failures.append(Failure(f"{kind.kind} {name.name}", f"belongs to {held['kind']} {held['name']}"))
                continue
            full = stamped(item)
            if live is not None and says(live, full):
                continue
            if not self._leader.leads:
                return failures
            try:
                self._caches[kind].note(await self._cluster.apply(kind, full))
            except ClusterRefused as error:
                failures.append(Failure(f"{kind.kind} {name.name}", error.message))
        for kind, cache in self._caches.items():
            for item in cache.of(uid_of(owner)):
                if (kind, name_of(item)) not in kept and not item["metadata"].get("deletionTimestamp"):
                    if not self._leader.leads:
                        return failures
                    await self._cluster.delete(kind, name_of(item), uid_of(item))
                    cache.note_deleted(item)
        return failures

    async def _scale(self, wanted: Wanted) -> list[Failure]:
        scaled = wanted.scaled
        if scaled is None or scaled.target is None or scaled.scale is None or not self._leader.leads:
            return []
        metadata = {"namespace": scaled.target.namespace, "name": scaled.target.name}
        try:
            scale = {"metadata": metadata, "spec": {"replicas": scaled.scale}}
            await self._cluster.apply(DEPLOYMENT, scale, subresource="scale")
        except (ClusterRefused, KindMissing, StaleWrite) as error:
            return [Failure(f"Deployment {scaled.target.name}", error.message)]
        return []

    async def _tell(self, owner: Object, status: Mapping[str, Any]) -> None:
        if not says(owner.get("status"), status) and self._leader.leads:
            metadata = {key: owner["metadata"][key] for key in ("name", "namespace")}
            self._owners.note(
                await self._cluster.apply(self._owner, {"metadata": metadata, "status": status}, subresource="status")
            )

    # -- what happened -----------------------------------------------------------------------------------

    def _owner_changed(self, kind: Kind, item: Object) -> None:
        self._queue.add(name_of(item))
        self.on_change(kind, item)

    def _child_changed(self, kind: Kind, item: Object) -> None:
        owner = controller_of(item)
        if owner is not None and owner.get("kind") == self._owner.kind:
            self._queue.add(Name(name_of(item).namespace, str(owner["name"])))
        self.on_change(kind, item)

    def _followed_changed(self, label: str, kind: Kind, item: Object) -> None:
        if model := labels_of(item).get(label):
            self._queue.add(Name(name_of(item).namespace, model))
        self.on_change(kind, item)

    def _failed(self, name: Name, error: Exception, again_s: float) -> None:
        level = logging.WARNING if isinstance(error, HeadwayError) else logging.ERROR
        _log.log(level, "%s: %s; again in %g s", name, error, again_s, exc_info=level == logging.ERROR)


def _owner_by_label(label: str, item: Object) -> str:
    model = labels_of(item).get(label)
    return str(Name(name_of(item).namespace, model)) if model else ""
