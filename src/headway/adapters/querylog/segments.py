"""Reads segment files while they are written, and what is left of them after a crash.

Layout: :mod:`headway.domain.query_segments`. Blocks are found by their headers; rows become columns without a loop
over them. What follows a damaged block is searched for the next sound one, so damage costs the damaged records only,
and the hole in the sequence numbers tells how many they were.

A block that is not complete at the end of a file may be on its way. It is damage once nobody holds the file's
lock, which a writer takes before the file gets its name.
"""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from headway.adapters.querylog.calls import Call, call_of, rows_of
from headway.adapters.querylog.columns import EMPTY, NONE_NS, Columns, Names, concatenate
from headway.adapters.querylog.feedback_rows import FeedbackRow, rows_in
from headway.domain.query_log import Losses
from headway.domain.query_segments import (
    ARM_SHIFT,
    ARMS,
    BLOCK,
    CRC_OFFSET,
    MAGIC,
    MAX_BLOCK_ROWS,
    ROW,
    SUFFIX,
    VERSION,
    Flag,
    Kind,
)

CLOCK_STEP_NS: Final = 100_000_000
"""A wall clock that falls behind the monotonic one by more than this between two blocks was set back."""
MAX_OBJECT_BYTES: Final = 16 * 1024 * 1024
"""A header that announces more is damaged."""
READ_BYTES: Final = 32 * 1024 * 1024
"""Read at a time."""
RUN: Final = 16
"""After so many blocks of one size the next ones are looked at together."""
MAX_RUN: Final = 16 * 1024
"""Blocks looked at together."""

READABLE: Final = (1, VERSION)
_ARM_PLACES: Final = np.array([*range(len(ARMS)), *[0] * (16 - len(ARMS))], np.uint16)
"""By the upper bits of the flags; what is not known counts as direct."""
_NO_CRC: Final = bytes(4)
_HEAD_FIELDS: Final = [
    ("magic", "S4"),
    ("kind", "<u2"),
    ("count", "<u2"),
    ("size", "<u4"),
    ("crc", "<u4"),
    ("first", "<i8"),
    ("wall_ns", "<i8"),
    ("mono_ns", "<i8"),
]


@dataclass(slots=True)
class _Blocks:
    """What a walk over blocks found."""

    payloads: list[memoryview | bytes | Call] = field(default_factory=list)
    """In order."""
    counts: list[int] = field(default_factory=list)
    """Records of each block of records."""
    firsts: list[int] = field(default_factory=list)
    """Their first sequence numbers."""
    offsets_ns: list[int] = field(default_factory=list)
    """Their wall clocks minus their monotonic clocks."""
    spans: list[tuple[int, int]] = field(default_factory=list)
    """Sequence numbers that are accounted for, in order: from, until."""


