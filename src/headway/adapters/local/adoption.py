"""Finding again what runs: replicas outlive the control plane, and records alone are not to be trusted.

Every replica is started with ``HEADWAY_HOME`` and ``HEADWAY_REPLICA`` in its environment, which its
children inherit and which nobody else has. A scan of ``/proc`` therefore finds every process of a home, also
one whose control plane died between starting it and writing down its pid.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import shutil
import signal
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from headway.adapters.local import procfs
from headway.adapters.local.launch import HOME_VARIABLE, REPLICA_VARIABLE
from headway.adapters.local.process import require_pidfd
from headway.adapters.local.records import GONE, ReplicaFolders, ReplicaRecord
from headway.domain.errors import HeadwayError
from headway.domain.lifecycle import ReplicaPhase
from headway.server.template_wire import key_of

DEFAULT_GRACE_S = 30.0
KILL_WAIT_S = 5.0


@dataclass(frozen=True, slots=True)
class FoundProcess:
    """A living process that carries this home's mark."""

    pid: int
    start_ticks: int
    parent: int
    leads: bool
    """It leads a session, as a replica does; its children normally do not."""
    replica_id: str


def scan(home: Path, replica_id: str | None = None) -> list[FoundProcess]:
    """The living processes of ``home`` (of one replica, when named), oldest first. Reads all of ``/proc``."""
    found = []
    for pid in procfs.pids():
        marks = procfs.environ(pid)
        owner = marks.get(REPLICA_VARIABLE)
        if owner is None or marks.get(HOME_VARIABLE) != str(home) or replica_id not in (None, owner):
            continue
        seen = procfs.stat(pid)
        if seen is not None and not seen.dead and pid != os.getpid():
            found.append(FoundProcess(pid, seen.start_ticks, seen.parent, seen.session == pid, owner))
    return sorted(found, key=lambda process: process.start_ticks)


def leader_of(record: ReplicaRecord, found: Iterable[FoundProcess]) -> FoundProcess | None:
    """The process that ``record`` speaks of, among the ``found`` ones.

    With a pid in the record it must be that very process. Without one (the control plane died while starting
    it) it is the oldest session leader of that replica.
    """
    own = [p for p in found if p.replica_id == record.spec.replica_id and p.leads]
    if record.pid is not None:
        if record.boot_id != procfs.boot_id():
            return None
        return next((p for p in own if (p.pid, p.start_ticks) == (record.pid, record.start_ticks)), None)
    return own[0] if own and record.phase is ReplicaPhase.STARTING else None


def without_templates(found: Iterable[FoundProcess]) -> tuple[list[FoundProcess], list[FoundProcess]]:
    """The processes of replicas, and those of templates (and of what loading started there)."""
    processes = list(found)
    templates = [p for p in processes if key_of(p.replica_id) is not None]
    return [p for p in processes if p not in templates], templates


def strays(found: Iterable[FoundProcess], adopted: Collection[int]) -> list[FoundProcess]:
    """Those of ``found`` that are neither adopted nor descend from, or share the replica of, an adopted one."""
    processes = list(found)
    kept = {p.replica_id for p in processes if p.pid in adopted}
    parents = {p.pid: p.parent for p in processes}
    lost = []
    for process in processes:
        line, pid = {process.pid}, process.parent
        while pid in parents and pid not in line:
            line.add(pid)
            pid = parents[pid]
        second_leader = process.leads and not line & set(adopted)
        if process.replica_id not in kept or second_leader:
            lost.append(process)
    return lost


async def end_processes(processes: Collection[FoundProcess], grace_s: float) -> None:
    """SIGTERM to the leaders, SIGKILL to whatever is left after ``grace_s`` or once its leader is gone."""
    held: dict[int, tuple[FoundProcess, int]] = {}
    try:
        for process in processes:
            with contextlib.suppress(OSError):
                pidfd = os.pidfd_open(process.pid)
                held[pidfd] = (process, pidfd)
                seen = procfs.stat(process.pid)
                if seen is None or seen.start_ticks != process.start_ticks:
                    os.close(held.pop(pidfd)[1])
        leaders = {pidfd for pidfd, (process, _) in held.items() if process.leads}
        _send(leaders, signal.SIGTERM)
        await _all_ended(leaders, grace_s)
        _send(held, signal.SIGKILL)
        await _all_ended(set(held), KILL_WAIT_S)
    finally:
        for pidfd in held:
            os.close(pidfd)


def _send(pidfds: Iterable[int], number: signal.Signals) -> None:
    for pidfd in pidfds:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, number)


async def _all_ended(pidfds: set[int], timeout_s: float) -> None:
    """Until every process has ended; gives up after ``timeout_s``."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout_s
    while (left := _running(pidfds)) and loop.time() < deadline:
        ended = asyncio.Event()
        watched = list(left)
        for pidfd in watched:
            loop.add_reader(pidfd, ended.set)
        try:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(ended.wait(), deadline - loop.time())
        finally:
            for pidfd in watched:
                loop.remove_reader(pidfd)


def _running(pidfds: Iterable[int]) -> set[int]:
    poll = select.poll()
    known = set(pidfds)
    for pidfd in known:
        poll.register(pidfd, select.POLLIN)
    return known - {fd for fd, _ in poll.poll(0)} if known else known


async def stop_strays(home: Path, grace_s: float | None = None) -> list[str]:
    """End every replica of ``home`` without a control plane: for ``headway down`` after a crash.

    SIGTERM, then after the longest grace period on record (or ``grace_s``) SIGKILL; records are set to
    ``stopped`` and sockets removed. The names of the replicas whose processes were there. Must not be called
    while a control plane runs on that home: it would start them again.
    """
    require_pidfd()
    home = home.resolve()
    found = await asyncio.to_thread(scan, home)
    records = []
    for folder in ReplicaFolders(home).all():
        with contextlib.suppress(HeadwayError):
            if (record := folder.load()) is not None:
                records.append((folder, record))
    if found:
        running = {p.replica_id for p in found}
        graces = [r.spec.termination_grace_s for _, r in records if r.spec.replica_id in running]
        await end_processes(found, max(graces, default=DEFAULT_GRACE_S) if grace_s is None else grace_s)
    for folder, record in records:
        Path(record.socket).unlink(missing_ok=True)
        if record.phase not in GONE:
            folder.save(replace(record.without_process(), phase=ReplicaPhase.STOPPED, reason=None))
    shutil.rmtree(home / "templates", ignore_errors=True)
    return sorted({p.replica_id for p in without_templates(found)[0]})
