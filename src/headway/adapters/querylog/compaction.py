"""Compaction: complete segments become parts, the parts of a past hour become one, what is too old goes.

A segment is complete when it says so or nobody holds its lock. Its records are put into one part for each hour they
fall into, all of them on the disk, and then the segment is removed: that is the step that counts. Before it, readers
take the records from the segment and ignore the parts; a crash before it repeats everything under the same names.

One compaction at a time: the lock of ``<segments>/../compaction.lock``, and the directory's own. In object storage
several machines may share a prefix: sources have names of their own, and merging is settled by who creates a file
(see :mod:`.manifest`).
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final
from zlib import crc32

from headway.adapters.querylog.columns import Columns
from headway.adapters.querylog.directory import Stopped, locked, sync_folder
from headway.adapters.querylog.feedback_rows import add_feedback, feedback_beside
from headway.adapters.querylog.housekeeping import clean_scratch, expire, merge_hours, remove_replaced
from headway.adapters.querylog.losses import account_of
from headway.adapters.querylog.manifest import HOUR_NS, Account, hour_of, segment_source
from headway.adapters.querylog.new_parts import add_columns
from headway.adapters.querylog.segments import read_segment
from headway.adapters.querylog.settling import take_lines
from headway.adapters.querylog.store import PartStore, in_thread, storage_failed
from headway.domain.errors import HeadwayError, StorageFailed
from headway.domain.names import MODEL_NAME
from headway.domain.query_log import CompactionReport, Retention
from headway.domain.query_segments import BLOCK, CRC_OFFSET, MAGIC, SUFFIX, Kind

log = logging.getLogger("headway.querylog")

DRAFT_AGE_NS: Final = HOUR_NS
"""A segment that never got its name and that nobody writes is removed after this long."""
DAMAGED: Final = ".damaged"
"""What a segment of which nothing can be read is renamed to."""
_CLOSED: Final = b"{}"


@dataclass(slots=True)
class _Round:
    """What one run did so far."""

    segments: int = 0
    records: int = 0
    expired_files: int = 0
    expired_bytes: int = 0
    failure: HeadwayError | None = None
    """The first one. The rest of the work is still done: expiry may be what makes room."""
    stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """One piece of work whose failure does not keep the others from being done."""
        if self.stop.is_set():
            raise Stopped
        try:
            yield
        except (OSError, StorageFailed) as error:
            failed = storage_failed(error) if isinstance(error, OSError) else error
            log.warning("compaction of the query log: %s failed: %s", what, failed.message)
            self.failure = self.failure or failed


class Compaction:
    """Housekeeping for one home. ``run`` may be called at any time, also twice at once."""

    def __init__(self, segments_root: Path, gateway_root: Path, store: PartStore) -> None:
        self._segments = segments_root
        self._gateway = gateway_root
        self._store = store
        self._feedback = feedback_beside(store)

    async def run(self, now_ns: int, retention: Retention) -> CompactionReport:
        """One round; waits while another one is under way. Repeating it is harmless, whatever was interrupted.

        ``now_ns`` decides which hours are past and what is too old. Raises ``StorageFailed`` when a part of the work
        could not be done; what can be done is done first, and nothing is lost.
        """
        work = _Round()
        task = asyncio.ensure_future(in_thread(partial(self._run, now_ns, retention, work)))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            work.stop.set()
            with suppress(Exception):
                await task
            raise
        if work.failure:
            raise work.failure
        return CompactionReport(
            segments=work.segments,
            records=work.records,
            expired_files=work.expired_files,
            expired_bytes=work.expired_bytes,
        )

    def _run(self, now_ns: int, retention: Retention, work: _Round) -> None:
        store, stop = self._store, work.stop.is_set
        with suppress(Stopped), locked(self._segments.parent / "compaction.lock", stop), store.place.alone(stop):
            with work.step("cleaning up"):
                clean_scratch(store.place.scratch, now_ns)
                clean_scratch(self._feedback.place.scratch, now_ns)
            self._expire(now_ns, retention, work)
            models = [name for name in _names(self._segments) if MODEL_NAME.fullmatch(name)]
            for model in models:
                for path in _segments(self._segments / model):
                    with work.step(f"segment {path.name}"):
                        self._compact(model, path, now_ns, work)
                with work.step("removing drafts"):
                    _remove_drafts(self._segments / model, now_ns, retention)
            with work.step("the gateway's lines"):
                horizon_ns = min(
                    [now_ns, *(start for model in models for start in live_starts(self._segments / model))]
                )
                work.records += take_lines(self._gateway, store, models, horizon_ns, now_ns)
            self._merge(store, now_ns, work)
            self._merge(self._feedback, now_ns, work)
            self._expire(now_ns, retention, work)

    def _merge(self, store: PartStore, now_ns: int, work: _Round) -> None:
        models: list[str] = []
        with work.step("listing parts"):
            models = sorted({stored.model for stored in store.place.files(None)})
        for model in models:
            folder = self._segments / model
            with work.step(f"merging parts of {model}"):
                here = frozenset(path.name for path in _segments(folder))
                merge_hours(store, model, min([now_ns, *live_starts(folder)]), here, now_ns)
            with work.step("removing merged parts"):
                remove_replaced(store, model, now_ns)

    def _expire(self, now_ns: int, retention: Retention, work: _Round) -> None:
        with work.step("expiry"):
            for store in (self._store, self._feedback):
                files, size = expire(store.place, now_ns, retention)
                work.expired_files += files
                work.expired_bytes += size

    # -- segments ----------------------------------------------------------------------------------

    def _compact(self, model: str, path: Path, now_ns: int, work: _Round) -> None:
        if not is_complete(path):
            return
        reader, columns = read_segment(path)
        if not reader.final:
            return
        if not reader.version:
            # Without its head nothing of it can be told: damaged, or a later release's.
            self._put(model, path, Account(stream=reader.stream, number=reader.number, torn=1), columns, now_ns)
            os.rename(path, path.with_name(path.name + DAMAGED))
            log.error("the segment %s of the query log cannot be read; it is put aside", path)
        else:
            add_feedback(self._feedback, model, segment_source(path.name), reader.feedback, now_ns)
            self._put(model, path, account_of(reader), columns, now_ns)
            path.unlink()
        sync_folder(path.parent)
        work.segments += 1
        work.records += len(columns)

    def _put(self, model: str, path: Path, account: Account, columns: Columns, now_ns: int) -> None:
        lost = account.dropped or account.torn or account.missing or account.clock_steps
        add_columns(
            self._store,
            model,
            segment_source(path.name),
            columns,
            account,
            now_ns,
            empty_hour=hour_of(path.stat().st_mtime_ns) if lost else None,
        )


# -- which segments are complete ---------------------------------------------------------------------


def is_complete(path: Path) -> bool:
    """Whether a segment will not grow: nobody holds its lock, or it ends with a ``CLOSED`` block."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: readers do the same meanwhile
        except BlockingIOError:
            return _ends_closed(descriptor)
        return True
    finally:
        os.close(descriptor)


