"""What the processes of one replica tell one another: a few words and one snapshot of metrics per worker.

An anonymous shared mapping (memfd_create(2)), inherited by forks and handed to spawned workers as a descriptor.
Nobody locks. A word is eight aligned bytes with one writer. A snapshot is written once a second into the older of
two buffers, under a checksum; whoever is killed while writing leaves the other buffer as it was.
"""

from __future__ import annotations

import enum
import mmap
import os
import struct
from dataclasses import dataclass
from time import perf_counter_ns
from typing import Final
from zlib import crc32

from headway.domain.stats_page import page_bytes

MAX_WORKERS: Final = 64
BUFFER_BYTES: Final = 2 * 1024 * 1024
"""Memory is taken only where something was written."""
STALE_NS: Final = 3_000_000_000
"""A worker that has not beaten for this long does not count as one that could take a connection."""

_WORD = 8
_HEAD_WORDS = 8
_SLOT_WORDS = 8
_HEAD_BYTES = 8192
_PHASE, _MODE, _RESTARTS, _MEMORY = range(4)
_PID, _BEAT, _CONNECTIONS, _LISTENING = range(4)
_FRAME = struct.Struct("<QII")


class Phase(enum.IntEnum):
    """Of the replica as a whole; written by the parent."""

    STARTING = 0
    SERVING = 1
    """Every worker has listened at least once."""
    DRAINING = 2


class StartMode(enum.IntEnum):
    """How workers come to be."""

    FORK = 0
    SPAWN = 1


class Board:
    """One mapping, seen by parent and workers. ``slot`` counts from 0."""

    def __init__(self, fd: int, workers: int) -> None:
        self.fd = fd
        self.workers = workers
        self._map = mmap.mmap(fd, _HEAD_BYTES + workers * 2 * BUFFER_BYTES)
        self._words = memoryview(self._map)[:_HEAD_BYTES].cast("Q")

    @classmethod
    def create(cls, workers: int) -> Board:
        """A fresh one, all zero. Raises ``OSError``."""
        fd = os.memfd_create("headway-workers")
        os.ftruncate(fd, _HEAD_BYTES + workers * 2 * BUFFER_BYTES + page_bytes(workers))
        return cls(fd, workers)

    @property
    def stats_at(self) -> int:
        """Where in the mapping's file there is room for a stats page, should it have no file of its own."""
        return _HEAD_BYTES + self.workers * 2 * BUFFER_BYTES

    # -- words -------------------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        return Phase(self._words[_PHASE])

    @phase.setter
    def phase(self, phase: Phase) -> None:
        self._words[_PHASE] = phase

    @property
    def mode(self) -> StartMode:
        return StartMode(self._words[_MODE])

    @mode.setter
    def mode(self, mode: StartMode) -> None:
        self._words[_MODE] = mode

    @property
    def restarts(self) -> int:
        """Workers started in the place of one that had ended."""
        return self._words[_RESTARTS]

    @restarts.setter
    def restarts(self, count: int) -> None:
        self._words[_RESTARTS] = count

    @property
    def memory_bytes(self) -> int:
        """Of all processes, as last measured by the parent; 0: not yet."""
        return self._words[_MEMORY]

    @memory_bytes.setter
    def memory_bytes(self, amount: int) -> None:
        self._words[_MEMORY] = amount

    def pid(self, slot: int) -> int:
        """The worker's process; 0 while there is none."""
        return self._words[_at(slot, _PID)]

    def occupy(self, slot: int, pid: int) -> None:
        """The parent: a new process has the place."""
        self._words[_at(slot, _BEAT)] = perf_counter_ns()
        self._words[_at(slot, _PID)] = pid

    def vacate(self, slot: int) -> None:
        """The parent: the process has ended. Its last snapshot stays."""
        for word in (_PID, _LISTENING, _CONNECTIONS):
            self._words[_at(slot, word)] = 0

    def beat(self, slot: int, now_ns: int) -> None:
        """The worker: its event loop turns (``perf_counter_ns``: one clock for all processes)."""
        self._words[_at(slot, _BEAT)] = now_ns

    def beaten_ns(self, slot: int) -> int:
        """When it last did."""
        return self._words[_at(slot, _BEAT)]

    def set_listening(self, slot: int, listening: bool) -> None:
        """The worker: it takes connections, or does so no more."""
        self._words[_at(slot, _LISTENING)] = listening

    def listening(self, slot: int) -> bool:
        return bool(self._words[_at(slot, _LISTENING)])

    def set_connections(self, slot: int, count: int) -> None:
        """The worker: how many connections it has."""
        self._words[_at(slot, _CONNECTIONS)] = count

    def connections(self, slot: int) -> int:
        return self._words[_at(slot, _CONNECTIONS)]

    def fewest_connections(self, slot: int, now_ns: int) -> int | None:
        """Of the workers other than ``slot`` that could take one more now; None when there is no such worker."""
        words = self._words
        counts = [
            words[_at(other, _CONNECTIONS)]
            for other in range(self.workers)
            if other != slot and words[_at(other, _LISTENING)] and now_ns - words[_at(other, _BEAT)] < STALE_NS
        ]
        return min(counts, default=None)

    # -- snapshots -----------------------------------------------------------------------------------

    def write(self, slot: int, payload: bytes) -> bool:
        """The worker: its metrics now. False when they are larger than the place."""
        if len(payload) > BUFFER_BYTES - _FRAME.size:
            return False
        generation = 1 + max((g for g, _ in self._frames(slot)), default=0)
        start = self._buffer(slot, generation % 2)
        number = generation.to_bytes(_WORD, "little")
        body = start + _FRAME.size
        self._map[body : body + len(payload)] = payload
        _FRAME.pack_into(self._map, start, generation, len(payload), crc32(payload, crc32(number)))
        return True

    def read(self, slot: int) -> bytes | None:
        """The newest whole snapshot of ``slot``, of whichever process; None before the first."""
        frames = self._frames(slot)
        return max(frames)[1] if frames else None

    def _frames(self, slot: int) -> list[tuple[int, bytes]]:
        found = []
        for half in range(2):
            start = self._buffer(slot, half)
            generation, length, crc = _FRAME.unpack_from(self._map, start)
            if generation and length <= BUFFER_BYTES - _FRAME.size:
                payload = self._map[start + _FRAME.size : start + _FRAME.size + length]
                if crc32(payload, crc32(generation.to_bytes(_WORD, "little"))) == crc:
                    found.append((generation, payload))
        return found

    def _buffer(self, slot: int, half: int) -> int:
        return _HEAD_BYTES + (2 * slot + half) * BUFFER_BYTES


def _at(slot: int, word: int) -> int:
    return _HEAD_WORDS + slot * _SLOT_WORDS + word


@dataclass(frozen=True, slots=True)
class Seat:
    """One worker's place: where it writes, whom it answers to."""

    board: Board
    slot: int
    parent: int
    """Its parent's pid."""
    report: int
    """Descriptor of a pipe to the parent: one byte once the worker listens."""

    @property
    def name(self) -> str:
        """For people: ``2 of 4``."""
        return f"{self.slot + 1} of {self.board.workers}"
