"""ObjectCache: the objects of one kind as the API server last told of them; nothing is asked for twice.

One list, then a watch that goes on from there, for as long as the server remembers. What is true of the stream is
not taken for granted: an event may come twice, late or not at all. A version older than the one held is dropped, also
for an object that is gone, and every :attr:`resync_s` the kind is listed again, which finds what was never told.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from typing import Final

from headway.domain.cluster_objects import (
    Kind,
    Name,
    Object,
    controller_of,
    is_older,
    name_of,
    version_of,
)
from headway.domain.errors import ClusterFailed, KindMissing, WatchExpired
from headway.ports.clock import Clock
from headway.ports.cluster import Cluster

_log = logging.getLogger(__name__)

RESYNC_S: Final = 1800.0
MISSING_S: Final = 60.0
"""How often a kind that the server does not know is asked for again: its CRD may be installed later."""
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
_GRAVES: Final = 10_000
"""Deleted objects whose last version is remembered."""


class ObjectCache:
    """A service. ``changed`` is called with the object, or with what it last was when it is gone."""

    def __init__(
        self,
        cluster: Cluster,
        kind: Kind,
        labels: Mapping[str, str],
        clock: Clock,
        changed: Callable[[Kind, Object], None],
        *,
        resync_s: float = RESYNC_S,
        belongs_to: Callable[[Object], str] = lambda item: str((controller_of(item) or {}).get("uid", "")),
    ) -> None:
        self.kind = kind
        self.installed: bool | None = None
        """Whether the server knows the kind; None until it was asked."""
        self._cluster = cluster
        self._labels = labels
        self._clock = clock
        self._changed = changed
        self._resync_s = resync_s
        self._belongs_to = belongs_to
        self._objects: dict[Name, Object] = {}
        self._children: dict[str, set[Name]] = defaultdict(set)
        self._graves: OrderedDict[Name, str] = OrderedDict()
        self._version = ""
        self._listed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    # -- what there is ---------------------------------------------------------------------------------

    @property
    def version(self) -> str:
        """The resource version up to which everything is known; empty while that is not known."""
        return self._version

    def get(self, name: Name) -> Object | None:
        """The object; None when there is none."""
        return self._objects.get(name)

    def all(self) -> list[Object]:
        """Every object."""
        return list(self._objects.values())

    def of(self, owner: str) -> list[Object]:
        """The objects that belong to ``owner``: by default those whose controller has this uid; by name."""
        return [self._objects[name] for name in sorted(self._children.get(owner, ()))]

    def note(self, item: Object) -> None:
        """What the server answered to a write: known here before the watch tells of it."""
        self._put(item)

    def note_deleted(self, item: Object) -> None:
        """The server took a delete of this object; should a finalizer hold it, the watch brings it back."""
        self._drop(name_of(item), version_of(item))

    # -- the service -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to follow; nothing when it does already."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"cache {self.kind.plural}")

    async def stop(self) -> None:
        """End; what is known stays."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def wait_listed(self) -> None:
        """Until the kind was listed once, or the server said that it does not know it."""
        await self._listed.wait()

    async def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        resync_at = self._clock.monotonic()
        while True:
            try:
                if not self._version or self._clock.monotonic() >= resync_at:
                    await self._list()
                    resync_at = self._clock.monotonic() + self._resync_s
                pause_s = _FIRST_PAUSE_S
                await self._watch(resync_at)
            except WatchExpired:
                self._version = ""
            except KindMissing as error:
                if self.installed is not False:
                    _log.info("%s", error)
                self.installed, self._version = False, ""
                self._listed.set()
                await self._clock.sleep(MISSING_S)
            except ClusterFailed as error:
                _log.warning("%s: %s; again in %g s", self.kind.plural, error, pause_s)
                await self._clock.sleep(_after_s(error, pause_s))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _list(self) -> None:
        listing = await self._cluster.listing(self.kind, self._labels)
        self.installed = True
        gone = set(self._objects) - {name_of(item) for item in listing.objects}
        for name in gone:
            # A write of our own that is younger than the list is in the cache already.
            if not is_older(listing.resource_version, version_of(self._objects[name])):
                self._drop(name, listing.resource_version)
        for item in listing.objects:
            self._put(item)
        self._version = listing.resource_version
        self._listed.set()

    async def _watch(self, until: float) -> None:
        """Until the server ends the watch, or ``until`` on the clock."""
        following = asyncio.create_task(self._follow())
        timer = asyncio.create_task(self._clock.sleep(until - self._clock.monotonic()))
        try:
            await asyncio.wait((following, timer), return_when=asyncio.FIRST_COMPLETED)
            if following.done():
                following.result()
                # A server that hangs up at once is not asked again at once.
                await self._clock.sleep(_FIRST_PAUSE_S)
        finally:
            for task in (following, timer):
                task.cancel()
            await asyncio.wait((following, timer))

    async def _follow(self) -> None:
        async with contextlib.aclosing(self._cluster.watch(self.kind, self._labels, self._version)) as changes:
            async for change in changes:
                if change.type == "deleted":
                    self._drop(name_of(change.object), version_of(change.object))
                elif change.type != "bookmark":
                    self._put(change.object)
                if not is_older(version_of(change.object), self._version):
                    self._version = version_of(change.object)

    def _put(self, item: Object) -> None:
        name, version = name_of(item), version_of(item)
        held = self._objects.get(name)
        if held is not None and (version == version_of(held) or is_older(version, version_of(held))):
            return
        grave = self._graves.get(name)
        if version == grave or (grave is not None and is_older(version, grave)):
            return
        if held is not None:
            self._unlink(held)
        self._objects[name] = item
        if owner := self._belongs_to(item):
            self._children[owner].add(name)
        self._changed(self.kind, item)

    def _drop(self, name: Name, version: str) -> None:
        held = self._objects.get(name)
        if held is not None and is_older(version, version_of(held)):
            return
        self._graves[name] = version
        self._graves.move_to_end(name)
        if len(self._graves) > _GRAVES:
            self._graves.popitem(last=False)
        if held is not None:
            del self._objects[name]
            self._unlink(held)
            self._changed(self.kind, held)

    def _unlink(self, item: Object) -> None:
        if owner := self._belongs_to(item):
            self._children[owner].discard(name_of(item))
            if not self._children[owner]:
                del self._children[owner]


def _after_s(error: ClusterFailed, pause_s: float) -> float:
    return max(pause_s, float(error.details.get("retry_after_s", 0)))
