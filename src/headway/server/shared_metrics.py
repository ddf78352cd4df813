"""Metrics of a replica of several processes: each worker's snapshot, and their sum.

Whichever worker is asked answers for all. It first writes its own snapshot, then adds up all places, so no count that
was ever shown can be lost or go down: not when another worker is asked next, not when one dies. What a dead worker
had counted is the base of its successor in that place. Snapshots of the others are at most one tick (1 s) old.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from time import perf_counter_ns

import msgspec

from headway.server.metrics import CustomSeries, Labels, add_counts, shared_samples
from headway.server.process_usage import cpu_seconds
from headway.server.worker_board import Board, Phase


class Snapshot(msgspec.Struct, array_like=True):
    """Everything one process counted."""

    answered: dict[str, dict[int, int]]
    """By route and status."""
    histograms: dict[str, tuple[list[int], float]]
    """By their name in :class:`~headway.server.telemetry.Telemetry`: buckets and sum."""
    counters: dict[str, list[tuple[Labels, float]]]
    gauges: dict[str, float]
    custom: list[CustomSeries]

    def settled(self) -> Snapshot:
        """What is left of it when its process is no more: the counts, not what it was doing."""
        return Snapshot(self.answered, self.histograms, self.counters, {}, self.custom)


def merge(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Counts, histograms and gauges added up; of a custom gauge the value that was set last."""
    whole = Snapshot({}, {}, {}, {}, [])
    counters: dict[str, dict[Labels, float]] = {}
    kinds: dict[str, str] = {}
    refused: set[tuple[str, str]] = set()
    custom: dict[tuple[str, Labels], CustomSeries] = {}
    for snapshot in snapshots:
        for route, statuses in snapshot.answered.items():
            into = whole.answered.setdefault(route, {})
            for status, count in statuses.items():
                into[status] = into.get(status, 0) + count
        for name, (counts, total) in snapshot.histograms.items():
            known = whole.histograms.get(name)
            whole.histograms[name] = (
                (list(counts), total) if known is None else (add_counts(known[0], counts), known[1] + total)
            )
        for name, samples in snapshot.counters.items():
            series = counters.setdefault(name, {})
            for labels, value in samples:
                series[labels] = series.get(labels, 0.0) + value
        for name, value in snapshot.gauges.items():
            whole.gauges[name] = whole.gauges.get(name, 0.0) + value
        for one in snapshot.custom:
            if one.name not in kinds and (one.kind, one.name) not in refused:
                # Of metrics that write samples of one name, the first: both would make the whole page unreadable.
                if any(shared_samples(one.kind, one.name, kind, name) for name, kind in kinds.items()):
                    refused.add((one.kind, one.name))
                else:
                    kinds[one.name] = one.kind
            if kinds.get(one.name) == one.kind:
                _add(custom, one)
    whole.counters.update({name: list(series.items()) for name, series in counters.items()})
    whole.custom.extend(custom.values())
    return whole


def _add(custom: dict[tuple[str, Labels], CustomSeries], one: CustomSeries) -> None:
    known = custom.get((one.name, one.labels))
    if known is None:
        custom[one.name, one.labels] = msgspec.structs.replace(one, counts=list(one.counts))
    elif one.kind != "GAUGE":
        known.value += one.value
        known.counts = add_counts(known.counts, one.counts)
    elif one.at_ns >= known.at_ns:
        known.value, known.at_ns = one.value, one.at_ns


class SharedMetrics:
    """The worker in ``slot`` of ``board``, as its telemetry sees it."""

    def __init__(self, board: Board, slot: int) -> None:
        self._board = board
        self._slot = slot
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(Snapshot)
        before = self._read(slot)
        self._base = None if before is None else before.settled()

    def publish(self, own: Snapshot) -> Snapshot:
        """Write ``own`` and what predecessors counted where all can read it; returns that sum."""
        total = own if self._base is None else merge([self._base, own])
        if not self._board.write(self._slot, self._encoder.encode(total)):
            # Thousands of long label sets: what Headway counts itself stays whole.
            self._board.write(self._slot, self._encoder.encode(msgspec.structs.replace(total, custom=[])))
        return total

    def gather(self, own: Snapshot) -> Snapshot:
        """The whole replica's."""
        others = [(slot, self._read(slot)) for slot in range(self._board.workers) if slot != self._slot]
        return merge(
            [
                self.publish(own),
                *(seen if self._board.pid(slot) else seen.settled() for slot, seen in others if seen is not None),
            ]
        )

    def cpu_seconds(self) -> float:
        """CPU time of all processes, ended ones included."""
        return cpu_seconds(os.getppid(), [p for s in range(self._board.workers) if (p := self._board.pid(s))])

    @property
    def memory_bytes(self) -> int:
        return self._board.memory_bytes

    @property
    def mode(self) -> str:
        """``fork`` or ``spawn``."""
        return self._board.mode.name.lower()

    @property
    def restarts(self) -> int:
        return self._board.restarts

    @property
    def running(self) -> int:
        """Workers that take connections."""
        return sum(self._board.listening(slot) for slot in range(self._board.workers))

    @property
    def phase(self) -> Phase:
        """Of the replica."""
        return self._board.phase

    def beat(self) -> None:
        """The event loop turns."""
        self._board.beat(self._slot, perf_counter_ns())

    def _read(self, slot: int) -> Snapshot | None:
        payload = self._board.read(slot)
        try:
            return None if payload is None else self._decoder.decode(payload)
        except msgspec.MsgspecError:
            return None
