"""The story of a rollout: events in, one line of progress per step out. Pure, but for the callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from headway.api.schemas import EventView, ModelView
from headway.client.progress import Progress, Stage, State
from headway.domain.events import EventType


class Story:
    """Turns events into :class:`Progress`; each stage begins and ends once, whatever is told twice.

    ``version``: only events of this version (and of the split) belong to it; None: all of the model's do.
    """

    def __init__(self, version: str | None, progress: Callable[[Progress], None] | None) -> None:
        self._version = version
        self._progress = progress
        self._stage: Stage = "environment"
        self._begun: set[Stage] = set()
        self._ended: set[Stage] = set()
        self._ready: set[str] = set()
        self.replicas = 1
        """Wished for each version."""

    def tell(self, event: EventView) -> None:
        """Take the next event."""
        ours = self._version is None or event.version == self._version
        if event.type == EventType.TRAFFIC_SHIFTED:
            self._end("ready", self._counted())
            self._end("route", f"traffic: {_weights(event.data.get('new'))}", whole=True)
        elif not ours or event.version is None:
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
                self._end(stage, f"{view.name} is {view.state}")

    def draining(self, versions: list[str]) -> None:
        """Old versions still finish what they have."""
        self._say("drain", "running", f"{', '.join(versions)} answers what it has")

    def drained(self, *, finished: bool) -> None:
        """They are done; or waiting for them is over and they finish by themselves."""
        self._end("drain", "done" if finished else "goes on in the background", whole=True)

    def _tell_version(self, event: EventView, version: str) -> None:
        if event.type == EventType.VERSION_BUILDING:
            self._say("environment", "running", f"building the environment of {version}")
        elif event.type == EventType.VERSION_ENVIRONMENT_READY:
            self._end("environment", _environment(event.data), whole=True)
        elif event.type == EventType.VERSION_STARTING:
            self._say("start", "running", f"starting {_count(self.replicas)} of {version}")
        elif event.type == EventType.VERSION_LIVE:
            self._end("ready", self._counted())

    def _tell_replica(self, event: EventView, replica: str) -> None:
        if event.type == EventType.REPLICA_STARTED:
            self._say("start", "running", f"{replica} loads the model")
        elif event.type == EventType.REPLICA_READY:
            self._ready.add(replica)
            self._end("start", f"{replica} has loaded the model")
            self._say("ready", "running", self._counted())
        elif event.type in (EventType.REPLICA_EXITED, EventType.REPLICA_FAILED, EventType.REPLICA_UNREADY):
            self._ready.discard(replica)
            failure = event.data.get("failure") or {}
            why = failure.get("message") or event.data.get("reason") or event.data.get("phase")
            self._say(self._stage, "running", f"{replica}: {why}")

    def _counted(self) -> str:
        return f"{len(self._ready)} of {_count(max(self.replicas, len(self._ready)))} ready"

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
