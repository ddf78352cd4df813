"""A quantile sketch of latencies: fixed relative error, few bytes, mergeable in any order. Pure.

DDSketch (Masson, Rim and Lee: "DDSketch: a fast and fully-mergeable quantile sketch with relative-error guarantees",
VLDB 2019). A value ``x`` > 0 is counted in bucket ``ceil(log(x) / log(gamma))`` with ``gamma = (1 + e) / (1 - e)``, so
bucket ``i`` has the values of ``(gamma**(i-1), gamma**i]``, and ``2 * gamma**i / (gamma + 1)`` is within ``e`` of each.

At most :data:`MAX_BUCKETS` neighbouring buckets are kept: what lies below them is counted in the lowest. That is a
span of eight orders of magnitude below the largest value, from a minute down to 80 ns; a quantile that falls below it
is too high. Which buckets are kept depends on the largest value alone, so it does not matter what is merged first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from struct import Struct, error
from typing import Final

MAX_BUCKETS: Final = 2048

_FORMAT: Final = 1
_HEAD: Final = Struct("<BQ16sI")  # format, zeros, sum, buckets
_BUCKET: Final = Struct("<HQ")  # place, count
_SUM_BYTES: Final = 16


class LatencySketch:
    """Counts non-negative integers, such as nanoseconds; the average of what it was given is exact."""

    RELATIVE_ERROR: Final = 0.005
    """Of every quantile."""
    GAMMA: Final = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
    LOG_GAMMA: Final = math.log(GAMMA)

    __slots__ = ("_counts", "_total", "_zeros")

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._zeros = 0
        self._total = 0

    @staticmethod
    def bucket(value: int) -> int:
        """The bucket of a value of at least 1."""
        return math.ceil(math.log(value) / LatencySketch.LOG_GAMMA)

    def add(self, value: int, count: int = 1) -> None:
        """Count ``value`` so many times. Raises ``ValueError`` when either is negative."""
        if value < 0 or count < 0:
            raise ValueError(f"negative: value {value}, count {count}")
        if value == 0:
            self.add_counts({}, zeros=count, total=0)
        else:
            self.add_counts({self.bucket(value): count}, zeros=0, total=value * count)

    def add_counts(self, counts: Mapping[int, int], *, zeros: int, total: int) -> None:
        """Count values that were put into buckets elsewhere: ``total`` is the sum of all of them.

        Raises ``ValueError`` for a negative number or a bucket below 0.
        """
        if zeros < 0 or total < 0 or any(place < 0 or count < 0 for place, count in counts.items()):
            raise ValueError("counts, buckets and sums are not negative")
        self._zeros += zeros
        self._total += total
        for place, count in counts.items():
            if count:
                self._counts[place] = self._counts.get(place, 0) + count
        self._collapse()

    def merge(self, other: LatencySketch) -> None:
        """Count all that ``other`` has counted."""
        self.add_counts(dict(other._counts), zeros=other._zeros, total=other._total)

    def _collapse(self) -> None:
        if (
            len(self._counts) <= MAX_BUCKETS
            and max(self._counts, default=0) - min(self._counts, default=0) < MAX_BUCKETS
        ):
            return
        lowest = max(self._counts) - MAX_BUCKETS + 1
        below = [place for place in self._counts if place < lowest]
        self._counts[lowest] = self._counts.get(lowest, 0) + sum(self._counts.pop(place) for place in below)

    @property
    def count(self) -> int:
        return self._zeros + sum(self._counts.values())

    @property
    def average(self) -> float | None:
        """None without values."""
        count = self.count
        return self._total / count if count else None

    def quantile(self, q: float) -> float | None:
        """The ``q``-quantile, 0 to 1, interpolated between the closest ranks (type 7 of Hyndman and Fan, 1996).

        Within ``RELATIVE_ERROR`` of what the same rule gives for the values themselves: each of the two ranks is,
        and so is what lies between them. None without values. Raises ``ValueError`` for a ``q`` that is none.
        """
        return self.quantiles(q)[0]

    def quantiles(self, *qs: float) -> list[float | None]:
        """Several of them, for little more than one."""
        if not all(0 <= q <= 1 for q in qs):
            raise ValueError(f"a quantile is from 0 to 1, not {qs}")
        count = self.count
        if not count:
            return [None] * len(qs)
        ranks = [q * (count - 1) for q in qs]
        wanted = sorted({rank for value in ranks for rank in (math.floor(value), math.ceil(value))})
        at: dict[int, float] = {}
        seen = 0
        buckets = self._values()
        value = 0.0
        for rank in wanted:
            while seen <= rank:
                value, more = next(buckets)
                seen += more
            at[rank] = value
        found: list[float | None] = []
        for exact in ranks:
            low, high = at[math.floor(exact)], at[math.ceil(exact)]
            found.append(low + (high - low) * (exact - math.floor(exact)))
        return found

    def _values(self) -> Iterator[tuple[float, int]]:
        """Values that stand for buckets, rising, and how many."""
        yield 0.0, self._zeros
        for place in sorted(self._counts):
            yield self.middle(place), self._counts[place]

    @staticmethod
    def middle(bucket: int) -> float:
        """The value that is at most ``RELATIVE_ERROR`` from each of its bucket."""
        return 2 / (LatencySketch.GAMMA + 1) * math.exp(bucket * LatencySketch.LOG_GAMMA)

    # -- as bytes ----------------------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """For :meth:`from_bytes`; equal for equal sketches."""
        buckets = sorted(self._counts.items())
        head = _HEAD.pack(_FORMAT, self._zeros, self._total.to_bytes(_SUM_BYTES, "little"), len(buckets))
        return head + b"".join(_BUCKET.pack(place, count) for place, count in buckets)

    @classmethod
    def from_bytes(cls, data: bytes) -> LatencySketch:
        """Raises ``ValueError`` for anything that :meth:`to_bytes` does not return."""
        try:
            version, zeros, total, buckets = _HEAD.unpack_from(data)
            counts = dict(_BUCKET.iter_unpack(data[_HEAD.size :]))
        except error as problem:
            raise ValueError(f"not a sketch: {problem}") from problem
        if version != _FORMAT or len(counts) != buckets or not all(counts.values()):
            raise ValueError("not a sketch")
        sketch = cls()
        sketch.add_counts(counts, zeros=zeros, total=int.from_bytes(total, "little"))
        if sketch.to_bytes() != data:
            raise ValueError("not a sketch")
        return sketch

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, LatencySketch):
            return NotImplemented
        return (self._counts, self._zeros, self._total) == (other._counts, other._zeros, other._total)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"LatencySketch(count={self.count}, p50={self.quantile(0.5)}, p99={self.quantile(0.99)})"