def _ends_closed(descriptor: int) -> bool:
    size = BLOCK.size + len(_CLOSED)
    end = os.fstat(descriptor).st_size
    block = os.pread(descriptor, size, max(0, end - size))
    if len(block) < size or block[BLOCK.size :] != _CLOSED:
        return False
    magic, kind, _, length, crc, *_ = BLOCK.unpack_from(block)
    blank = block[:CRC_OFFSET] + bytes(4) + block[CRC_OFFSET + 4 :]
    return bool(magic == MAGIC and kind == Kind.CLOSED and length == len(_CLOSED) and crc == crc32(blank))


def live_starts(folder: Path) -> list[int]:
    """The wall clock's lowest reading that each segment of ``folder`` may have records of."""
    starts = []
    for path in _segments(folder):
        with suppress(FileNotFoundError), path.open("rb") as file:
            head = file.read(BLOCK.size)
            status = os.fstat(file.fileno())
            if len(head) == BLOCK.size and status.st_size > BLOCK.size + BLOCK.unpack(head)[3]:
                starts.append(min(BLOCK.unpack(head)[6], status.st_mtime_ns))
    return starts


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _segments(folder: Path) -> list[Path]:
    return [folder / name for name in _names(folder) if name.endswith(SUFFIX) and not name.startswith(".")]


def _remove_drafts(folder: Path, now_ns: int, retention: Retention) -> None:
    """What a crash left before it had a name; and what was put aside, once it is too old."""
    most_age_ns = None if retention.max_age_s is None else int(retention.max_age_s * 1e9)
    for name in _names(folder):
        with suppress(FileNotFoundError):
            path = folder / name
            age_ns = now_ns - path.stat().st_mtime_ns
            if name.startswith(".") and name.endswith(SUFFIX):
                if age_ns > DRAFT_AGE_NS and is_complete(path):
                    path.unlink()
            elif name.endswith(DAMAGED) and most_age_ns is not None and age_ns > most_age_ns:
                path.unlink()
