"""TransitionRecorder: writes every replica transition to the event log and wakes the reconciler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from headway.domain.events import EventType, NewEvent
from headway.domain.lifecycle import ReplicaPhase
from headway.domain.replicas import ReplicaTransition
from headway.ports.clock import Clock
from headway.ports.event_log import EventLog
from headway.ports.gateway import Gateway, GatewayStatus
from headway.ports.runtime import Runtime

log = logging.getLogger(__name__)

_P = ReplicaPhase
EVENT_OF_PHASE = {
    _P.STARTING: EventType.REPLICA_STARTED,
    _P.READY: EventType.REPLICA_READY,
    _P.UNREADY: EventType.REPLICA_UNREADY,
    _P.BACKOFF: EventType.REPLICA_EXITED,
    _P.STOPPING: EventType.REPLICA_STOPPING,
    _P.STOPPED: EventType.REPLICA_STOPPED,
    _P.FAILED: EventType.REPLICA_FAILED,
}
RETRY_S = 1.0
GATEWAY_LOOK_S = 1.0


def event_of(transition: ReplicaTransition) -> NewEvent:
    """The event that tells of ``transition``."""
    status = transition.status
    adopted = transition.adopted and transition.old is None
    type_ = EventType.REPLICA_ADOPTED if adopted else EVENT_OF_PHASE[status.phase]
    data: dict[str, object] = {"phase": str(status.phase), "restarts": status.restarts}
    if status.role != "serve":
        data["role"] = status.role
    if transition.old is not None:
        data["old"] = str(transition.old)
    if transition.adopted:
        data["adopted"] = True
    if status.pid is not None:
        data["pid"] = status.pid
    if status.reason is not None:
        data["reason"] = status.reason
    if status.failure is not None:
        data["failure"] = {
            "code": status.failure.code,
            "message": status.failure.message,
            "where": status.failure.where,
        }
    return NewEvent(transition.at, type_, status.model, status.version, status.replica_id, data)


class TransitionRecorder:
    """Nothing that the runtime reports is dropped: while the log cannot be written, transitions wait."""

    def __init__(
        self,
        runtime: Runtime,
        events: EventLog,
        clock: Clock,
        wake: Callable[[], None],
        look: Callable[[ReplicaTransition], None] | None = None,
    ) -> None:
        """``wake`` is called at each transition; ``look`` is shown it, before it is recorded."""
        self._runtime = runtime
        self._events = events
        self._clock = clock
        self._wake = wake
        self._look = look
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; a second call changes nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._pump(), name="transition recorder")

    async def stop(self) -> None:
        """Record what the stopped runtime still reports, then end. Call it after the runtime's own ``stop``."""
        task, self._task = self._task, None
        if task is not None:
            _, pending = await asyncio.wait({task}, timeout=5.0)
            for late in pending:
                late.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _pump(self) -> None:
        async for transition in self._runtime.transitions():
            self._wake()
            if self._look is not None:
                self._look(transition)
            await self._record(event_of(transition))

    async def _record(self, event: NewEvent) -> None:
        while True:
            try:
                await self._events.append([event])
                return
            except Exception:
                log.exception("cannot record %s of %s; trying again", event.type, event.replica)
                await self._clock.sleep(RETRY_S)


class GatewayWatch:
    """Turns changes of the gateway's own status into events."""

    def __init__(self, gateway: Gateway, events: EventLog, clock: Clock) -> None:
        self._gateway = gateway
        self._events = events
        self._clock = clock
        self._task: asyncio.Task[None] | None = None
        self._seen: GatewayStatus | None = None

    async def start(self) -> None:
        """Begin; a second call changes nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._loop(), name="gateway watch")

    async def stop(self) -> None:
        """End; a second call changes nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _loop(self) -> None:
        while True:
            try:
                await self.look()
            except Exception:
                log.exception("cannot record the gateway's state; trying again")
            await self._clock.sleep(GATEWAY_LOOK_S)

    async def look(self) -> None:
        """Compare the gateway's status with the one seen last and record what differs."""
        status = self._gateway.status()
        seen = self._seen
        if seen is not None and (seen.running, seen.pid) == (status.running, status.pid):
            return
        if status.running:
            type_ = EventType.GATEWAY_ADOPTED if status.adopted and seen is None else EventType.GATEWAY_STARTED
        elif seen is None:
            return
        else:
            type_ = EventType.GATEWAY_STOPPED
        data = {"pid": status.pid, "url": status.url}
        await self._events.append([NewEvent(self._clock.now(), type_, data=data)])
        self._seen = status
