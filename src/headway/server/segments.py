"""Segment files of one stream: blocks appended with one ``write`` each, rotation, flushing, and what is lost.

Layout: :mod:`headway.domain.query_segments`. What was written survives the death of this process; a thread has it
put on the disk once a second, for the death of the machine.

Predictions matter more than their log: when writing fails, rows are counted as dropped. A file is created under
another name, locked, given its head and then renamed, so whoever can take the lock of a segment knows that
nobody writes it any more.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from queue import SimpleQueue
from struct import Struct
from typing import Any, Final
from zlib import crc32

import msgspec

from headway.domain.query_segments import BLOCK, CRC_OFFSET, MAGIC, SUFFIX, Kind

log = logging.getLogger("headway.server")

FLUSH_INTERVAL_S: Final = 1.0
"""What the death of the machine may cost."""
RETRY_NS: Final = 200_000_000
"""After a failed write the next one is tried this much later."""

write_some: Final = os.write
_CRC: Final = Struct("<I")
_encode_json: Final = msgspec.json.Encoder().encode_into


class Segments:
    """Appends blocks. Used from one thread; ``open`` first, ``close`` last."""

    def __init__(
        self, folder: Path, head: dict[str, Any], *, wall_ns: Callable[[], int], most_bytes: int, most_age_ns: int
    ) -> None:
        self._folder = folder
        self._head = head
        self._wall_ns = wall_ns
        self._most_bytes = most_bytes
        self._most_age_ns = most_age_ns
        self.next_seq = 0
        """Of the next row."""
        self.written = 0
        """Rows that are in the log."""
        self.dropped = 0
        """Rows that could not be written."""
        self.names: list[str] = []
        """What each new segment begins with as ``clients``."""
        self._unreported = 0
        """Dropped rows that no block tells of yet."""
        self._reason = ""
        self._retry_at_ns = 0
        self._number = 0
        self._fd = -1
        self._size = 0
        self._held = False
        """Whether the open segment holds anything that is to be kept."""
        self._opened_ns = 0
        self._flusher = _Flusher()

    def records(self, kind: Kind, count: int, block: bytearray, now_ns: int) -> bool:
        """Write records as one block; they take the next sequence numbers whatever becomes of them.

        ``block`` holds them from ``BLOCK.size`` on, and room for the header before them.
        """
        first = self.next_seq
        self.next_seq = first + count
        if (self._fd >= 0 or self._mended(first, now_ns)) and self._append(kind, count, block, first, now_ns):
            self.written += count
            self._held = True
            if self._size >= self._most_bytes:
                self._rotate(now_ns)
            return True
        self.dropped += count
        self._unreported += count
        return False

    def note(self, kind: Kind, value: dict[str, Any], now_ns: int) -> bool:
        """Write a JSON object, if writing works at present."""
        return self._fd >= 0 and self._append(kind, 1, _noted(value), self.next_seq, now_ns)

    def kept(self, kind: Kind, value: dict[str, Any], now_ns: int) -> bool:
        """Write a JSON object that somebody waits to hear of; False: nothing of it is in the log."""
        ready = self._fd >= 0 or self._mended(self.next_seq, now_ns)
        if not ready or not self._append(kind, 1, _noted(value), self.next_seq, now_ns):
            return False
        self._held = True
        if self._size >= self._most_bytes:
            self._rotate(now_ns)
        return True

    def open(self, now_ns: int) -> None:
        """Begin the first segment, and to flush."""
        self._begin(self.next_seq, now_ns)
        self._flusher.start()

    def look(self, now_ns: int) -> None:
        """Once a second: mend what failed, flush, close a segment that is old."""
        if self._fd >= 0 or self._mended(self.next_seq, now_ns):
            if self._held and now_ns - self._opened_ns >= self._most_age_ns:
                self._rotate(now_ns)
            self._flusher.flush(self._fd)

    def close(self, now_ns: int) -> None:
        """End the segment; it is on the disk when this returns."""
        if self._unreported:  # the last chance to tell
            self._retry_at_ns = 0
            self._mended(self.next_seq, now_ns)
        self._end(now_ns)
        self._flusher.stop()

    # -- blocks ------------------------------------------------------------------------------------

    def _append(self, kind: Kind, count: int, block: bytearray, first: int, now_ns: int) -> bool:
        """Append one block, whose header is filled in here; False when nothing of it is in the file."""
        BLOCK.pack_into(block, 0, MAGIC, kind, count, len(block) - BLOCK.size, 0, first, self._wall_ns(), now_ns)
        _CRC.pack_into(block, CRC_OFFSET, crc32(block))
        try:
            written = write_some(self._fd, block)
            if written == len(block):
                self._size += written
                return True
            reason = os.strerror(errno.ENOSPC)
        except OSError as error:
            reason = error.strerror or str(error)
        with contextlib.suppress(OSError):
            os.ftruncate(self._fd, self._size)
        # What comes next begins a new segment, whose head repeats what a lost block may have told.
        self._flusher.flush(self._fd, close=True)
        self._fd = -1
        self._failed(reason, now_ns)
        return False

    def _failed(self, reason: str, now_ns: int) -> None:
        if self._reason != reason:
            self._reason = reason
            log.error("the query log cannot be written (%s); predictions go on, their records are dropped", reason)
        self._retry_at_ns = now_ns + RETRY_NS

    def _mended(self, first: int, now_ns: int) -> bool:
        """Whether writing works again, in a new segment; what was dropped before ``first`` is accounted for."""
        if now_ns < self._retry_at_ns or not self._begin(first, now_ns):
            return False
        if self._unreported:
            lost = {"records": self._unreported, "reason": self._reason}
            if not self._append(Kind.DROPPED, 1, _noted(lost), first, now_ns):
                return False
            log.warning("the query log is written again; %d records were dropped", self._unreported)
            self._unreported = 0
        self._reason = ""
        return True

    # -- files -------------------------------------------------------------------------------------

    def _begin(self, first: int, now_ns: int) -> bool:
        """Begin the next segment; False when that cannot be."""
        name = f"{self._head['stream']}-{self._number}{SUFFIX}"
        draft = self._folder / f".{name}"
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._fd = os.open(draft, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._size, self._held = 0, False
            head = {**self._head, "segment": self._number, "clients": ["", *self.names]}
            if not self._append(Kind.HEAD, 1, _noted(head), first, now_ns):
                raise OSError(errno.ENOSPC, self._reason)
            os.rename(draft, self._folder / name)
        except OSError as error:
            if self._fd >= 0:
                self._flusher.flush(self._fd, close=True)
                self._fd = -1
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            self._failed(error.strerror or str(error), now_ns)
            return False
        self._number += 1
        self._opened_ns = now_ns
        return True

    def _end(self, now_ns: int) -> None:
        if self._fd >= 0 and self._append(Kind.CLOSED, 1, _noted({}), self.next_seq, now_ns):
            self._flusher.flush(self._fd, close=True)
            self._fd = -1

    def _rotate(self, now_ns: int) -> None:
        self._end(now_ns)
        self._begin(self.next_seq, now_ns)


def _noted(value: dict[str, Any]) -> bytearray:
    """A block with ``value`` as JSON."""
    block = bytearray(BLOCK.size)
    _encode_json(value, block, BLOCK.size)
    return block


class _Flusher:
    """A thread that puts files on the disk, so that nobody waits for one."""

    def __init__(self) -> None:
        self._orders: SimpleQueue[tuple[int, bool] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._under_way = False

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="headway-flush", daemon=True)
            self._thread.start()

    def flush(self, fd: int, *, close: bool = False) -> None:
        """Have ``fd`` flushed; one flush at a time unless it is to be closed too."""
        if close or not self._under_way:
            self._under_way = True
            self._orders.put((fd, close))

    def stop(self) -> None:
        """Do what was ordered, end the thread."""
        self._orders.put(None)
        if self._thread is None:
            self._run()
        else:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            fd, close = order
            with contextlib.suppress(OSError):
                os.fdatasync(fd)
            if close:
                os.close(fd)
            self._under_way = False
