"""MemoryRuntime: replicas that are only told of, with scripted behaviour, for control loops under test.

A :class:`MemoryMachine` is the part that outlives a control plane: a second :class:`MemoryRuntime` on the
same machine adopts what the first one left. Time is the clock's alone: on a ``ManualClock`` a replica that
is ready "after 3 s" is so once the test has advanced that far.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from headway.domain.errors import HeadwayError, ReplicaNotFound
from headway.domain.lifecycle import REPLICA_TRANSITIONS, ReplicaPhase, check
from headway.domain.replicas import Failure, ReplicaSpec, ReplicaStatus, ReplicaTransition
from headway.ports.clock import Clock

_P = ReplicaPhase
KILLED = Failure("model_failed", "the process was killed by signal SIGKILL while serving")


@dataclass(frozen=True, slots=True)
class Script:
    """How replicas behave."""

    ready_after_s: float | None = 0.0
    """From the start of the process; None: it never becomes ready."""
    warm_ready_after_s: float | None = None
    """The same for a version that is kept warm; None: no faster."""
    failure: Failure | None = None
    """Its starts end with this instead, after ``ready_after_s``."""
    failing_starts: int | None = None
    """How many starts do so; None: all of them."""
    stops_after_s: float = 0.0
    """From being told to stop until it is gone."""


@dataclass(slots=True)
class MemoryReplica:
    """One replica on a machine. Times are the clock's."""

    spec: ReplicaSpec
    script: Script
    phase: ReplicaPhase = _P.STARTING
    since: float = 0.0
    """When it came into its phase, on the monotonic clock."""
    ready_after_s: float | None = None
    """Of its present process: as the script says."""
    pid: int | None = None
    starts: int = 0
    crashes: int = 0
    started_at: float | None = None
    ready_at: float | None = None
    reason: str | None = None
    failure: Failure | None = None
    crash: Failure | None = None
    """Its process has ended for this, and nobody has looked yet."""
    answers_ready: bool = True
    printed: bytearray = field(default_factory=bytearray)

    @property
    def gone(self) -> bool:
        """Stopped as asked."""
        return self.phase is _P.STOPPED

    @property
    def status(self) -> ReplicaStatus:
        """As the port reports it."""
        address = f"unix:/memory/{self.spec.replica_id}.sock" if self.ready_at is not None else None
        return ReplicaStatus(
            replica_id=self.spec.replica_id,
            model=self.spec.model,
            version=self.spec.version,
            phase=self.phase,
            address=address,
            pid=self.pid,
            restarts=max(0, self.starts - 1),
            reason=self.reason,
            failure=self.failure,
            started_at=self.started_at,
            ready_at=self.ready_at,
            role=self.spec.role,
        )


class MemoryMachine:
    """Where memory replicas run. The test's hand on them, whether a control plane is there or not."""

    def __init__(self) -> None:
        self.replicas: dict[str, MemoryReplica] = {}
        self._scripts: dict[tuple[str | None, str | None], Script] = {}
        self._pids = itertools.count(1000)
        self._watchers: set[asyncio.Event] = set()
        self.warm: frozenset[tuple[str, str]] = frozenset()
        """Models and versions whose replicas start after ``Script.warm_ready_after_s``."""

    def script(self, script: Script, *, model: str | None = None, version: str | None = None) -> None:
        """How replicas created from now on behave; the most closely named script holds."""
        self._scripts[model, version] = script

    def script_for(self, spec: ReplicaSpec) -> Script:
        """The script that holds for a new replica."""
        keys = ((spec.model, spec.version), (spec.model, None), (None, spec.version), (None, None))
        return next((self._scripts[key] for key in keys if key in self._scripts), Script())

    def next_pid(self) -> int:
        """A pid that was never used."""
        return next(self._pids)

    def crash(self, replica_id: str, failure: Failure = KILLED) -> None:
        """End the replica's process."""
        self.replicas[replica_id].crash = failure
        self.stir()

    def set_ready(self, replica_id: str, ready: bool) -> None:
        """What its readiness probe says from now on."""
        self.replicas[replica_id].answers_ready = ready
        self.stir()

    def print(self, replica_id: str, data: bytes) -> None:
        """Add to its log."""
        self.replicas[replica_id].printed += data
        self.stir()

    def watch(self) -> asyncio.Event:
        """Set at every change of any replica by a test's hand; give it back with :meth:`unwatch`."""
        event = asyncio.Event()
        self._watchers.add(event)
        return event

    def unwatch(self, event: asyncio.Event) -> None:
        """No more news to ``event``."""
        self._watchers.discard(event)

    def stir(self) -> None:
        """Tell everybody who watches that something changed."""
        for event in self._watchers:
            event.set()


