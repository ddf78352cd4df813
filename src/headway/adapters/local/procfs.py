"""What the kernel tells of a process under ``/proc`` (proc(5)). Linux only.

A pid alone names nobody: it is used again. ``(boot id, pid, start ticks)`` names one process for ever; the
start ticks (field 22 of ``stat``) are counted from boot and, unlike a wall-clock create time, never shift.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class ProcessStat:
    """The fields of ``/proc/PID/stat`` that matter here."""

    pid: int
    state: str
    parent: int
    session: int
    start_ticks: int

    @property
    def dead(self) -> bool:
        """Ended, though perhaps not yet reaped (zombie)."""
        return self.state in "ZXx"


@cache
def boot_id() -> str:
    """Differs after every boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _read(path: str) -> bytes | None:
    """The file's content; None when the process is gone or not ours to look at."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        parts = []
        while part := os.read(fd, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    except OSError:
        return None
    finally:
        os.close(fd)


def stat(pid: int) -> ProcessStat | None:
    """None when there is no such process."""
    raw = _read(f"/proc/{pid}/stat")
    if not raw:
        return None
    # The name, in parentheses, may hold spaces and parentheses itself: fields count from the last one.
    fields = raw[raw.rindex(b")") + 2 :].split()
    return ProcessStat(pid, fields[0].decode(), int(fields[1]), int(fields[3]), int(fields[19]))


class ProcessUse(NamedTuple):
    """What a process has used so far, and whose it is."""

    session: int
    start_ticks: int
    own_ticks: int
    """Processor time, user and system."""
    waited_ticks: int
    """That of its children which have ended and which it has waited for, theirs included."""
    resident_bytes: int


def use(pid: int) -> ProcessUse | None:
    """None when it has ended. One that has and is not waited for (a zombie) still tells."""
    gauge = UseGauge(pid)
    try:
        return gauge.read()
    finally:
        gauge.close()


class UseGauge:
    """Reads :func:`use` of one process again and again, for a third of the price. What is open names it for ever."""

    def __init__(self, pid: int) -> None:
        try:
            self._fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1

    def read(self) -> ProcessUse | None:
        """See :func:`use`."""
        try:
            raw = os.pread(self._fd, 1024, 0)  # one line of 52 numbers
        except OSError:
            return None
        return _parsed(raw)

    def close(self) -> None:
        """Give up the descriptor; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _parsed(raw: bytes) -> ProcessUse:
    fields = raw[raw.rindex(b")") + 2 :].split(None, 22)
    own, waited = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
    return ProcessUse(int(fields[3]), int(fields[19]), own, waited, int(fields[21]) * PAGE_BYTES)


def pids() -> list[int]:
    """Every process there is."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def environ(pid: int) -> dict[str, str]:
    """The environment it was started with; empty when it is gone or somebody else's."""
    raw = _read(f"/proc/{pid}/environ") or b""
    pairs = (entry.partition(b"=") for entry in raw.split(b"\0") if entry)
    return {os.fsdecode(name): os.fsdecode(value) for name, _, value in pairs}


class MemoryGauge:
    """Reads one process's resident memory again and again: an open ``statm`` costs a fifth of opening it anew."""

    def __init__(self, pid: int) -> None:
        try:
            self._fd = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1

    def read(self) -> tuple[int, int]:
        """Bytes: ``(resident, of which file-backed or shared)``; zeros when the process is gone."""
        try:
            fields = os.pread(self._fd, 256, 0).split()
        except OSError:
            return 0, 0
        return (int(fields[1]) * PAGE_BYTES, int(fields[2]) * PAGE_BYTES) if fields else (0, 0)

    def close(self) -> None:
        """Give up the descriptor; a second call does nothing."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def proportional_bytes(pid: int) -> int:
    """PSS: memory with each shared page divided among its sharers. Exact but slow (the kernel walks all pages)."""
    for line in (_read(f"/proc/{pid}/smaps_rollup") or b"").splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1]) * 1024
    return 0
