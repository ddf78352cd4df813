"""Records of one source in the order in which they came: a list of columns that grows without copying all each time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from headway.adapters.querylog.columns import Columns, concatenate


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive records of a source."""

    columns: Columns
    first_row: int
    """Its place in the source."""
    first_ns: int
    last_ns: int

    def overlaps(self, since_ns: int, until_ns: int) -> bool:
        return self.first_ns < until_ns and self.last_ns >= since_ns


class Chunks:
    """Neighbours are joined while the later one is at least half as large, so there are few of them."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []
        self.rows = 0

    def __iter__(self) -> Iterator[Chunk]:
        return iter(self._chunks)

    @property
    def last_ns(self) -> int:
        return max((chunk.last_ns for chunk in self._chunks), default=0)

    @property
    def first_ns(self) -> int:
        return min((chunk.first_ns for chunk in self._chunks), default=0)

    def add(self, columns: Columns) -> Chunk | None:
        """What was added, by itself."""
        if not len(columns):
            return None
        ts_ns = columns.numbers["ts_ns"]
        added = Chunk(columns, self.rows, int(ts_ns.min()), int(ts_ns.max()))
        self.rows += len(columns)
        self._chunks.append(added)
        while len(self._chunks) > 1 and len(self._chunks[-2].columns) <= 2 * len(self._chunks[-1].columns):
            later, earlier = self._chunks.pop(), self._chunks.pop()
            self._chunks.append(
                Chunk(
                    concatenate([earlier.columns, later.columns]),
                    earlier.first_row,
                    min(earlier.first_ns, later.first_ns),
                    max(earlier.last_ns, later.last_ns),
                )
            )
        return added

    def add_long_ids(self, late: dict[int, str]) -> None:
        """Request ids by sequence number, which came after their records."""
        for place, chunk in enumerate(self._chunks):
            seqs = chunk.columns.numbers["seq"]
            found = {int(row): text for seq, text in late.items() for row in (seqs == seq).nonzero()[0][:1]}
            if found:
                old = chunk.columns
                columns = Columns(old.numbers, old.names, old.ids, {**old.long_ids, **found})
                self._chunks[place] = Chunk(columns, chunk.first_row, chunk.first_ns, chunk.last_ns)
