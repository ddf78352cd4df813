"""Memory limits without cgroups: a watch that looks four times a second, and a rule that the kernel enforces.

**The watch** adds up the resident memory of a replica's session (it and the processes it started) and calls
``on_over`` above the limit. In that sum pages that a forked worker shares with its parent count twice, so of a replica
of several processes, and of one that was forked from a template, the PSS (each shared page divided among its sharers)
counts. The kernel walks all pages for it, milliseconds for a gigabyte; therefore it is read every 5 s, and between only
where the sum is above the limit: at once when the sum has grown by what was left, else so seldom that it takes at most
a twentieth of a processor.

**The backstop** is for what is faster than a look every 250 ms. ``RLIMIT_DATA`` (setrlimit(2)) bounds the
private writable memory that a process may *ask* for; beyond it the allocation itself fails, which Python turns
into ``MemoryError``. What is asked for is more than what is used (thread stacks, arenas: a scikit-learn process
with 169 MB resident has 302 MB of it), hence twice the limit and 1 GiB on top: ``2 * limit + 1 GiB``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from headway.adapters.local import procfs
from headway.ports.clock import Clock

log = logging.getLogger(__name__)

LOOK_S = 0.25
RESCAN_LOOKS = 20
"""New child processes, and the use of replicas without a limit, are looked for every so many looks (5 s)."""
PSS_SHARE = 0.05
MIB = 1024 * 1024


def data_limit(limit_bytes: int) -> int:
    """``RLIMIT_DATA`` for a memory limit; see the module's docstring."""
    return 2 * limit_bytes + 1024 * MIB


def set_data_limit(pid: int, limit_bytes: int) -> None:
    """Put the backstop on a process just started (its children inherit it)."""
    try:
        resource.prlimit(pid, resource.RLIMIT_DATA, (data_limit(limit_bytes), data_limit(limit_bytes)))
    except OSError as error:  # it may have ended already, or a hard limit of the system's is lower still
        log.debug("no RLIMIT_DATA for process %s: %s", pid, error)


def prefer_as_victim(pid: int) -> None:
    """When the whole machine runs out of memory, the kernel takes replicas before gateway and control plane."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("500")


def mebibytes(amount: int) -> str:
    """``612 MiB``."""
    return f"{amount / MIB:.0f} MiB"


@dataclass(slots=True)
class _Watched:
    limit: int | None
    on_over: Callable[[int], None]
    leader: int
    shares: bool
    """Its pages are shared with processes that are not watched here: with the template that it was forked from."""
    gauges: dict[int, procfs.MemoryGauge] = field(default_factory=dict)
    """Of its processes, by pid."""
    used: int = 0
    over: bool = False
    shared_out: int = 0
    """The PSS as last read."""
    summed: int = 0
    """The sum at that moment."""
    due_at: float = 0.0
    """When it may be read again."""


class MemoryWatch:
    """One task for all replicas. ``on_over`` is called once per process that goes over."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._watched: dict[int, _Watched] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin; a second call changes nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._loop(), name="memory watch")

    async def stop(self) -> None:
        """End; a second call changes nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for leader in list(self._watched):
            self.remove(leader)

    def add(self, leader: int, limit: int | None, on_over: Callable[[int], None], *, shares: bool = False) -> None:
        """Watch the session that process ``leader`` leads; ``limit`` None: only measure it.

        ``shares``: it was forked, or is forked from, so its part of the pages (PSS) counts and not all it can see.
        """
        self.remove(leader)
        self._watched[leader] = _Watched(limit, on_over, leader, shares, {leader: procfs.MemoryGauge(leader)})

    def remove(self, leader: int) -> None:
        """Watch it no more; fine when it is not watched."""
        watched = self._watched.pop(leader, None)
        if watched is not None:
            for gauge in watched.gauges.values():
                gauge.close()

    def used_bytes(self, leader: int) -> int | None:
        """As last seen; None before the first look."""
        watched = self._watched.get(leader)
        return watched.used if watched is not None and watched.used else None

    def members(self, leader: int) -> tuple[int, ...]:
        """The processes of its session, as last looked for; none when it is not watched."""
        watched = self._watched.get(leader)
        return () if watched is None else tuple(watched.gauges)

    async def _loop(self) -> None:
        looks = 0
        while True:
            try:
                if self._watched:
                    self.look(rescan=looks % RESCAN_LOOKS == 0)
                    looks += 1
            except Exception:
                # All replicas' limits hang on this one loop.
                log.exception("a look at the replicas' memory failed; the next one follows")
            await self._clock.sleep(LOOK_S)

    def look(self, *, rescan: bool) -> None:
        """Measure every replica with a limit; with ``rescan`` also find its children, and measure all others."""
        if rescan:
            self._find_members()
        for watched in list(self._watched.values()):
            if rescan or watched.limit is not None:
                self._measure(watched, exactly=rescan)

    def _find_members(self) -> None:
        found: dict[int, set[int]] = {leader: {leader} for leader in self._watched}
        for pid in procfs.pids():
            seen = procfs.stat(pid)
            if seen is not None and seen.session in found:
                found[seen.session].add(pid)
        for leader, watched in self._watched.items():
            for pid in watched.gauges.keys() - found[leader]:
                watched.gauges.pop(pid).close()
            for pid in found[leader] - watched.gauges.keys():
                watched.gauges[pid] = procfs.MemoryGauge(pid)

    def _measure(self, watched: _Watched, *, exactly: bool) -> None:
        used = 0
        for pid, gauge in watched.gauges.items():
            resident, shared = gauge.read()
            # Code and other file pages count once, with the leader.
            used += resident if pid == watched.leader else resident - shared
        limit = watched.limit
        if watched.shares or len(watched.gauges) > 1:
            summed, used = used, min(used, watched.shared_out + max(0, used - watched.summed))
            over = limit is not None and summed > limit and (used > limit or self._clock.monotonic() >= watched.due_at)
            if exactly or over:
                used = self._read_exactly(watched, summed)
        watched.used = used
        if limit is not None and used > limit and not watched.over:
            watched.over = True
            watched.on_over(used)

    def _read_exactly(self, watched: _Watched, summed: int) -> int:
        began = self._clock.monotonic()
        watched.shared_out = sum(procfs.proportional_bytes(pid) for pid in watched.gauges)
        watched.summed = summed
        ended = self._clock.monotonic()
        watched.due_at = ended + (ended - began) / PSS_SHARE
        return watched.shared_out