class SegmentReader:
    """One segment file; :meth:`read` returns what was added since the last time. Not for two threads at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stream, self.number = stream_and_number(path.name)
        self.version = ""
        self.replica = ""
        self.closed = False
        """It says itself that it is complete."""
        self.final = False
        """Nothing will be added: it is closed, or nobody writes it any more."""
        self.torn = False
        self.dropped = 0
        self.missing = 0
        """Holes between the blocks of this segment."""
        self.clock_steps = 0
        self.start_seq: int | None = None
        """First sequence number that this segment accounts for."""
        self.next_seq: int | None = None
        """The one after the last that it accounts for."""
        self.first_offset_ns: int | None = None
        """Wall clock minus monotonic clock, of the first block of rows."""
        self.offset_ns: int | None = None
        """Of the last."""
        self.end = 0
        """Bytes that need not be read again."""
        self.late_ids: dict[int, str] = {}
        """Sequence number to request id, of records that an earlier :meth:`read` returned with the id cut."""
        self.feedback: list[FeedbackRow] = []
        """What every :meth:`read` has found; whoever takes some away has it for himself."""
        self._headed = False
        self._routes: list[str] = [""]
        self._formats: list[str] = [""]
        self._clients: list[str] = [""]
        self._long_ids: dict[int, str] = {}

    @property
    def losses(self) -> Losses:
        """Of this segment by itself; holes between segments are seen by whoever sees both."""
        return Losses(dropped=self.dropped, torn=int(self.torn), missing=self.missing, clock_steps=self.clock_steps)

    def read(self) -> Columns:
        """Records that were added. Raises ``OSError``; ``FileNotFoundError`` when the file is gone."""
        if self.final:
            return EMPTY
        found: list[Columns] = []
        with self.path.open("rb") as file:
            alive = _is_written(file.fileno())  # asked before reading, so that nothing of a dead writer is missed
            while not self.closed:
                data = os.pread(file.fileno(), READ_BYTES, self.end)
                blocks = _Blocks()
                used = self._walk(data, blocks, growing=alive or len(data) == READ_BYTES)
                self._account(blocks)
                if blocks.counts:
                    found.append(self._columns(blocks))
                self.end += used
                if not used:
                    break
        self.final = self.closed or not alive
        return self._with_long_ids(concatenate(found) if found else EMPTY)

    # -- blocks ------------------------------------------------------------------------------------

    def _walk(self, data: bytes, blocks: _Blocks, *, growing: bool) -> int:
        """Collect the blocks in ``data``; how many of its bytes need not be looked at again."""
        view = memoryview(data)
        place, same, last_size = 0, 0, -1
        while place < len(data) and not self.closed:
            left = len(data) - place
            if left < BLOCK.size and growing:
                break
            if left >= BLOCK.size:
                magic, kind, count, size, crc, first, wall_ns, mono_ns = BLOCK.unpack_from(data, place)
                end = place + BLOCK.size + size
                if magic == MAGIC and _plausible(kind, count, size):
                    if end <= len(data) and crc == _crc(view, place, end):
                        payload = view[place + BLOCK.size : end]
                        place = end
                        if kind not in (Kind.ROWS, Kind.CALL):
                            self._object(kind, payload, first, wall_ns, blocks)
                        elif self._headed and self._records(kind, payload, count, first, blocks):
                            blocks.counts.append(count)
                            blocks.firsts.append(first)
                            blocks.offsets_ns.append(wall_ns - mono_ns)
                            blocks.spans.append((first, first + count))
                            if kind != Kind.ROWS:
                                continue
                            same, last_size = (same + 1 if size == last_size else 0), size
                            if same >= RUN:
                                same = 0
                                place += _run(view[place:], count, size, blocks)
                        continue
                    if growing and end >= len(data) and not _sound_block_after(view, data, place):
                        break
            self.torn = True
            following = data.find(MAGIC, place + 1)
            # Without another magic: the last three bytes may be the beginning of one.
            place = following if following >= 0 else max(place + 1, len(data) - 3) if growing else len(data)
            if following < 0:
                break
        return place

    def _records(self, kind: int, payload: memoryview, count: int, first: int, blocks: _Blocks) -> bool:
        """Take the payload of a block of records; False when it makes no sense."""
        if kind == Kind.ROWS:
            blocks.payloads.append(payload)
            return True
        try:
            call = call_of(payload, count)
        except ValueError:
            self.torn = True
            return False
        self._long_ids.update({first + at: text.decode("utf-8", "replace") for at, text in call.long_ids})
        blocks.payloads.append(call)
        return True

    def _object(self, kind: int, payload: memoryview, first: int, wall_ns: int, blocks: _Blocks) -> None:
        try:
            if kind == Kind.HEAD:
                self._head(json.loads(bytes(payload)))
            elif kind == Kind.FEEDBACK:
                self.feedback += rows_in(bytes(payload), self.stream, wall_ns)
            elif kind == Kind.NAMES:
                self._clients.extend(map(str, json.loads(bytes(payload))["clients"]))
            elif kind == Kind.LONG_ID:
                self._long_ids.update({int(seq): str(text) for seq, text in json.loads(bytes(payload)).items()})
            elif kind == Kind.DROPPED:
                records = int(json.loads(bytes(payload))["records"])
                self.dropped += records
                blocks.spans.append((first - records, first))
            elif kind == Kind.CLOSED:
                self.closed = True
                blocks.spans.append((first, first))
        except (ValueError, KeyError, TypeError, AttributeError):
            self.torn = True

    def _head(self, head: dict[str, Any]) -> None:
        if head["format"] not in READABLE:
            raise ValueError(head["format"])
        self.version, self.replica = str(head["version"]), str(head["replica"])
        self._routes, self._formats, self._clients = (
            [str(text) for text in head[name]] or [""] for name in ("routes", "formats", "clients")
        )
        self._headed = True

    def _account(self, blocks: _Blocks) -> None:
        """Holes between the sequence numbers, and steps of the clock."""
        if blocks.spans:
            starts, ends = np.array(blocks.spans, np.int64).T
            if self.next_seq is None:
                self.start_seq = self.next_seq = int(starts[0])
            reached = np.maximum.accumulate(np.concatenate([[self.next_seq], ends]))
            self.missing += int(np.maximum(starts - reached[:-1], 0).sum())
            self.next_seq = int(reached[-1])
        if blocks.offsets_ns:
            if self.first_offset_ns is None or self.offset_ns is None:
                self.first_offset_ns = self.offset_ns = blocks.offsets_ns[0]
            offsets = np.array([self.offset_ns, *blocks.offsets_ns], np.int64)
            self.clock_steps += int((np.diff(offsets) < -CLOCK_STEP_NS).sum())
            self.offset_ns = blocks.offsets_ns[-1]

    # -- columns -----------------------------------------------------------------------------------

    def _columns(self, blocks: _Blocks) -> Columns:
        rows = rows_of(blocks.payloads)
        counts = np.array(blocks.counts, np.int64)
        before = np.cumsum(counts) - counts
        seq = np.repeat(np.array(blocks.firsts, np.int64) - before, counts) + np.arange(len(rows))
        offset_ns = np.repeat(np.array(blocks.offsets_ns, np.int64), counts)
        received, queued, started, predicted, answered = (
            np.ascontiguousarray(rows[name]) for name in ("received", "queued", "started", "predicted", "answered")
        )
        flags = rows["flags"]
        return Columns(
            {
                "ts_ns": received + offset_ns,
                "seq": seq,
                "status": rows["status"].astype(np.int32),
                "rows": rows["rows"].astype(np.int64),
                "batch": rows["batch"].astype(np.int32),
                "bytes_in": rows["bytes_in"].astype(np.int64),
                "bytes_out": rows["bytes_out"].astype(np.int64),
                "total_ns": np.maximum(answered - received, 0),
                "queue_ns": _between(queued, started),
                "decode_ns": _between(received, queued),
                "predict_ns": _between(started, predicted),
                "encode_ns": _between(predicted, answered),
                "cold_start": (flags & Flag.COLD_START) != 0,
                "shed": (flags & Flag.SHED) != 0,
                "expired": (flags & Flag.EXPIRED) != 0,
            },
            {
                "version": Names.one(self.version, len(rows)),
                "replica": Names.one(self.replica, len(rows)),
                "stream": Names.one(self.stream, len(rows)),
                "route": _named(rows["route"], self._routes),
                "format": _named(rows["format"], self._formats),
                "client": _named(rows["client"], self._clients),
                "arm": Names(_ARM_PLACES[flags >> ARM_SHIFT], ARMS),
            },
            rows["request_id"].copy(),
        )

    def _with_long_ids(self, columns: Columns) -> Columns:
        if not self._long_ids:
            return columns
        seqs = columns.numbers["seq"]
        long_ids: dict[int, str] = {}
        for seq, text in self._long_ids.items():
            places = np.flatnonzero(seqs == seq)
            if len(places):
                long_ids[int(places[0])] = text
            else:
                self.late_ids[seq] = text
        self._long_ids = {}
        return Columns(columns.numbers, columns.names, columns.ids, long_ids)


def read_segment(path: Path) -> tuple[SegmentReader, Columns]:
    """All that ``path`` holds now, and what is known about it. Raises ``OSError``."""
    reader = SegmentReader(path)
    return reader, reader.read()


def stream_and_number(name: str) -> tuple[str, int]:
    """From a segment's file name; number -1 when it is none."""
    stream, _, number = name.removesuffix(SUFFIX).rpartition("-")
    return stream, int(number) if name.endswith(SUFFIX) and number.isascii() and number.isdigit() else -1


