"""EventStream: what happens to a cluster's objects, told as events, each once and in order.

What events have told of an object is stored with them, in one transaction. Whatever is killed, and whatever a watch
left out, the next look at the object is compared with that: no transition is lost and none is told twice. Only the
leader tells; should two believe that they lead, the second one starts from a sighting that is not the last any more, is
refused, and goes on from the one that is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Final

from headway.cluster.transitions import TOLD_OF, facts_of, told_facts, transitions
from headway.control.event_relay import EventRelay
from headway.control.operator.cache import ObjectCache
from headway.domain.cluster_objects import Kind, Object, is_older, name_of, uid_of, version_of
from headway.domain.errors import HeadwayError, StaleWrite
from headway.domain.sightings import Facts, Sighting, Step
from headway.ports.clock import Clock
from headway.ports.sighting_store import SightingStore

_log = logging.getLogger(__name__)

PAGE: Final = 200
"""Steps in one transaction."""
MOST_WAITING: Final = 20_000
"""Steps that wait for the database; beyond it what matters is only where an object ends up."""
REMEMBERED_S: Final = 3600.0
"""How long an object that is gone is remembered: no operator's cache lags by more."""
_LAGGING_S: Final = 5.0
_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0


class EventStream:
    """A service beside the operators whose ``caches`` it looks into. ``relay`` runs while this one leads.

    ``open_store`` is awaited, again until it does not raise, before anything is asked of the store.
    ``namespace``: the one that the caches are limited to, None: all.
    """

    def __init__(
        self,
        store: SightingStore,
        caches: Mapping[Kind, ObjectCache],
        clock: Clock,
        leads: Callable[[], bool],
        *,
        open_store: Callable[[], Awaitable[None]],
        relay: EventRelay | None = None,
        namespace: str | None = None,
    ) -> None:
        self._store = store
        self._caches = {kind: cache for kind, cache in caches.items() if kind in TOLD_OF}
        self._clock = clock
        self._leads = leads
        self._open_store = open_store
        self._relay = relay
        self._namespace = namespace
        self._follows = False
        """Whether what is known here goes on from what is stored."""
        self._last: dict[str, Sighting] = {}
        """By uid: the last sighting, stored or waiting to be."""
        self._uids: dict[tuple[str, str, str], str] = {}
        """Of the objects that are there: by kind, namespace and name."""
        self._waiting: deque[Step] = deque()
        self._stale = False
        """Whether somebody else has stored what is not known here."""
        self._lags = False
        self._forgot_at = clock.monotonic()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def settled(self) -> bool:
        """Whether all that is known here is stored."""
        return self._follows and not self._waiting

    def wake(self) -> None:
        """The office was won or lost."""
        self._wake.set()

    def note(self, kind: Kind, item: Object) -> None:
        """An object changed, or is gone: then this is what it was."""
        if self._follows and kind in self._caches:
            held = self._caches[kind].get(name_of(item))
            gone = held is None or uid_of(held) != uid_of(item)
            self._look(kind, item, gone=gone, adopted=False)

    def start(self) -> None:
        """Begin to tell when this one leads; nothing when it does already."""
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="event stream")

    async def stop(self) -> None:
        """End; what waits is found again by whoever leads next."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        self._let_go()
        if self._relay is not None:
            await self._relay.stop()

    # -- the service ---------------------------------------------------------------------------------------

    async def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while True:
            self._wake.clear()
            try:
                if self._leads():
                    await self._tell()
                else:
                    await self._step_down()
                pause_s = _FIRST_PAUSE_S
                await self._changed()
            except StaleWrite as error:
                _log.info("%s; going on from there", error)
                self._stale = True
            except Exception as error:
                unexpected = not isinstance(error, HeadwayError)
                _log.error("events are not recorded: %s; again in %g s", error, pause_s, exc_info=unexpected)
                await self._clock.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _changed(self) -> None:
        waking = asyncio.create_task(self._wake.wait())
        timer = asyncio.create_task(self._clock.sleep(_LAGGING_S if self._lags else REMEMBERED_S))
        try:
            await asyncio.wait((waking, timer), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (waking, timer):
                task.cancel()
            await asyncio.wait((waking, timer))

    async def _tell(self) -> None:
        if self._stale:
            self._resume(await self._store.load())
        elif not self._follows:
            for cache in self._caches.values():
                await cache.wait_listed()
            await self._open_store()
            if self._relay is not None:
                await self._relay.start()
            self._resume(await self._store.load())
        elif self._lags:
            self._compare()
        while self._waiting and self._leads():
            steps = [self._waiting[place] for place in range(min(PAGE, len(self._waiting)))]
            await self._store.record(steps)
            if not self._follows:
                return
            for _ in steps:
                self._waiting.popleft()
        if self._clock.monotonic() - self._forgot_at > REMEMBERED_S:
            self._forgot_at = self._clock.monotonic()
            await self._forget()

    async def _forget(self) -> None:
        before = self._clock.now() - REMEMBERED_S
        await self._store.forget(before)
        self._last = {uid: one for uid, one in self._last.items() if one.gone_at is None or one.gone_at >= before}

    async def _step_down(self) -> None:
        self._let_go()
        if self._relay is not None:
            await self._relay.stop()

    def _let_go(self) -> None:
        self._follows = self._stale = self._lags = False
        self._waiting.clear()
        self._last.clear()
        self._uids.clear()

    # -- looking -------------------------------------------------------------------------------------------

    def _resume(self, stored: list[Sighting]) -> None:
        """Go on from what is stored: what waits and is younger follows it, and whatever is otherwise now."""
        waiting = [step.after for step in self._waiting]
        self._waiting.clear()
        self._last = {one.uid: one for one in stored}
        self._uids = {_place(one): one.uid for one in stored if one.facts is not None}
        self._follows, self._stale = True, False
        for after in waiting:
            before = self._last.get(after.uid)
            if before is not None and (before.facts is None or is_older(after.version, before.version)):
                continue
            if after.facts is not None:
                self._seen(before, after, after.facts, adopted=False)
            elif before is not None:
                self._gone(before, adopted=False)
        self._compare()

    def _compare(self) -> None:
        self._lags = False
        there: set[str] = set()
        for kind, cache in self._caches.items():
            for item in cache.all():
                there.add(uid_of(item))
                self._look(kind, item, gone=False, adopted=True)
        for sighting in [one for one in self._last.values() if one.facts is not None and one.uid not in there]:
            self._missed(sighting)

    def _missed(self, sighting: Sighting) -> None:
        """An object that is not there: gone, unless the cache has not come as far as the sighting."""
        cache = next((cache for kind, cache in self._caches.items() if kind.kind == sighting.kind), None)
        if cache is None or cache.installed is False or self._namespace not in (None, sighting.namespace):
            return
        if not cache.version or is_older(cache.version, sighting.version):
            self._lags = True
            return
        self._gone(sighting, adopted=True)

    def _look(self, kind: Kind, item: Object, *, gone: bool, adopted: bool) -> None:
        uid, name, version = uid_of(item), name_of(item), version_of(item)
        before = self._last.get(uid)
        if before is not None and (before.facts is None or is_older(version, before.version)):
            return
        if gone:
            if before is not None:
                self._gone(before, adopted=adopted)
            return
        if (facts := facts_of(kind, item)) is not None:
            after = Sighting(uid, kind.kind, name.namespace, name.name, version, facts)
            self._seen(before, after, facts, adopted=adopted)

    def _seen(self, before: Sighting | None, after: Sighting, facts: Facts, *, adopted: bool) -> None:
        facts = told_facts(before.facts if before is not None else None, facts)
        if before is not None and before.facts == facts:
            return
        earlier = self._uids.get(_place(after))
        if earlier is not None and earlier != after.uid:
            self._gone(self._last[earlier], adopted=adopted)  # another of its name has taken its place
        self._uids[_place(after)] = after.uid
        self._add(before, replace(after, facts=facts), adopted=adopted)

    def _gone(self, before: Sighting, *, adopted: bool) -> None:
        self._uids.pop(_place(before), None)
        self._add(before, replace(before, facts=None, gone_at=self._clock.now()), adopted=adopted)

    def _add(self, before: Sighting | None, after: Sighting, *, adopted: bool) -> None:
        if len(self._waiting) >= MOST_WAITING:
            _log.warning("%d changes wait for the database; later only where they led is told", MOST_WAITING)
            self._let_go()
            self._wake.set()
            return
        self._last[after.uid] = after
        self._waiting.append(Step(before, after, transitions(before, after, self._clock.now(), adopted=adopted)))
        self._wake.set()


def _place(sighting: Sighting) -> tuple[str, str, str]:
    return sighting.kind, sighting.namespace, sighting.name
