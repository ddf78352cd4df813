"""The story of a rollout: events in, one line of progress per step out. Pure, but for the callback."""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import Any

from headway.api.schemas import EventView, ModelView
from headway.client.progress import Progress, Stage, State
from headway.domain.events import EventType


class Story:
    """Turns events into :class:`Progress`; each stage begins and ends once, whatever is told twice.

    ``versions``: the versions it is about, as far as they are known by now.
    """

    def __init__(self, versions: Set[str], progress: Callable[[Progress], None] | None) -> None:
        self._versions = versions
        self._progress = progress
        self._stage: Stage = "environment"
        self._begun: set[Stage] = set()
        self._ended: set[Stage] = set()
        self._ready: set[str] = set()
        self._wishes: dict[str, int] = {}
        self._draining = ""

    def look(self, view: ModelView) -> None:
        """Take how things stand, for what no event tells: how many replicas are wished, and were ready before."""
        self._wishes = {version: wished(view, version) for version in self._versions}
        self._ready = {r.name for r in view.replica_list if r.ready and r.version in self._versions}

    def tell(self, event: EventView) -> None:
        """Take the next event."""
        if event.type == EventType.TRAFFIC_SHIFTED:
            self._end("ready", self._counted())
            self._end("route", f"traffic: {_weights(event.data.get('new'))}", whole=True)
        elif event.version is None or event.version not in self._versions:
            return
        elif event.type == EventType.VERSION_FAILED:
            failure = event.data.get("failure") or {}
            self._say(self._stage, "failed", str(failure.get("message") or f"{event.version} failed"))
        elif event.replica is not None:
            self._tell_replica(event, event.replica)
        else:
            self._tell_version(event, event.version)

    def arrived(self, view: ModelView) -> None:
        """The end is reached, whether or not an event has told so: close what is open."""
        for stage in ("environment", "start", "ready", "route"):
            if stage in self._begun:
                self._end(stage, self._counted() if stage == "ready" else f"{view.name} is {view.state}")

    def draining(self, versions: list[str]) -> None:
        """Old versions still finish what they have."""
        self._draining = " and ".join(versions)
        self._say("drain", "running", f"{self._draining}: finishing requests in flight")

    def drained(self, *, finished: bool) -> None:
        """They are done; or waiting for them is over and they finish by themselves."""
        how = "stopped" if finished else "still finishing, in the background"
        self._end("drain", f"{self._draining}: {how}", whole=True)

    def _tell_version(self, event: EventView, version: str) -> None:
        if event.type == EventType.VERSION_BUILDING:
            self._say("environment", "running", f"building the environment of {version}")
        elif event.type == EventType.VERSION_ENVIRONMENT_READY:
            self._end("environment", _environment(event.data), whole=True)
        elif event.type == EventType.VERSION_STARTING:
            self._say("start", "running", f"starting {_count(self._wishes.get(version, 1))} of {version}")
        elif event.type == EventType.VERSION_LIVE:
            self._end("ready", self._counted())

    def _tell_replica(self, event: EventView, replica: str) -> None:
        if event.type == EventType.REPLICA_STARTED:
            self._say("start", "running", f"{replica} loads the model")
        elif event.type == EventType.REPLICA_READY:
            self._ready.add(replica)
            self._end("start", f"{replica} has loaded the model")
            if len(self._ready) < self._wished:
                self._say("ready", "running", self._counted())
            else:
                self._end("ready", self._counted(), whole=True)
        elif event.type in (EventType.REPLICA_EXITED, EventType.REPLICA_FAILED, EventType.REPLICA_UNREADY):
            self._ready.discard(replica)
            failure = event.data.get("failure") or {}
            why = failure.get("message") or event.data.get("reason") or event.data.get("phase")
            self._say(self._stage, "running", f"{replica}: {why}")

    def _counted(self) -> str:
        return f"{min(len(self._ready), self._wished)} of {_count(self._wished)} ready"

    @property
    def _wished(self) -> int:
        return sum(self._wishes.values()) if self._wishes else 1

    def _end(self, stage: Stage, text: str, *, whole: bool = False) -> None:
        """``stage`` is done. ``whole``: also when it was never told to have begun."""
        if stage not in self._ended and (whole or stage in self._begun):
            self._ended.add(stage)
            self._say(stage, "done", text)

    def _say(self, stage: Stage, state: State, text: str) -> None:
        if state == "running" and stage in self._ended:
            return
        self._stage = stage
        self._begun.add(stage)
        if self._progress is not None:
            self._progress(Progress(stage, state, text))


def wished(view: ModelView, version: str) -> int:
    """Wished replicas of ``version``."""
    found = next((v.wished for v in view.versions if v.name == version), None)
    return view.replicas if found is None else found


def _count(replicas: int) -> str:
    return f"{replicas} replica" if replicas == 1 else f"{replicas} replicas"


def _environment(data: dict[str, Any]) -> str:
    if data.get("lock") is None:
        return "no requirements: Headway's own environment"
    return "environment as before" if data.get("cached") else "requirements installed"


def _weights(split: object) -> str:
    if not isinstance(split, dict):
        return "shifted"
    return ", ".join(f"{version} {weight} %" for version, weight in split.items()) or "none"