def _plausible(kind: int, count: int, size: int) -> bool:
    if kind == Kind.ROWS:
        return 0 < count <= MAX_BLOCK_ROWS and size == count * ROW.size
    if kind == Kind.CALL and not 0 < count <= MAX_BLOCK_ROWS:
        return False
    return bool(size <= MAX_OBJECT_BYTES)


def _sound_block_after(view: memoryview, data: bytes, place: int) -> bool:
    """Whether a whole block follows: then what begins at ``place`` is not one that is being written."""
    while (place := data.find(MAGIC, place + 1)) >= 0 and place + BLOCK.size <= len(data):
        _, kind, count, size, crc, *_ = BLOCK.unpack_from(data, place)
        end = place + BLOCK.size + size
        if _plausible(kind, count, size) and end <= len(data) and crc == _crc(view, place, end):
            return True
    return False


def _crc(view: memoryview, start: int, end: int) -> int:
    head = crc32(_NO_CRC, crc32(view[start : start + CRC_OFFSET]))
    return crc32(view[start + CRC_OFFSET + len(_NO_CRC) : end], head)


def _run(view: memoryview, count: int, size: int, blocks: _Blocks) -> int:
    """Take blocks of rows, all of ``size``, from the beginning of ``view``; bytes taken.

    One request at a time makes one block each: a million of them take seconds one by one.
    """
    stride = BLOCK.size + size
    kind = np.dtype([*_HEAD_FIELDS, ("payload", f"V{size}")])
    whole = len(view) // stride
    limit, taken = 4 * RUN, 0
    while taken < whole:
        table = np.frombuffer(view, kind, min(limit, whole - taken), taken * stride).copy()
        like = (
            (table["magic"] == MAGIC)
            & (table["kind"] == Kind.ROWS)
            & (table["count"] == count)
            & (table["size"] == size)
        )
        crcs = table["crc"].copy()
        table["crc"] = 0
        flat = memoryview(table.tobytes())
        like &= crcs == np.fromiter((crc32(flat[at : at + stride]) for at in range(0, len(flat), stride)), np.uint32)
        sound = len(table) if like.all() else int(like.argmin())
        table = table[:sound]
        blocks.payloads.append(table["payload"].tobytes())
        blocks.counts.extend([count] * sound)
        firsts = table["first"].tolist()
        blocks.firsts.extend(firsts)
        blocks.spans.extend([(first, first + count) for first in firsts])
        blocks.offsets_ns.extend((table["wall_ns"] - table["mono_ns"]).tolist())
        taken += sound
        if sound < len(like):
            break
        limit = min(limit * 4, MAX_RUN)
    return taken * stride


def _is_written(fd: int) -> bool:
    """Whether somebody holds the lock of a segment's writer."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False


def _between(start: NDArray[np.int64], end: NDArray[np.int64]) -> NDArray[np.int64]:
    """From one instant to another where there are both."""
    return np.where((start != 0) & (end != 0), np.maximum(end - start, 0), NONE_NS)


def _named(places: NDArray[Any], names: list[str]) -> Names:
    known = tuple(names)
    chosen = places.astype(np.uint16)
    return Names(np.where(chosen < len(known), chosen, 0).astype(np.uint16), known)
