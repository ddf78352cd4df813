"""Pods on a faked API server, somebody who plays their kubelets, and operators that tell what happens to them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

from headway.cluster.transitions import facts_of, told_facts, transitions
from headway.control.event_relay import EventRelay
from headway.control.operator.event_stream import EventStream
from headway.domain.cluster_objects import POD, Kind, Name, Object, name_of, version_of
from headway.domain.events import Event
from headway.domain.sightings import Sighting
from headway.ports.event_log import EventLog
from headway.ports.sighting_store import SightingStore
from tests.services.kubernetes_api import KubernetesApi
from tests.services.model_world import Looking, operating
from tests.waiting import eventually

LABELS = {"app.kubernetes.io/managed-by": "headway", "headway.dev/model": "iris", "headway.dev/version": "v1"}


@asynccontextmanager
async def telling(
    api: KubernetesApi,
    store: SightingStore,
    identity: str = "one",
    *,
    leads: Callable[[], bool] | None = None,
    relay: EventRelay | None = None,
    resync_s: float = 1800.0,
    namespace: str | None = None,
    open_store: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[EventStream]:
    """An operator process that records events; ``leads`` in place of the lease."""

    async def opened() -> None:
        return None

    async with operating(api, identity, resync_s=resync_s) as looking:
        caches = {kind: cache for one in looking.operators for kind, cache in one.caches.items()}
        stream = EventStream(
            store,
            caches,
            looking.leader._clock,
            leads or (lambda: looking.leader.leads),
            open_store=open_store or opened,
            relay=relay,
            namespace=namespace,
        )
        for one in looking.operators:
            one.on_change = stream.note
        _tell_both(looking, stream)
        stream.start()
        try:
            yield stream
        finally:
            await stream.stop()


def _tell_both(looking: Looking, stream: EventStream) -> None:
    look = looking.leader._changed

    def changed() -> None:
        look()
        stream.wake()

    looking.leader._changed = changed
    stream.wake()


class Kubelet:
    """Makes things happen to pods, and remembers every state that each was in."""

    def __init__(self, api: KubernetesApi, seed: int = 0) -> None:
        self.api = api
        self.draw = random.Random(seed)
        self.history: dict[str, list[Object]] = {}
        """By uid."""
        self._second = 0

    def start(self, name: str) -> Name:
        """A pod that runs."""
        owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "iris-v1-5d", "uid": "u-rs", "controller": True}
        metadata = {"name": name, "namespace": "models", "labels": LABELS, "ownerReferences": [owner]}
        item = self.api.cluster.update_as(
            "kubelet", POD, {"metadata": metadata, "spec": {}, "status": self._running(0)}
        )
        self._remember(item)
        return name_of(item)

    def ready(self, name: Name) -> None:
        self._status(name, lambda status: {**status, "conditions": [self._condition("True")]})

    def unready(self, name: Name) -> None:
        self._status(name, lambda status: {**status, "conditions": [self._condition("False")]})

    def crash(self, name: Name) -> None:
        """Its process ends, and is started again later."""

        def ended(status: dict[str, Any]) -> dict[str, Any]:
            (container,) = status["containerStatuses"]
            waits = {"waiting": {"reason": "CrashLoopBackOff"}}
            last = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": self._moment()}}
            return {
                "containerStatuses": [{**container, "state": waits, "lastState": last}],
                "conditions": [self._condition("False")],
            }

        self._status(name, ended)

    def restart(self, name: Name) -> None:
        self._status(name, lambda status: self._running(status["containerStatuses"][0]["restartCount"] + 1))

    def leave(self, name: Name) -> None:
        item = self.api.cluster.find(POD, name)
        assert item is not None
        item["metadata"]["deletionTimestamp"] = self._moment()
        self._remember(self.api.cluster.update_as("kubelet", POD, item))

    async def remove(self, name: Name) -> None:
        await self.api.cluster.delete(POD, name, "")

    def anything(self, name: Name) -> None:
        """One thing that may happen next."""
        item = self.api.cluster.find(POD, name)
        assert item is not None
        if "running" not in item["status"]["containerStatuses"][0]["state"]:
            self.restart(name)
        else:
            self.draw.choice([self.ready, self.unready, self.crash])(name)

    def expected(self) -> list[str | None]:
        """The keys of all that was to be told of the pods, by those who missed nothing; without their end."""
        found: list[str | None] = []
        for uid, looks in self.history.items():
            before: Sighting | None = None
            for item in looks:
                facts = facts_of(POD, item)
                assert facts is not None
                name, known = name_of(item), before.facts if before is not None else None
                after = Sighting(uid, "Pod", name.namespace, name.name, version_of(item), told_facts(known, facts))
                found += [event.key for event in transitions(before, after, 0.0)]
                before = after
        return found

    def _running(self, restarts: int) -> dict[str, Any]:
        state = {"running": {"startedAt": self._moment()}}
        container = {"name": "model", "restartCount": restarts, "state": state}
        return {"containerStatuses": [container], "conditions": [self._condition("False")]}

    def _condition(self, status: str) -> dict[str, str]:
        return {"type": "Ready", "status": status, "lastTransitionTime": self._moment()}

    def _moment(self) -> str:
        self._second += 1
        return f"2026-11-30T{self._second // 3600:02}:{self._second // 60 % 60:02}:{self._second % 60:02}Z"

    def _status(self, name: Name, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        item = self.api.cluster.find(POD, name)
        assert item is not None
        self._remember(self.api.cluster.update_as("kubelet", POD, {**item, "status": change(item["status"])}))

    def _remember(self, item: Object) -> None:
        self.history.setdefault(item["metadata"]["uid"], []).append(item)


async def caught_up(api: KubernetesApi, store: SightingStore, *streams: EventStream, kind: Kind = POD) -> None:
    """Until what is stored of the objects of a kind is what there is."""

    async def done() -> bool:
        stored = {one.uid: one.facts for one in await store.load() if one.kind == kind.kind and one.facts is not None}
        there = {item["metadata"]["uid"]: facts_of(kind, item) for item in api.cluster.every(kind)}
        same = stored.keys() == there.keys() and all(
            told_facts(stored[uid], facts) == stored[uid] for uid, facts in there.items() if facts is not None
        )
        return same and all(stream.settled for stream in streams)

    fact: Callable[[], bool | Awaitable[bool]] = done
    await eventually(fact, 60, what="all is recorded")


async def replica_events(log: EventLog) -> list[Event]:
    return [one for one in await log.read(limit=100_000) if one.type.startswith("replica_")]


def short(events: Sequence[Event], replica: str | None = None) -> list[str]:
    return [
        one.type.removeprefix("replica_").removesuffix(".v1")
        for one in events
        if replica is None or one.replica == replica
    ]


def disorder(events: Sequence[Event]) -> list[str]:
    """What cannot have happened one after the other; empty when all is in order."""
    keys = [one.key for one in events]
    found = [f"{key} twice" for key in set(keys) if keys.count(key) > 1]
    by_object: dict[str, list[str]] = {}
    for one in events:
        by_object.setdefault(str(one.key).partition("/")[0], []).extend(short([one]))
    for uid, told in by_object.items():
        if told[0] != "started":
            found.append(f"{uid} begins with {told[0]}")
        runs = [one for one in told if one in ("started", "exited")]
        found += [f"{uid}: {one} after {one}" for one, two in pairwise(runs) if one == two]
        turns = [one for one in told if one != "started"]
        found += [f"{uid}: {one} after {two}" for one, two in pairwise(turns) if one == two == "ready"]
        found += [
            f"{uid}: something after its end" for place, one in enumerate(told[:-1]) if one == "stopped" and place
        ]
    return found