class _Minder:
    """What a runtime has in mind for one replica."""

    def __init__(self, replica: MemoryReplica, wake: asyncio.Event, *, wanted: bool) -> None:
        self.replica = replica
        self.wake = wake
        self.wanted = wanted
        self.stop = False
        self.task: asyncio.Task[None] | None = None


class MemoryRuntime:
    """The ``Runtime`` port on a :class:`MemoryMachine`."""

    def __init__(self, clock: Clock, machine: MemoryMachine | None = None) -> None:
        self.machine = machine or MemoryMachine()
        self._clock = clock
        self._minders: dict[str, _Minder] = {}
        self._desired: dict[str, ReplicaSpec] = {}
        self._waiting: deque[ReplicaTransition] = deque()
        self._news = asyncio.Event()
        self._running = False
        self._ended = False
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """See the port."""
        async with self._turn:
            if self._running:
                return
            self._running, self._ended = True, False
            for replica in self.machine.replicas.values():
                if replica.phase in (_P.STOPPED, _P.FAILED):
                    continue
                minder = self._mind(replica, wanted=False)
                minder.stop = replica.phase is _P.STOPPING
                if replica.pid is not None and replica.crash is None:
                    self._tell(replica, None, adopted=True)
                self._step(minder, adopted=True)
            for minder in self._minders.values():
                self._begin(minder)

    async def stop(self, *, stop_replicas: bool) -> None:
        """See the port."""
        self._running = False
        async with self._turn:
            if stop_replicas:
                for minder in self._minders.values():
                    minder.stop = True
                    minder.wake.set()
            tasks = [minder.task for minder in self._minders.values() if minder.task is not None]
            if not stop_replicas:
                for task in tasks:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._minders.clear()
            self._desired.clear()
            self._ended = True
            self._news.set()

    async def apply(self, desired: Sequence[ReplicaSpec], warm: Sequence[ReplicaSpec] = ()) -> None:
        """See the port. Raises :class:`HeadwayError` before ``start`` and for a replica with a changed spec."""
        if not self._running:
            raise HeadwayError("the memory runtime is not started")
        kept = [*warm, *(spec for spec in desired if spec.warm)]
        self.machine.warm = frozenset((spec.model, spec.version) for spec in kept)
        self._desired = {spec.replica_id: spec for spec in desired}
        faults = [] if len(self._desired) == len(desired) else ["a replica is asked for twice"]
        for spec in desired:
            minder = self._minders.get(spec.replica_id)
            if minder is None:
                self._create(spec)
            elif not minder.stop:
                minder.wanted = True
                minder.wake.set()
                if minder.replica.spec != spec:
                    faults.append(f"replica {spec.replica_id} runs with another spec than is asked for")
        for replica_id, minder in self._minders.items():
            if replica_id not in self._desired:
                minder.stop = True
                minder.wake.set()
        if faults:
            raise HeadwayError("; ".join(faults))

    def observe(self) -> tuple[ReplicaStatus, ...]:
        """See the port."""
        return tuple(m.replica.status for m in self._minders.values() if not m.replica.gone)

    async def transitions(self) -> AsyncIterator[ReplicaTransition]:
        """See the port."""
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._ended:
                return
            self._news.clear()
            await self._news.wait()

    def logs(self, replica_id: str, *, tail_lines: int | None, follow: bool) -> AsyncIterator[bytes]:
        """See the port; raises at the call."""
        replica = self.machine.replicas.get(replica_id)
        if replica is None:
            raise ReplicaNotFound(f"no replica {replica_id[:80]}")
        return self._read(replica, tail_lines, follow)

    async def _read(self, replica: MemoryReplica, tail_lines: int | None, follow: bool) -> AsyncIterator[bytes]:
        lines = bytes(replica.printed).splitlines(keepends=True)
        kept = lines if tail_lines is None else lines[max(0, len(lines) - tail_lines) :]
        position = sum(map(len, lines)) - sum(map(len, kept))
        news = self.machine.watch()
        try:
            while True:
                news.clear()
                going_on = follow and replica.spec.replica_id in self._minders
                if chunk := bytes(replica.printed[position:]):
                    position += len(chunk)
                    yield chunk
                if not going_on:
                    return
                await news.wait()
        finally:
            self.machine.unwatch(news)

    # -- the life of one replica -------------------------------------------------------------------

    def _create(self, spec: ReplicaSpec) -> None:
        earlier = self.machine.replicas.get(spec.replica_id)
        replica = MemoryReplica(spec, self.machine.script_for(spec))
        replica.starts = earlier.starts if earlier is not None else 0
        replica.printed = earlier.printed if earlier is not None else replica.printed
        self.machine.replicas[spec.replica_id] = replica
        minder = self._mind(replica, wanted=True)
        self._launch(replica)
        self._tell(replica, None)
        self._begin(minder)

    def _mind(self, replica: MemoryReplica, *, wanted: bool) -> _Minder:
        minder = _Minder(replica, self.machine.watch(), wanted=wanted)
        self._minders[replica.spec.replica_id] = minder
        return minder

    def _begin(self, minder: _Minder) -> None:
        minder.task = asyncio.create_task(self._run(minder), name=f"replica {minder.replica.spec.replica_id}")

    async def _run(self, minder: _Minder) -> None:
        replica = minder.replica
        try:
            while not replica.gone:
                minder.wake.clear()
                pause = self._step(minder)
                if not replica.gone:
                    await self._wait(minder.wake, pause)
        finally:
            self.machine.unwatch(minder.wake)
        self.machine.stir()
        if self._running:
            self._minders.pop(replica.spec.replica_id, None)
            again = self._desired.get(replica.spec.replica_id)
            if again is not None:  # asked for again while it was stopping
                self._create(again)

    def _step(self, minder: _Minder, *, adopted: bool = False) -> float | None:
        """Do what is due now; seconds until something else is, None: not before there is news."""
        replica, now = minder.replica, self._clock.monotonic()
        if minder.stop:
            self._move(replica, _P.STOPPING, adopted=adopted)
            left = replica.since + replica.script.stops_after_s - now
            if left > 0:
                return left
            replica.pid = None
            self._move(replica, _P.STOPPED, adopted=adopted)
            return None
        if replica.crash is not None:
            self._end(replica, replica.crash, adopted=adopted)
        if replica.phase is _P.BACKOFF:
            left = replica.since + _delay_s(replica.crashes) - now
            if not minder.wanted or left > 0:
                return left if minder.wanted else None
            replica.reason = None
            self._launch(replica)
            self._move(replica, _P.STARTING)
        if replica.phase is _P.STARTING:
            return self._start(replica, adopted=adopted)
        self._move(replica, _P.READY if replica.answers_ready else _P.UNREADY, adopted=adopted)
        return None

    def _launch(self, replica: MemoryReplica) -> None:
        replica.pid = self.machine.next_pid()
        replica.starts += 1
        replica.started_at = self._clock.now()
        replica.since = self._clock.monotonic()
        warm = (replica.spec.model, replica.spec.version) in self.machine.warm
        script = replica.script
        faster = warm and script.warm_ready_after_s is not None
        replica.ready_after_s = script.warm_ready_after_s if faster else script.ready_after_s

    def _start(self, replica: MemoryReplica, *, adopted: bool) -> float | None:
        script, now = replica.script, self._clock.monotonic()
        ready_after_s = replica.ready_after_s
        if ready_after_s is None:
            return None
        left = replica.since + ready_after_s - now
        if left > 0:
            return left
        if script.failure is not None and (script.failing_starts is None or replica.starts <= script.failing_starts):
            self._end(replica, script.failure, adopted=adopted)
            return 0.0
        if replica.answers_ready:
            replica.failure = replica.reason = None
            replica.ready_at = self._clock.now()
            self._move(replica, _P.READY, adopted=adopted)
        return None

    def _end(self, replica: MemoryReplica, failure: Failure, *, adopted: bool) -> None:
        replica.crash, replica.pid, replica.ready_at, replica.started_at = None, None, None, None
        replica.crashes += 1
        replica.failure = failure
        replica.reason = "CrashLoopBackOff" if replica.crashes > 1 else "Error"
        self._move(replica, _P.BACKOFF, adopted=adopted)

    def _move(self, replica: MemoryReplica, phase: ReplicaPhase, *, adopted: bool = False) -> None:
        old = replica.phase
        check(REPLICA_TRANSITIONS, old, phase)
        if phase is not old:
            replica.phase, replica.since = phase, self._clock.monotonic()
            self._tell(replica, old, adopted=adopted)

    def _tell(self, replica: MemoryReplica, old: ReplicaPhase | None, *, adopted: bool = False) -> None:
        self._waiting.append(ReplicaTransition(self._clock.now(), old, replica.status, adopted))
        self._news.set()

    async def _wait(self, wake: asyncio.Event, pause: float | None) -> None:
        waiters: set[asyncio.Task[object]] = {asyncio.create_task(wake.wait())}
        if pause is not None:
            waiters.add(asyncio.create_task(self._clock.sleep(pause)))
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for waiter in waiters:
                waiter.cancel()
            await asyncio.gather(*waiters, return_exceptions=True)


def _delay_s(crashes: int) -> float:
    """At once after the first crash, then 1, 2, 4 … 60 s."""
    return 0.0 if crashes < 2 else min(60.0, 2.0 ** min(crashes - 2, 10))
