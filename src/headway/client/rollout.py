"""Following a rollout to its end, over whatever happens to the connection meanwhile.

Two sources, each good for what the other is not. The *events* after a cursor tell the story (and why a version
failed); the model's *view* tells whether the end is reached. The view counts only once every event up to it is read:
a rollout that failed has returned to what was, which by itself looks like a success.

The stream of events is left after a few seconds without any, the view is read, and the stream resumed at the last
cursor; so a lost event, a broken connection and a control plane that is restarted are one and the same case. Nothing
here changes anything: whoever stops waiting stops nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Final

from headway.api.schemas import ArmView, EventView, ModelView
from headway.client.connection import CONTROL, Connection
from headway.client.progress import Progress
from headway.client.story import Story, wished
from headway.client.wire import events_of, failure_of, view_of, views_of
from headway.domain.errors import (
    Conflict,
    ControlUnreachable,
    DeadlineExceeded,
    HeadwayError,
    ModelNotFound,
    StartTimeout,
)
from headway.domain.events import EventType

SILENCE_S: Final = 3.0
"""Without a sign for so long, the view is asked."""
RETRY_S: Final = 0.25
PAGE: Final = 1000
DRAIN_S: Final = 10.0
"""Old versions may take as long as their slowest request; nobody has to wait for that here."""


@dataclass(frozen=True, slots=True)
class Time:
    """How a rollout measures its time limit and pauses between attempts."""

    now: Callable[[], float] = time.monotonic
    pause: Callable[[float], None] = time.sleep


class Rollout:
    """One model's way to what was asked for at ``cursor``.

    ``version``: the version it is about; None for a change of traffic or scale. ``beside``: others deployed with it.
    """

    def __init__(
        self,
        connection: Connection,
        model: str,
        *,
        cursor: int,
        timeout_s: float,
        version: str | None = None,
        beside: Collection[str] = (),
        progress: Callable[[Progress], None] | None = None,
        time: Time | None = None,
    ) -> None:
        self._connection = connection
        self._model = model
        self._cursor = cursor
        self._version = version
        self._time = time or Time()
        self._timeout_s = timeout_s
        self._ends_at = self._time.now() + timeout_s
        self._named = beside if version is None else {version, *beside}
        self._ours = set(self._named)
        """Versions that what was asked for needs; one of them failing is the end of it."""
        self._story = Story(self._ours, progress)
        self._seen: ModelView | None = None
        self._failed_beside: HeadwayError | None = None
        """Why another version failed, which may have called off a split that names both."""

    def wait(self) -> ModelView:
        """Wait until it is reached; the model then.

        Raises the error of a version that failed, ``StartTimeout``, ``ModelNotFound`` when the model is deleted
        meanwhile, ``Conflict`` when somebody asked for something else.
        """
        view = self._follow(self._reached, self._ends_at)
        if view is None:
            raise self._too_late()
        self._story.arrived(view)
        return self._drain(view)

    def wait_deleted(self) -> None:
        """Wait until the model is gone. Raises ``StartTimeout``."""
        try:
            if self._follow(lambda view: False, self._ends_at) is None:
                raise self._too_late()
        except ModelNotFound:
            return

    def _drain(self, view: ModelView) -> ModelView:
        if not _leaving(view):
            return view
        self._story.draining(_leaving(view))
        until = min(self._ends_at, self._time.now() + DRAIN_S)
        done = self._follow(lambda view: not _leaving(view), until)
        self._story.drained(finished=done is not None)
        return done or view

    def _follow(self, reached: Callable[[ModelView], bool], until: float) -> ModelView | None:
        """The first view that is ``reached``; None when ``until`` comes before."""
        while True:
            try:
                view = self._look()
                self._catch_up()
                if reached(view):
                    return view
                self._listen(until)
            except (ControlUnreachable, DeadlineExceeded):
                self._time.pause(RETRY_S)  # restarting, perhaps
                self._connection.find_again()
            if self._time.now() >= until:
                return None

    def _look(self) -> ModelView:
        view = view_of(ModelView, self._connection.ask("GET", f"/v1/models/{self._model}"), CONTROL)
        if self._seen is None and self._version is None:
            self._ours.update(arm.version for arm in view.target)
        self._seen = view
        self._story.look(view)
        return view

    def _catch_up(self) -> None:
        for event in pages(self._connection, after=self._cursor, model=self._model):
            self._take(event)

    def _listen(self, until: float) -> None:
        """Take events until one says that looking is worth while, or none comes for a time."""
        silence = max(min(SILENCE_S, until - self._time.now()), 0.05)
        headers = {"Accept": "text/event-stream", "Last-Event-ID": str(self._cursor)}
        try:
            with self._connection.stream(
                "/v1/events", params={"model": self._model}, headers=headers, silence_s=silence
            ) as chunks:
                for event in events_of(chunks, CONTROL):
                    if event is not None:
                        self._take(event)
                    if event is not None and event.type in _TELLING:
                        return
                    if self._time.now() >= until:
                        return
        except DeadlineExceeded:
            return

    def _take(self, event: EventView) -> None:
        self._cursor = event.cursor
        if event.type == EventType.TRAFFIC_REQUESTED and self._version is None:
            # It may have failed before the first look, and the model be back at what was.
            self._ours.update(event.data.get("new") or {})
        self._story.tell(event)
        if event.type == EventType.VERSION_FAILED and event.version is not None:
            failure = failure_of(event.data.get("failure") or {}, self._model, event.version)
            if event.version in self._ours:
                raise failure
            self._failed_beside = failure
        if event.type == EventType.DEPLOYMENT_DELETED:
            raise ModelNotFound(f"model {self._model} was deleted")

    def _reached(self, view: ModelView) -> bool:
        if self._version is not None:
            self._check_still_wished(view, self._version)
        return settled(view) and all(is_live(view, name) for name in self._named)

    def _check_still_wished(self, view: ModelView, name: str) -> None:
        version = next((v for v in view.versions if v.name == name), None)
        if version is not None and version.state == "failed":
            told = version.failure.model_dump() if version.failure is not None else {}
            raise failure_of(told, self._model, name)
        shadow = view.shadow.version if view.shadow is not None else None
        if name != shadow and name not in {arm.version for arm in view.target}:
            if self._failed_beside is not None:
                raise self._failed_beside
            wished = split_text(view.target) or "nothing"
            raise Conflict(
                f"{self._model} {name} is no longer asked for: the traffic goes to {wished}",
                hint=f"headway events --model {self._model} tells since when",
            )

    def _too_late(self) -> StartTimeout:
        view = self._seen
        state = f"{view.state}: {view.message}" if view is not None and view.message else ""
        state = state or (view.state if view is not None else "unknown, as the control API did not answer")
        what = f"{self._model} {self._version}" if self._version is not None else self._model
        details = {"model": self._model, **({"version": self._version} if self._version is not None else {})}
        return StartTimeout(
            f"{what} is not there yet after {self._timeout_s:g} s; its state is {state}",
            hint=f"it goes on by itself: headway status {self._model}",
            details=details,
        )


def pages(connection: Connection, *, after: int, model: str | None) -> Iterator[EventView]:
    """Every event above ``after`` that there is by now, in order."""
    while True:
        params = {"after": after, "limit": PAGE, "model": model}
        page = views_of(EventView, connection.ask("GET", "/v1/events", params=params), CONTROL)
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1].cursor


def follow(connection: Connection, *, after: int, model: str | None, give_up_s: float = 60.0) -> Iterator[EventView]:
    """Every event above ``after``, for ever; broken streams are resumed.

    Raises ``ControlUnreachable`` when nothing has answered for ``give_up_s``, at once when nothing ever did.
    """
    clock, answered_at = Time(), None
    while True:
        try:
            headers = {"Accept": "text/event-stream", "Last-Event-ID": str(after)}
            with connection.stream("/v1/events", params={"model": model}, headers=headers, silence_s=45.0) as chunks:
                answered_at = clock.now()
                for event in events_of(chunks, CONTROL):
                    answered_at = clock.now()
                    if event is not None:
                        after = event.cursor
                        yield event
        except (ControlUnreachable, DeadlineExceeded):
            if answered_at is None or clock.now() - answered_at > give_up_s:
                raise
            connection.find_again()
        clock.pause(RETRY_S)


def settled(view: ModelView) -> bool:
    """Whether the wished split is the live one, each of its versions has all its replicas, and the model says so."""
    if view.state != "ready" or not shifted(view):
        return False
    return all(_ready(view, arm.version) >= wished(view, arm.version) for arm in view.live)


def shifted(view: ModelView) -> bool:
    """Whether the wished split is the live one."""
    return bool(view.target) and _weights(view.live) == _weights(view.target)


def answering(view: ModelView) -> bool:
    """Whether each version of the live split has a replica that is ready (or none is wished)."""
    return all(_ready(view, arm.version) >= min(1, wished(view, arm.version)) for arm in view.live)


def is_live(view: ModelView, version: str) -> bool:
    """Whether ``version`` is live, in the split or as the shadow."""
    return any(v.name == version and v.state == "live" for v in view.versions)


def split_text(arms: list[ArmView]) -> str:
    """``v1 90 %, v2 10 %``."""
    return ", ".join(f"{arm.version} {arm.weight} %" for arm in arms)


def _ready(view: ModelView, version: str) -> int:
    return sum(1 for r in view.replica_list if r.version == version and r.ready)


def _weights(arms: list[ArmView]) -> dict[str, int]:
    return {arm.version: arm.weight for arm in arms}


def _leaving(view: ModelView) -> list[str]:
    """Versions that have left the split and still run."""
    staying = {arm.version for arm in (*view.live, *view.target)}
    if view.shadow is not None:
        staying.add(view.shadow.version)
    return [v.name for v in view.versions if v.name not in staying and v.state in ("live", "draining")]


_TELLING: Final = frozenset(
    {
        EventType.VERSION_LIVE,
        EventType.VERSION_RETIRED,
        EventType.TRAFFIC_SHIFTED,
        EventType.REPLICA_READY,
        EventType.REPLICA_STOPPED,
        EventType.DEPLOYMENT_STATE_CHANGED,
    }
)
"""Events after which the view may be the one that is waited for."""
