"""LocalReplicaStats: the stats pages of this machine's replicas, with what the kernel tells of their processes.

Looking at a replica is two small reads, its page and ``/proc/PID/stat`` of its leading process, both kept open, and one
more for each further process. That page and processes belong together is known from the pid and start time in the
page's head; the page of a process that is gone counts for nothing, so one that was killed leaves no request in flight
behind.

**Processor time** is that of the living processes and of the ended ones that their parents have waited for. A process
that ends moves from the former to the latter, and one that is seen in both or in neither would make the sum jump;
so where there are several, all are read until nothing has moved between two readings. What is lost all the same (a
process nobody waited for) stays in the sum as last seen.

**Memory** (PSS) is dear: the kernel walks all pages, milliseconds for a gigabyte. Therefore it is measured in turns,
on a thread, for at most a fiftieth of a processor, and moved in between by the change of the resident memory.
"""

from __future__ import annotations

import asyncio
import os
import resource
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from headway.adapters.local import procfs
from headway.domain.stats_page import MAX_WORKERS, Page, Totals, page_bytes, read_page
from headway.ports.clock import Clock
from headway.ports.replica_stats import ReplicaStat

AT_ONCE: Final = 64
"""Replicas that are looked at before others have a turn on the event loop."""
TRIES: Final = 3
PSS_SHARE: Final = 0.02
MOST_CREDIT_S: Final = 0.05
"""Of unused time for measuring memory."""
OPEN_SHARE: Final = 0.25
"""Of the descriptors that this process may have, at most, for what is kept open (two a replica)."""
_MOST_BYTES: Final = page_bytes(MAX_WORKERS)


@dataclass(slots=True)
class _Followed:
    """One life of a replica, as seen so far."""

    epoch: str
    totals: Totals
    leader: int
    cpu_ticks: int = 0
    lost_ticks: int = 0
    """Processor time of processes that have ended without anybody telling."""
    pids: tuple[int, ...] = ()
    resident: int = 0
    weight: int | None = None
    """Memory as last measured."""
    resident_then: int = 0
    weighed_at: float = field(default=float("-inf"))

    @property
    def memory_bytes(self) -> int | None:
        return None if self.weight is None else max(0, self.weight + self.resident - self.resident_then)


