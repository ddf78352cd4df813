"""ScalingRecorder: writes decisions and their events to the logs, after they were carried out and beside the tick.

While a log cannot be written they wait, the newest of them in any case; that it cannot be written is told once.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from headway.control.waits import pause, within
from headway.domain.decisions import DecisionRecord
from headway.domain.events import EventType, NewEvent
from headway.domain.replicas import Role
from headway.ports.clock import Clock
from headway.ports.decision_log import DecisionLog
from headway.ports.event_log import EventLog
from headway.scaling.decision import Decision, State
from headway.scaling.explain import summary, worded
from headway.scaling.policy import Policy
from headway.scaling.record import to_document
from headway.scaling.samples import Samples

log = logging.getLogger(__name__)
T = TypeVar("T")
RETRY_S: Final = 1.0
STOP_S: Final = 5.0
EXPIRE_S: Final = 3600.0
KEEP: Final = 1000
"""Newest decisions of each version that stay, however old."""
MOST_WAITING: Final = 20_000
"""Decisions, and events, that wait for their log; beyond, the oldest are lost and counted."""


class Taken(NamedTuple):
    """A decision that was taken, and all it was taken from."""

    model: str
    version: str
    policy: Policy
    samples: Samples
    state: State
    """Before the decision."""
    decision: Decision
    role: Role = "serve"

    def record(self) -> DecisionRecord:
        """As it is stored."""
        decision = self.decision
        return DecisionRecord(
            at=decision.at,
            model=self.model,
            version=self.version,
            current=decision.current,
            desired=decision.desired,
            binding=worded(decision.binding, self.role),
            summary=worded(summary(decision), self.role),
            shadow=decision.shadow,
            document=self.document(),
            role=self.role,
        )

    def document(self) -> dict[str, Any]:
        """All of it as JSON."""
        return to_document(self.policy, self.samples, self.state, self.decision)


class ScalingRecorder:
    """One task; nobody waits for it."""

    def __init__(self, decisions: DecisionLog, events: EventLog, clock: Clock, max_age_s: float | None) -> None:
        self._decisions = decisions
        self._events = events
        self._clock = clock
        self._max_age_s = max_age_s
        self._taken: deque[Taken] = deque()
        self._told: deque[NewEvent] = deque()
        self._lost = 0
        self._failed_at: float | None = None
        self._expire_at = 0.0
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def record(self, taken: Sequence[Taken]) -> None:
        """Record these as soon as that can be done."""
        if taken:
            self._taken.extend(taken)
            while len(self._taken) > MOST_WAITING:
                self._taken.popleft()
                self._lost += 1
            self._wake.set()

    def tell(self, event: NewEvent) -> None:
        """The same for an event."""
        self._told.append(event)
        while len(self._told) > MOST_WAITING:
            self._told.popleft()
        self._wake.set()

    async def start(self) -> None:
        """Begin; a second call changes nothing."""
        if self._task is None:
            self._stopping = asyncio.Event()
            self._task = asyncio.create_task(self._loop(), name="scaling recorder")

    async def stop(self) -> None:
        """Write what waits, unless that takes too long, and end. A second call changes nothing."""
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping.set()
        self._wake.set()
        try:
            await within(self._clock, STOP_S, _end_of(task))
        except TimeoutError:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._taken:
            log.error("%d scaling decisions could not be recorded before the end", len(self._taken))

    async def _loop(self) -> None:
        while True:
            self._wake.clear()
            written = await self._write()
            if self._stopping.is_set():
                return
            if written and self._clock.monotonic() >= self._expire_at:
                await self._expire()
            if written:
                await pause(self._clock, EXPIRE_S, self._wake)
            else:
                await pause(self._clock, RETRY_S, self._stopping)

    async def _write(self) -> bool:
        """Whether nothing is left to write."""
        recorded = await self._drain(self._taken, self._append_taken, "decisions")
        told = await self._drain(self._told, self._events.append, "events")
        fine = recorded and told
        if fine and self._failed_at is not None:
            failed_s = round(self._clock.monotonic() - self._failed_at, 3)
            log.info("scaling decisions are recorded again")
            lost, self._lost, self._failed_at = self._lost, 0, None
            self.tell(
                NewEvent(
                    self._clock.now(),
                    EventType.SCALING_RECORDS_BACK,
                    data={"failed_s": failed_s, "lost": lost},
                )
            )
        return fine

    async def _append_taken(self, taken: Sequence[Taken]) -> object:
        records = []
        for one in taken:
            try:
                records.append(one.record())
            except Exception:
                # One that cannot be put into words must not keep all others from being recorded.
                log.exception("a decision about %s %s cannot be recorded", one.model, one.version)
                self._lost += 1
        return await self._decisions.append(records)

    async def _drain(self, waiting: deque[T], append: Callable[[Sequence[T]], Awaitable[object]], what: str) -> bool:
        if not waiting:
            return True
        batch = list(waiting)
        waiting.clear()
        try:
            await append(batch)
        except Exception as error:
            waiting.extendleft(reversed(batch))
            if self._failed_at is None:
                self._failed_at = self._clock.monotonic()
                log.exception("scaling %s cannot be recorded; scaling goes on, recording is tried again", what)
                data = {"what": what, "message": f"{type(error).__name__}: {error}"[:500]}
                self.tell(NewEvent(self._clock.now(), EventType.SCALING_RECORDS_FAILED, data=data))
            return False
        return True

    async def _expire(self) -> None:
        self._expire_at = self._clock.monotonic() + EXPIRE_S
        if self._max_age_s is None:
            return
        try:
            await self._decisions.expire(self._clock.now() - self._max_age_s, KEEP)
        except Exception:
            log.exception("old scaling decisions cannot be dropped; trying again in an hour")


async def _end_of(task: asyncio.Task[None]) -> None:
    await asyncio.wait({task})
