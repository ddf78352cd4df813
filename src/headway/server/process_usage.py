"""Processor time and memory of processes, as ``/proc`` tells them (proc(5))."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the kernel does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * resource.getpagesize()


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
        living = sum(ticks[0] for child in children if (ticks := _ticks(child))[2] == parent)
        after = _ticks(parent)
        if before[1] == after[1]:
            break  # no child went over from the living to the waited for while we looked
    return (after[0] + after[1] + living) / _TICKS


def _ticks(pid: int) -> tuple[int, int, int]:
    """Own time, time of children waited for, parent's pid."""
    try:
        raw = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0, 0, 0
    # The name, in parentheses, may hold spaces and parentheses itself: fields count from the last one.
    fields = raw[raw.rindex(b")") + 2 :].split()
    return int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14]), int(fields[1])