class LocalReplicaStats:
    """The ``ReplicaStats`` port for the replicas of ``home``.

    ``processes`` tells of a leading process which others belong to it (``LocalRuntime.processes_of``); without it only
    the model server's own are known.
    """

    def __init__(self, home: Path, clock: Clock, processes: Callable[[int], Iterable[int]] = lambda leader: ()) -> None:
        self._folder = str(home.resolve() / "replicas")
        self._clock = clock
        self._processes = processes
        self._followed: dict[str, _Followed] = {}
        self._sources: dict[str, _Source] = {}
        self._most_open = int(resource.getrlimit(resource.RLIMIT_NOFILE)[0] * OPEN_SHARE / 2)
        self._credit_s = 0.0
        self._read_at: float | None = None

    def close(self) -> None:
        """Let go of all that is open. Idempotent; may be read again."""
        for name in tuple(self._sources):
            self._drop(name)

    async def read(self) -> tuple[ReplicaStat, ...]:
        """See the port."""
        await self._weigh()
        try:
            names = os.listdir(self._folder)
        except OSError:
            names = []
        stats = []
        for place, name in enumerate(names):
            if place % AT_ONCE == AT_ONCE - 1:
                await asyncio.sleep(0)
            stat = self._look(name)
            if stat is not None:
                stats.append(stat)
        for name in self._followed.keys() - {stat.replica_id for stat in stats}:
            self._followed.pop(name, None)
            self._drop(name)
        return tuple(stats)

    def _look(self, name: str) -> ReplicaStat | None:
        source = self._source(name)
        if source is None:
            return None
        try:
            return self._read(name, source)
        finally:
            if self._sources.get(name) is not source:
                source.close()

    def _source(self, name: str) -> _Source | None:
        """The open one, unless it is not that any more; a new one is kept while descriptors may be had for it."""
        path = f"{self._folder}/{name}/stats"
        source = self._sources.get(name)
        try:
            found = os.lstat(path)
            mark = found.st_ino, found.st_ctime_ns
            if source is not None and source.mark == mark:
                return source
            self._drop(name)
            source = _Source(path, mark)
        except OSError:
            self._drop(name)
            return None
        if len(self._sources) < self._most_open:
            self._sources[name] = source
        return source

    def _drop(self, name: str) -> None:
        source = self._sources.pop(name, None)
        if source is not None:
            source.close()

    def _read(self, name: str, source: _Source) -> ReplicaStat | None:
        page = source.page()
        if page is None:
            return None
        leader = source.use(page.head.pid)
        if leader is None or page.head.start_ticks not in (0, leader.start_ticks):
            return None
        at = self._clock.monotonic()
        totals = page.totals(int(at * 1e9))
        followed = self._followed.get(name)
        if followed is None or followed.epoch != page.head.epoch:
            followed = self._followed[name] = _Followed(page.head.epoch, totals, page.head.pid)
        self._measure(followed, page, leader)
        before = followed.totals
        followed.totals = totals = totals._replace(
            in_flight_s=max(before.in_flight_s, totals.in_flight_s), queue_s=max(before.queue_s, totals.queue_s)
        )
        return ReplicaStat(
            name,
            at,
            followed.epoch,
            cpu_s=(followed.cpu_ticks + followed.lost_ticks) / procfs.TICKS_PER_S,
            memory_bytes=followed.memory_bytes,
            in_flight=totals.in_flight,
            in_flight_s=totals.in_flight_s,
            finished=totals.finished,
            queue_s=totals.queue_s,
        )

    def _measure(self, followed: _Followed, page: Page, leader: procfs.ProcessUse) -> None:
        """Processor time and resident memory of all its processes."""
        head = page.head.pid
        pids = {slot.pid for slot in page.slots if slot.pid}.union(self._processes(head)) - {head}
        uses = {head: leader}
        if pids:
            before: dict[int, procfs.ProcessUse] = {}
            for _ in range(TRIES):
                before, uses = uses, _uses(head, leader, pids)
                if before.keys() == uses.keys() and all(
                    seen.waited_ticks == uses[pid].waited_ticks for pid, seen in before.items()
                ):
                    break
        ticks = sum(seen.own_ticks + seen.waited_ticks for seen in uses.values())
        followed.lost_ticks += max(0, followed.cpu_ticks - ticks)
        followed.cpu_ticks = ticks
        followed.pids = tuple(uses)
        followed.resident = sum(seen.resident_bytes for seen in uses.values())

    async def _weigh(self) -> None:
        """Measure the memory of those that have waited longest for it, within what may be spent on it."""
        now = self._clock.monotonic()
        elapsed = 0.0 if self._read_at is None else now - self._read_at
        self._read_at = now
        self._credit_s = min(MOST_CREDIT_S, self._credit_s + max(0.0, elapsed) * PSS_SHARE)
        if self._credit_s > 0 and self._followed:
            turns = sorted(self._followed.values(), key=lambda followed: followed.weighed_at)
            await asyncio.to_thread(self._spend, turns)

    def _spend(self, turns: list[_Followed]) -> None:
        for followed in turns:
            began = self._clock.monotonic()
            if self._credit_s <= 0:
                return
            followed.weight = sum(procfs.proportional_bytes(pid) for pid in followed.pids) or None
            followed.resident_then = sum(seen.resident_bytes for pid in followed.pids if (seen := procfs.use(pid)))
            followed.weighed_at = self._clock.monotonic()
            self._credit_s -= max(1e-5, followed.weighed_at - began)


class _Source:
    """A page and its leading process, open. What is open costs a third of what is opened for every look."""

    def __init__(self, path: str, mark: tuple[int, int]) -> None:
        """Raises ``OSError`` when the path leads nowhere: it is a link into ``/proc`` of a process that is gone."""
        self.mark = mark
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        self.leader = -1
        self._gauge: procfs.UseGauge | None = None

    def page(self) -> Page | None:
        """None when it cannot be read: torn, cut short, of another layout."""
        for _ in range(TRIES):
            try:
                page = read_page(os.pread(self._fd, _MOST_BYTES, 0))
            except OSError:
                return None
            if page is not None:
                return page
        return None

    def use(self, leader: int) -> procfs.ProcessUse | None:
        """What the leading process has used; None when it is gone."""
        if self._gauge is None or leader != self.leader:
            if self._gauge is not None:
                self._gauge.close()
            self.leader, self._gauge = leader, procfs.UseGauge(leader)
        return self._gauge.read()

    def close(self) -> None:
        """Give up the descriptors."""
        os.close(self._fd)
        if self._gauge is not None:
            self._gauge.close()


def _uses(head: int, leader: procfs.ProcessUse, pids: Iterable[int]) -> dict[int, procfs.ProcessUse]:
    """Of the leading process and those of ``pids`` that are in its session."""
    found = {pid: seen for pid in (*pids, head) if (seen := procfs.use(pid)) is not None}
    uses = {pid: seen for pid, seen in found.items() if seen.session == leader.session}
    uses.setdefault(head, leader)
    return uses
