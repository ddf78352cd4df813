"""Processor time and memory of processes, as ``/proc`` tells them (proc(5))."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def resident_bytes() -> int:
    """Resident memory of this process and of its children; 0 where the kernel does not tell."""
    pages = 0
    for pid in (os.getpid(), *children_of(os.getpid())):
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            continue
    return pages * resource.getpagesize()


def children_of(pid: int) -> list[int]:
    """The living processes that ``pid`` has started, such as a model's own; none where the kernel does not tell."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    except OSError:  # a thread, or all of the process, is gone meanwhile
        return found
    return found


def with_children(pids: Iterable[int]) -> set[int]:
    """Those of ``pids`` that are no 0, and what they have started."""
    return {found for pid in pids if pid for found in (pid, *children_of(pid))}


def proportional_bytes(pids: Iterable[int]) -> int:
    """Memory of several processes, each shared page divided among its sharers (PSS) and so counted once.

    The kernel walks all pages for it: milliseconds for a gigabyte.
    """
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def start_ticks() -> int:
    """When this process began (field 22 of its ``stat``), in ticks since boot; 0 where the kernel does not tell."""
    try:
        raw = Path("/proc/self/stat").read_bytes()
    except OSError:
        return 0
    return int(raw[raw.rindex(b")") + 2 :].split()[19])


def cpu_seconds(parent: int, children: Iterable[int]) -> float:
    """User and system time of ``parent``, of its ``children``, and of those it had and has waited for."""
    for _ in range(3):
        before = _ticks(parent)
        living = sum(_with_children(child) for child in children if _ticks(child)[2] == parent)
        after = _ticks(parent)
        if before[1] == after[1]:
            break  # no child went over from the living to the waited for while we looked
    return (after[0] + after[1] + living) / _TICKS


def own_cpu_seconds() -> float:
    """Of this process, of its living children and of those it has waited for."""
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        living = sum(_ticks(child)[0] for child in children_of(os.getpid())) / _TICKS
        own, ended = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
        if before == ended:
            break
    return own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime + living


def _with_children(pid: int) -> int:
    """Of a process, of those it has started (a model's own process, say) and of those it has waited for."""
    own, ended, _ = _ticks(pid)
    return own + ended + sum(_ticks(child)[0] for child in children_of(pid))


def _ticks(pid: int) -> tuple[int, int, int]:
    """Own time, time of children waited for, parent's pid."""
    try:
        raw = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0, 0, 0
    # The name, in parentheses, may hold spaces and parentheses itself: fields count from the last one.
    fields = raw[raw.rindex(b")") + 2 :].split()
    return int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14]), int(fields[1])
