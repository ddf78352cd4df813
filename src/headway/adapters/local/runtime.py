"""LocalRuntime: replicas as processes of this machine, supervised as a kubelet supervises containers.

It holds one :class:`ReplicaSupervisor` per replica and does three things itself: it compares the desired
state with what there is, it finds what an earlier control plane left running, and it hands on what the
supervisors report. How a replica lives: ``docs/explanation/replicas.md``.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import msgspec

from headway.adapters.local import adoption, logs
from headway.adapters.local.backoff import FORGET_S
from headway.adapters.local.launch import Launcher
from headway.adapters.local.memory_limit import MemoryWatch
from headway.adapters.local.process import require_pidfd
from headway.adapters.local.records import GONE, ReplicaFolder, ReplicaFolders, ReplicaRecord
from headway.adapters.local.sockets import replica_socket
from headway.adapters.local.start_slots import StartSlots, default_slots
from headway.adapters.local.starts import Surroundings
from headway.adapters.local.supervisor import ReplicaSupervisor
from headway.adapters.local.template_process import TemplateSurroundings
from headway.adapters.local.templates import Templates
from headway.domain.errors import HeadwayError, ReplicaNotFound
from headway.domain.lifecycle import ReplicaPhase
from headway.domain.replicas import ReplicaSpec, ReplicaStatus, ReplicaTransition
from headway.ports.clock import Clock

log = logging.getLogger(__name__)

WORKERS_WAIT_S: Final = 30.0
"""When everything stops, running jobs have so long; then they are given back, for they are not lost by that."""


class LocalRuntime:
    """The ``Runtime`` port on Linux processes.

    ``home`` is Headway's home; ``run_dir`` holds the replicas' sockets (:func:`run_dir_for` chooses one).
    ``server_env`` is the environment of which replicas inherit the few variables of ``launch.INHERITED``.
    ``shadow_gateway`` (``unix:/path``) and ``query_log_dir`` (None: no query log) are told to the model servers,
    ``job_server`` (``unix:/path`` or ``tcp:host:port``) to the workers among them.
    ``backoff_reset_s`` is how long a replica has to be ready to make up for one crash; ``start_slots`` how many
    start at once (None: by the number of cores); ``workers_wait_s`` how long :meth:`stop` lets jobs run on. Raises
    :class:`Unsupported` on systems without pidfd.
    """

    def __init__(
        self,
        home: Path,
        run_dir: Path,
        *,
        clock: Clock,
        server_env: Mapping[str, str],
        shadow_gateway: str | None = None,
        query_log_dir: Path | None = None,
        job_server: str | None = None,
        backoff_reset_s: float = FORGET_S,
        start_slots: int | None = None,
        workers_wait_s: float = WORKERS_WAIT_S,
    ) -> None:
        require_pidfd()
        self._home = home.resolve()
        self._run_dir = run_dir
        self._clock = clock
        self._workers_wait_s = workers_wait_s
        segments = None if query_log_dir is None else str(query_log_dir)
        self._launcher = Launcher(self._home, dict(server_env), shadow_gateway, segments, job_server)
        self._folders = ReplicaFolders(self._home)
        self._memory = MemoryWatch(clock)
        self._reports = _Reports()
        slots = StartSlots(start_slots if start_slots is not None else default_slots())
        self._templates = Templates(
            self._home, run_dir, TemplateSurroundings(clock, self._launcher, self._memory, slots)
        )
        self._around = Surroundings(
            clock, self._launcher, self._memory, slots, self._templates, self._reports.add, backoff_reset_s
        )
        self._supervisors: dict[str, ReplicaSupervisor] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._desired: dict[str, ReplicaSpec] = {}
        self._lost: list[adoption.FoundProcess] = []
        """Processes of this home that nothing speaks of; ended at the first ``apply``."""
        self._running = False
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """See the port. When it returns, every replica that still runs is in ``observe``, its phase up to date."""
        async with self._turn:
            if self._running:
                return
            try:
                await self._take_over()
            except BaseException:
                await self._detach()
                raise
            self._running = True

    async def stop(self, *, stop_replicas: bool) -> None:
        """See the port. With ``stop_replicas`` nothing of this home is left, not even what was never adopted."""
        self._running = False
        async with self._turn:
            self._running = False
            if stop_replicas:
                for supervisor in self._supervisors.values():
                    supervisor.request_stop()
                hurrying = asyncio.create_task(self._hurry_workers(), name="hurry workers")
                await asyncio.gather(*self._tasks, return_exceptions=True)
                hurrying.cancel()
                await self._templates.end()
                await adoption.stop_strays(self._home)
            await self._detach()

    async def _hurry_workers(self) -> None:
        await self._clock.sleep(self._workers_wait_s)
        for supervisor in self._supervisors.values():
            if supervisor.spec.role == "work":
                supervisor.hurry()

    async def apply(self, desired: Sequence[ReplicaSpec], warm: Sequence[ReplicaSpec] = ()) -> None:
        """See the port. Raises :class:`HeadwayError` for a replica that is asked for twice, or with another
        spec than it was started with; every other replica is taken care of all the same.
        """
        if not self._running:
            raise HeadwayError("the local runtime is not started")
        if self._lost:
            lost, self._lost = self._lost, []
            self._keep(asyncio.create_task(self._end_lost(lost), name="lost replicas"))
        self._templates.keep([*warm, *(spec for spec in desired if spec.warm)])
        self._desired = {spec.replica_id: spec for spec in desired}
        faults = [] if len(self._desired) == len(desired) else ["a replica is asked for twice"]
        for spec in desired:
            supervisor = self._supervisors.get(spec.replica_id)
            if supervisor is None:
                self._create(spec)
            elif not supervisor.stopping:
                supervisor.want()
                if not _same(supervisor.spec, spec):
                    faults.append(f"replica {spec.replica_id} runs with another spec than is asked for")
        for replica_id, supervisor in self._supervisors.items():
            if replica_id not in self._desired:
                supervisor.request_stop()
        if faults:
            raise HeadwayError("; ".join(faults))

    def observe(self) -> tuple[ReplicaStatus, ...]:
        """See the port."""
        return tuple(s.status for s in self._supervisors.values() if s.phase is not ReplicaPhase.STOPPED)

    def processes_of(self, leader: int) -> tuple[int, ...]:
        """The processes of the replica that process ``leader`` leads, as last looked for (5 s)."""
        return self._memory.members(leader)

    def transitions(self) -> AsyncIterator[ReplicaTransition]:
        """See the port."""
        return self._reports.read()

    def logs(self, replica_id: str, *, tail_lines: int | None, follow: bool) -> AsyncIterator[bytes]:
        """See the port; raises at the call. Works for replicas that are gone while their folder is kept."""
        folder = self._folders.find(replica_id)
        if folder is None:
            raise ReplicaNotFound(f"no replica {replica_id[:80]}", hint="headway status NAME lists them")
        return logs.read(
            folder, tail_lines=tail_lines, follow=lambda: follow and self._prints(replica_id), clock=self._clock
        )

    # -- taking over -------------------------------------------------------------------------------

    async def _take_over(self) -> None:
        self._reports.open()
        self._launcher.prepare()
        self._run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        found, templates = adoption.without_templates(await asyncio.to_thread(adoption.scan, self._home))
        self._templates.adopt(templates)
        adopted: set[int] = set()
        looks = []
        gone: list[tuple[float, ReplicaFolder, str]] = []
        for folder in self._folders.all():
            record = _load(folder)
            if record is None:
                continue
            if record.phase in GONE:
                gone.append((record.changed_at, folder, record.spec.model))
                continue
            process = adoption.leader_of(record, found)
            if process is not None:
                adopted.add(process.pid)
            supervisor = ReplicaSupervisor(folder, record, self._around)
            self._supervisors[folder.replica_id] = supervisor
            looks.append(supervisor.adopt(process))
        for _, folder, model in sorted(gone, key=lambda entry: entry[0]):
            self._folders.retire(folder, model)
        await asyncio.gather(*looks)
        self._lost = adoption.strays(found, adopted)
        await self._memory.start()
        for supervisor in list(self._supervisors.values()):
            self._begin(supervisor)

    async def _end_lost(self, lost: list[adoption.FoundProcess]) -> None:
        log.warning("ending processes of unknown replicas: %s", ", ".join(f"{p.replica_id} ({p.pid})" for p in lost))
        await adoption.end_processes(lost, adoption.DEFAULT_GRACE_S)

    async def _detach(self) -> None:
        for supervisor in self._supervisors.values():
            await supervisor.detach()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._templates.detach()
        await self._memory.stop()
        self._supervisors.clear()
        self._desired.clear()
        self._lost = []
        self._reports.close()

    # -- supervisors -------------------------------------------------------------------------------

    def _create(self, spec: ReplicaSpec) -> None:
        folder = self._folders.of(spec.replica_id)
        self._folders.revive(folder, spec.model)
        earlier = _load(folder)
        record = ReplicaRecord(
            spec=spec,
            socket=str(replica_socket(self._run_dir, spec.replica_id)),
            restarts=earlier.restarts + 1 if earlier is not None else 0,
        )
        supervisor = ReplicaSupervisor(folder, record, self._around)
        self._supervisors[spec.replica_id] = supervisor
        supervisor.create()
        self._begin(supervisor)

    def _begin(self, supervisor: ReplicaSupervisor) -> None:
        task = supervisor.begin()
        task.add_done_callback(lambda _: self._ended(supervisor))
        self._keep(task)

    def _ended(self, supervisor: ReplicaSupervisor) -> None:
        if not self._running or supervisor.phase is not ReplicaPhase.STOPPED:
            return
        spec = supervisor.spec
        self._supervisors.pop(spec.replica_id, None)
        self._folders.retire(self._folders.of(spec.replica_id), spec.model)
        again = self._desired.get(spec.replica_id)
        if again is not None:  # asked for again while it was stopping
            self._create(again)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _prints(self, replica_id: str) -> bool:
        supervisor = self._supervisors.get(replica_id)
        return supervisor is not None and supervisor.phase not in GONE


class _Reports:
    """Transitions on their way to the one consumer: unbounded, for none may be left out."""

    def __init__(self) -> None:
        self._waiting: deque[ReplicaTransition] = deque()
        self._news = asyncio.Event()
        self._closed = False

    def open(self) -> None:
        self._closed = False

    def close(self) -> None:
        self._closed = True
        self._news.set()

    def add(self, transition: ReplicaTransition) -> None:
        self._waiting.append(transition)
        self._news.set()

    async def read(self) -> AsyncIterator[ReplicaTransition]:
        while True:
            while self._waiting:
                yield self._waiting.popleft()
            if self._closed:
                return
            self._news.clear()
            await self._news.wait()


def _load(folder: ReplicaFolder) -> ReplicaRecord | None:
    """The record; None, and a line in the log, when it cannot be read: then its process is lost to us."""
    try:
        return folder.load()
    except HeadwayError as error:
        log.error("%s", error)
        return None


def _same(one: ReplicaSpec, other: ReplicaSpec) -> bool:
    """Equality beyond Python types: a spec read from a record has lists where tuples were."""
    return one == other or _plain(one) == _plain(other)


def _plain(spec: ReplicaSpec) -> object:
    return msgspec.to_builtins(replace(spec, warm=False))
