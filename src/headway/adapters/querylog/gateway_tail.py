"""The gateway's lines that are in no part yet: from the mark of compaction to the end of its log."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from hashlib import blake2b
from pathlib import Path
from typing import Final

from headway.adapters.querylog.chunks import Chunks
from headway.adapters.querylog.columns import from_records
from headway.adapters.querylog.gateway_lines import (
    Claim,
    Line,
    claim_of,
    claims_something,
    is_record,
    model_of,
    parse,
    record_of,
)
from headway.adapters.querylog.gateway_mark import LOG_NAME, GatewayMark, current_mark
from headway.domain.query_log import QueryRecord

MOST_PROCESSES: Final = 64
"""Whose lines are counted; of those that have not written for longest only the sum of what is missing is kept."""
ENDED: Final = ""
"""Stands for all of those."""
MOST_OVERTAKING: Final = 2
"""Lines that may stand before the first of a process."""
COPIES_APART: Final = 1024
"""Lines; between the two copies of one stand those that other threads wrote meanwhile."""
READ_BYTES: Final = 8 * 1024 * 1024


class GatewayTail:
    """Reads what was added at each :meth:`look`. Not for two threads at once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._mark = GatewayMark()
        self._end = 0
        self._counts = LineCounts({})
        self._copies = Copies(())
        self.chunks: dict[str, Chunks] = {}
        """Records by model."""
        self.claims: dict[str, list[Claim]] = {}
        """By model, in the order of their lines."""

    @property
    def live_name(self) -> str:
        """For ``PartStore.parts``."""
        return self._mark.live_name

    @property
    def missing(self) -> int:
        """Lines that were lost, of this life of the log."""
        return max(0, self._counts.missing)

    def look(self, known: Collection[str]) -> int:
        """Read what was added; how many records. ``known`` are models. Raises ``OSError`` and ``StorageFailed``."""
        mark = current_mark(self._root)
        if (mark.token, mark.offset) != (self._mark.token, self._mark.offset):
            self._begin(mark)
        if not mark.token:
            return 0
        found = 0
        try:
            with (self._root / LOG_NAME).open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_ino != mark.inode:
                    return 0  # replaced this moment; the next look begins anew
                if status.st_size < self._end:  # cut: what is gone cannot be told from what may come there
                    self._begin(mark)
                while data := os.pread(file.fileno(), READ_BYTES, self._end):
                    whole = data.rfind(b"\n") + 1
                    if not whole:
                        if len(data) < READ_BYTES:
                            break
                        whole = len(data)  # no line is that long
                    found += self._take(data[:whole], known)
                    self._end += whole
        except FileNotFoundError:
            return 0
        return found

    def _begin(self, mark: GatewayMark) -> None:
        self._mark, self._end = mark, mark.offset
        self._counts = LineCounts(mark.counted)
        self._copies = Copies(mark.single)
        self.chunks, self.claims = {}, {}

    def _take(self, data: bytes, known: Collection[str]) -> int:
        records: dict[str, list[QueryRecord]] = {}
        at = self._end
        for text in data.split(b"\n"):
            line = parse(text)
            if line is not None and self._copies.is_first(text):
                self._counts.add(line)
                model = model_of(line, known)
                if model and claims_something(line):
                    self.claims.setdefault(model, []).append(claim_of(line, model))
                if is_record(line):
                    records.setdefault(model, []).append(record_of(line, model, self._mark.stream, at))
            at += len(text) + 1
        for model, rows in records.items():
            self.chunks.setdefault(model, Chunks()).add(from_records(rows))
        return sum(map(len, records.values()))


class Copies:
    """Tells the second copy of a line from the first: the gateway writes each twice, and either may get lost."""

    def __init__(self, single: Iterable[str]) -> None:
        self._single = dict.fromkeys(single)

    def is_first(self, text: bytes) -> bool:
        """Whether ``text``, a line without its end, was not seen before."""
        digest = blake2b(text, digest_size=8).hexdigest()
        if digest in self._single:
            del self._single[digest]
            return False
        self._single[digest] = None
        if len(self._single) > COPIES_APART:
            del self._single[next(iter(self._single))]
        return True

    @property
    def single(self) -> tuple[str, ...]:
        """For ``GatewayMark.single``."""
        return tuple(self._single)


class LineCounts:
    """Finds lost lines by the numbers that each process of the gateway gives its lines.

    Two threads may write theirs in the wrong order, so what counts is the highest number against how many came.
    """

    def __init__(self, counted: Mapping[str, tuple[int, int]]) -> None:
        self._counted = dict(counted)

    def add(self, line: Line) -> None:
        highest, lines = self._counted.pop(str(line.pid), (0, 0))
        if line.line == 1 and lines and (highest == lines or lines > MOST_OVERTAKING):
            self._end(highest, lines)  # another process with the id of an earlier one
            highest, lines = 0, 0
        self._counted[str(line.pid)] = max(highest, line.line), lines + 1
        if len(self._counted) > MOST_PROCESSES:
            self._end(*self._counted.pop(next(pid for pid in self._counted if pid != ENDED)))

    def _end(self, highest: int, lines: int) -> None:
        before, _ = self._counted.get(ENDED, (0, 0))
        self._counted[ENDED] = before + highest - lines, 0

    @property
    def counted(self) -> dict[str, tuple[int, int]]:
        """For ``GatewayMark.counted``; the process that wrote last is the last one."""
        return dict(self._counted)

    @property
    def missing(self) -> int:
        return sum(highest - lines for highest, lines in self._counted.values())
