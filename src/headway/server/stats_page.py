"""The writer of the stats page, and ``GET /stats``, which tells the same.

A request costs nothing here: what the page says is made up from what telemetry and queue know anyway, in the sweep
that looks after deadlines while requests are in flight (every 25 ms), when work comes after a pause, and once a second.
So the page is at most 25 ms behind, and an idle server writes once a second.

The page is memory, not a file on a disk (memfd_create(2)): writing it never waits, and it goes with its process. It is
sealed, so nobody can cut it short under the mapping, which would end the process (SIGBUS). What lies at the path of the
config is a link to it, ``/proc/PID/fd/N``, which leads nowhere once the process is gone.

Several workers write into the slots of one page. A worker goes on from what its predecessor in the place had counted;
what that one had in flight is cleared by the parent when it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import mmap
import os
from pathlib import Path
from time import perf_counter_ns, time_ns
from typing import NamedTuple, Protocol

from headway.domain.stats_page import MAX_WORKERS, Head, Page, Slot, empty_page, page_bytes, read_page, slot_record
from headway.server.config import ServerConfig
from headway.server.http import Request, Response, json_response
from headway.server.process_usage import own_cpu_seconds, resident_bytes, start_ticks
from headway.server.telemetry import Telemetry
from headway.server.worker_board import Seat

log = logging.getLogger("headway.server")


class StatsPage:
    """One page at ``offset`` (a multiple of the size of a memory page) of an open file, for one thread of each process.

    Without ``link`` the file stays whoever's it is.
    """

    def __init__(self, fd: int, head: Head, *, offset: int = 0, link: Path | None = None) -> None:
        self.head = head
        self._fd = fd
        self._link = link
        self._map = mmap.mmap(fd, page_bytes(head.workers), offset=offset)

    @classmethod
    def create(cls, link: Path, workers: int) -> StatsPage:
        """A fresh page of this process, found through ``link``. Raises ``OSError``."""
        head = Head(workers, os.getpid(), start_ticks(), time_ns())
        fd = os.memfd_create("headway-stats", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        draft = link.with_name(f".{link.name}.{os.getpid()}")
        try:
            os.write(fd, empty_page(head))
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
            draft.unlink(missing_ok=True)
            draft.symlink_to(f"/proc/{os.getpid()}/fd/{fd}")
            os.replace(draft, link)
            return cls(fd, head, link=link)
        except OSError:
            os.close(fd)
            raise

    @classmethod
    def within(cls, fd: int, offset: int, workers: int) -> StatsPage:
        """A fresh page inside a larger file. Raises ``OSError``."""
        head = Head(workers, os.getpid(), start_ticks(), time_ns())
        os.pwrite(fd, empty_page(head), offset)
        return cls(fd, head, offset=offset)

    @classmethod
    def found(cls, fd: int, offset: int = 0) -> StatsPage:
        """The page that another process has made in an open file. Raises ``OSError`` when there is none."""
        page = read_page(os.pread(fd, page_bytes(MAX_WORKERS), offset))
        if page is None:
            raise OSError("not a stats page")
        return cls(fd, page.head, offset=offset)

    def read(self) -> Page | None:
        """All slots; None when it cannot be read."""
        return read_page(self._map[:])

    def write(self, place: int, slot: Slot) -> None:
        """Replace what the slot in ``place`` says."""
        start, record = slot_record(place, slot)
        self._map[start : start + len(record)] = record

    def vacate(self, place: int) -> None:
        """The parent: the worker of that place has ended. Its counts stay, what it had in flight does not."""
        page = self.read()
        if page is not None:
            last = page.slots[place]
            self.write(place, last._replace(sequence=last.sequence + 1, pid=0, in_flight=0, waiting=0))

    def close(self) -> None:
        """Write no more; the process that made it takes away the link, if it still leads here. Once only."""
        self._map.close()
        if self._link is not None and self.head.pid == os.getpid():
            with contextlib.suppress(OSError):
                if os.readlink(self._link) == f"/proc/{os.getpid()}/fd/{self._fd}":
                    self._link.unlink()
            os.close(self._fd)


class Queue(Protocol):
    """What the meter asks the predictor."""

    def load(self, now_ns: int) -> Load:
        """What is there now."""
        ...


class Load(NamedTuple):
    """The requests that a process has taken and not answered."""

    in_flight: int
    waiting: int
    """Those of them whose prediction has not begun."""
    in_flight_ns: int
    """Since each arrived, added up."""
    queue_ns: int
    """What they have waited so far, and those that had to leave without a prediction."""


class StatsMeter:
    """Counts for one process of a replica, in the slot ``place`` of ``page``; None: nobody reads a page."""

    def __init__(self, telemetry: Telemetry, queue: Queue, page: StatsPage | None, place: int = 0) -> None:
        self._telemetry = telemetry
        self._queue = queue
        self._page = page
        self._place = place
        self._pid = os.getpid()
        self._own_head = Head(1, self._pid, 0, time_ns())
        before = None if page is None else page.read()
        self._base = self._last = Slot() if before is None else before.slots[place]

    def measure(self, now_ns: int) -> Slot:
        """This process and those before it in its place, as of now."""
        telemetry, load, base, last = self._telemetry, self._queue.load(now_ns), self._base, self._last
        duration, beside = telemetry.duration, telemetry.beside
        flown = int(duration.total) - beside.duration_ns + telemetry.abandoned_ns + load.in_flight_ns
        waited = int(telemetry.queue.total) + load.queue_ns
        return Slot(
            last.sequence + 1,
            now_ns,
            self._pid,
            load.in_flight,
            load.waiting,
            # Never back: who left the queue by a rare way may have been counted a little more while it was there.
            max(last.in_flight_ns, base.in_flight_ns + flown),
            base.finished + sum(duration.counts) - beside.requests + telemetry.abandoned,
            max(last.queue_ns, base.queue_ns + waited),
        )

    def publish(self) -> None:
        """Write the page."""
        if self._page is not None:
            self._last = self.measure(perf_counter_ns())
            self._page.write(self._place, self._last)

    def tell(self, request: Request) -> Response:
        """``GET /stats``: the whole replica."""
        self.publish()
        page = None if self._page is None else self._page.read()
        now_ns = perf_counter_ns()
        if page is None:
            page = Page(self._own_head, (self.measure(now_ns),))
        totals = page.totals(now_ns)
        shared = self._telemetry.shared
        if shared is None:
            cpu_s, memory_bytes = own_cpu_seconds(), resident_bytes()
        else:
            cpu_s, memory_bytes = shared.cpu_seconds(), shared.memory_bytes
        latency = self._telemetry.latencies()
        return json_response(
            {
                **({} if latency is None else {"latency": latency}),
                "at": now_ns / 1e9,
                "epoch": page.head.epoch,
                "workers": page.head.workers,
                "cpu_s": cpu_s,
                "memory_bytes": memory_bytes or None,
                **totals._asdict(),
            }
        )

    def close(self) -> None:
        """Say the last, and close the page."""
        self.publish()
        page, self._page = self._page, None
        if page is not None:
            page.close()


def page_of(config: ServerConfig, workers: int = 1) -> StatsPage | None:
    """A fresh page where ``config`` wants one; None when it wants none, or (said in the log) there cannot be one."""
    if config.stats_file is None:
        return None
    try:
        return StatsPage.create(Path(config.stats_file), workers)
    except (OSError, AttributeError) as error:  # a full disk; a system without such files
        log.warning("no stats page (%s); scaling will not see this replica", error)
        return None


def page_of_worker(config: ServerConfig, seat: Seat) -> StatsPage | None:
    """The page that the worker's parent made: the file of the config, or that on the board."""
    if config.stats_file is not None:
        with contextlib.suppress(OSError):
            fd = os.open(config.stats_file, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                return StatsPage.found(fd)  # its mapping has a descriptor of its own
            finally:
                os.close(fd)
    with contextlib.suppress(OSError):
        return StatsPage.found(seat.board.fd, seat.board.stats_at)
    return None
