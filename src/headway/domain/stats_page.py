"""The stats page: a bit of shared memory in which a model server keeps what it counts, for whoever watches its replica.

One head and a slot per worker process. A slot has two halves; its writer fills them in turn, so that one whole record
is there at any moment, also when it was killed while writing. A record carries a sequence number (the larger of the
two counts) and a checksum (a torn read does not pass it). Nobody locks and nobody waits.

A record is true for the moment ``at_ns``; requests in flight make the integrals grow after it, see :meth:`Page.totals`.
Times are those of CLOCK_MONOTONIC, which all processes of a machine share. All numbers are little endian.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple
from zlib import crc32

LAYOUT: Final = 1
"""Counts up with every change; a page of another layout is not read."""
MAX_WORKERS: Final = 64

_MAGIC: Final = b"HWST"
_HEAD: Final = struct.Struct("<4sHHIIQQ")
_SLOT: Final = struct.Struct("<QQIIIIQQQ")
_SEQUENCE: Final = struct.Struct("<Q")
_CRC: Final = struct.Struct("<I")
_HEAD_BYTES: Final = 64
_HALF_BYTES: Final = 64
_SLOT_BYTES: Final = 2 * _HALF_BYTES
_UNWRITTEN: Final = bytes(_SLOT_BYTES)

assert _HEAD.size + _CRC.size <= _HEAD_BYTES
assert _SLOT.size + _CRC.size <= _HALF_BYTES


class Head(NamedTuple):
    """Whose page it is."""

    workers: int
    pid: int
    """The replica's leading process."""
    start_ticks: int
    """When that began (field 22 of ``/proc/PID/stat``): pids are used again; 0 where the system does not tell."""
    created_ns: int
    """Nanoseconds since the epoch."""

    @property
    def epoch(self) -> str:
        """Differs for every life of a replica: its counters begin anew."""
        return f"{self.created_ns:x}.{self.pid:x}"


class Slot(NamedTuple):
    """What one worker, and those before it in its place, counted until ``at_ns``."""

    sequence: int = 0
    at_ns: int = 0
    pid: int = 0
    """0: no process has the place now."""
    in_flight: int = 0
    """Requests that have arrived and are not answered."""
    waiting: int = 0
    """Those of them whose prediction has not begun."""
    in_flight_ns: int = 0
    """The integral of ``in_flight``."""
    finished: int = 0
    """Requests answered, or given up by their clients."""
    queue_ns: int = 0
    """Time spent waiting for a prediction to begin."""


class Totals(NamedTuple):
    """The whole replica at one moment."""

    in_flight: int
    in_flight_s: float
    finished: int
    queue_s: float


class Page(NamedTuple):
    """A page as it was read."""

    head: Head
    slots: tuple[Slot, ...]

    def totals(self, now_ns: int) -> Totals:
        """All slots added up and brought forward to ``now_ns``.

        A writer writes within 25 ms of a change unless it is held up, and then it answers nobody either; so since
        ``at_ns`` the number in flight counts as unchanged. An integral read so may be ahead of a later record's by as
        much as changed within those 25 ms.
        """
        in_flight = flown = finished = waited = 0
        for slot in self.slots:
            since_ns = max(0, now_ns - slot.at_ns)
            in_flight += slot.in_flight
            flown += slot.in_flight_ns + slot.in_flight * since_ns
            finished += slot.finished
            waited += slot.queue_ns + slot.waiting * since_ns
        return Totals(in_flight, flown / 1e9, finished, waited / 1e9)


def page_bytes(workers: int) -> int:
    """Size of a page."""
    return _HEAD_BYTES + workers * _SLOT_BYTES


def empty_page(head: Head) -> bytes:
    """A page on which nobody has written."""
    packed = _HEAD.pack(_MAGIC, LAYOUT, head.workers, 0, head.pid, head.start_ticks, head.created_ns)
    page = (packed + _CRC.pack(crc32(packed))).ljust(_HEAD_BYTES, b"\0")
    return page.ljust(page_bytes(head.workers), b"\0")


def slot_record(place: int, slot: Slot) -> tuple[int, bytes]:
    """Where in the page the record of the worker in ``place`` (from 0) belongs, and its bytes."""
    packed = _SLOT.pack(
        slot.sequence, slot.at_ns, slot.pid, slot.in_flight, slot.waiting, 0, slot.in_flight_ns, slot.finished,
        slot.queue_ns,
    )  # fmt: skip
    return _HEAD_BYTES + place * _SLOT_BYTES + slot.sequence % 2 * _HALF_BYTES, packed + _CRC.pack(crc32(packed))


def read_page(data: bytes) -> Page | None:
    """The page in ``data``. None: of another layout, cut short, damaged, or torn while it was being written.

    A slot on which nobody has written yet is all zeros.
    """
    if len(data) < _HEAD_BYTES:
        return None
    magic, layout, workers, _, pid, start_ticks, created_ns = _HEAD.unpack_from(data)
    if magic != _MAGIC or layout != LAYOUT or not 0 < workers <= MAX_WORKERS or len(data) < page_bytes(workers):
        return None
    if _CRC.unpack_from(data, _HEAD.size)[0] != crc32(data[: _HEAD.size]):
        return None
    slots = []
    for start in range(_HEAD_BYTES, page_bytes(workers), _SLOT_BYTES):
        slot = _newest(data, start)
        if slot is None:
            return None
        slots.append(slot)
    return Page(Head(workers, pid, start_ticks, created_ns), tuple(slots))


def _newest(data: bytes, start: int) -> Slot | None:
    one, other = start, start + _HALF_BYTES
    if data[one : one + _SLOT_BYTES] == _UNWRITTEN:
        return Slot()
    if _SEQUENCE.unpack_from(data, one)[0] < _SEQUENCE.unpack_from(data, other)[0]:
        one, other = other, one
    for half in (one, other):
        packed = data[half : half + _SLOT.size]
        if _CRC.unpack_from(data, half + _SLOT.size)[0] == crc32(packed):
            sequence, at_ns, pid, in_flight, waiting, _, in_flight_ns, finished, queue_ns = _SLOT.unpack(packed)
            if sequence:
                return Slot(sequence, at_ns, pid, in_flight, waiting, in_flight_ns, finished, queue_ns)
    return None
