"""What to measure next: the largest load that keeps the promise, at one number of replicas after the other.

First one user alone, who shows how long a request takes when nobody waits. Then, for each number of replicas, a load
that grows until the promise is broken, and a search between the last kept and the first broken one, on a logarithmic
scale, until they are close. What lies between is measured too: a fit needs points below its knee, at it and above it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from headway.domain.promises import Promise
from headway.planning.measured import Load, Point, Rate, Users, resized, size

GROWTH: Final = 1.7
CLOSE: Final = 1.12
"""The kept and the broken load are this near: the search ends. A step of that size is what the fit then resolves."""
MOST_POINTS: Final = 9
"""Per number of replicas."""
FIRST_SHARE: Final = 0.4
"""Of what one server could do alone, as the first load."""
AGAIN_SHARE: Final = 0.8
"""Of what fewer replicas carried, in proportion, as the first load of more."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The next measurement."""

    replicas: int
    load: Load
    why: str


@dataclass(slots=True)
class Search:
    """Ask :meth:`wanted`, measure, tell :meth:`found`, until nothing is wanted."""

    promise: Promise
    most_failed: float
    """Share of requests that may fail."""
    like: Load
    """The kind of load; its size does not matter."""
    counts: Sequence[int]
    """Numbers of replicas, rising; the first is 1."""
    points: list[Point] = field(default_factory=list)

    @property
    def unloaded(self) -> Point | None:
        return self.points[0] if self.points else None

    def kept(self, point: Point) -> bool:
        """Whether the promise was kept on the whole of its runs."""
        return point.value_s <= self.promise.bound and point.failed_share <= self.most_failed and not point.saturated

    def at(self, replicas: int) -> list[Point]:
        """The points with so many replicas, the smallest load first; without the unloaded one."""
        return sorted((p for p in self.points[1:] if p.replicas == replicas), key=lambda p: size(p.load))

    def bracket(self, replicas: int) -> tuple[Point | None, Point | None]:
        """The largest kept load below the smallest broken one, and that one."""
        points = self.at(replicas)
        broken = next((p for p in points if not self.kept(p)), None)
        below = [p for p in points if self.kept(p) and (broken is None or size(p.load) < size(broken.load))]
        return (below[-1] if below else None), broken

    def found(self, point: Point) -> None:
        """Take in what was measured; runs of a load that was measured before join those."""
        for place, known in enumerate(self.points):
            if place > 0 and (known.replicas, known.load) == (point.replicas, point.load):
                self.points[place] = Point(known.replicas, known.load, known.runs + point.runs)
                return
        self.points.append(point)

    def hopeless(self) -> bool:
        """Whether even one user alone, or the smallest load, does not get what is promised."""
        if self.unloaded is not None and not self.kept(self.unloaded):
            return True
        kept, broken = self.bracket(self.counts[0])
        return kept is None and broken is not None and size(broken.load) <= self._least()

    def wanted(self) -> Wanted | None:
        if not self.points:
            return Wanted(1, Users(1), "one user alone: how long a request takes when nobody waits")
        if self.hopeless():
            return None
        for replicas in self.counts:
            if (wanted := self._at(replicas)) is not None:
                return wanted
        return None

    def _at(self, replicas: int) -> Wanted | None:
        points = self.at(replicas)
        kept, broken = self.bracket(replicas)
        if not points:
            return Wanted(replicas, resized(self.like, self._first(replicas)), "a first load")
        if len(points) >= MOST_POINTS:
            return None
        if broken is None:
            return Wanted(replicas, resized(self.like, size(points[-1].load) * GROWTH), "the promise is kept: more")
        if kept is None:
            smaller = resized(self.like, max(size(broken.load) / GROWTH, self._least()))
            return None if size(smaller) >= size(broken.load) else Wanted(replicas, smaller, "it is broken: less")
        low, high = size(kept.load), size(broken.load)
        between = resized(self.like, math.sqrt(low * high))
        if high / low <= CLOSE or size(between) in (low, high):
            return None
        return Wanted(replicas, between, "between kept and broken")

    def _least(self) -> float:
        return 1.0 if isinstance(self.like, Users) else 0.05 / (self.unloaded.mean_s if self.unloaded else 1.0)

    def _first(self, replicas: int) -> float:
        fewer = [k for k in self.counts if k < replicas]
        for k in reversed(fewer):
            kept, _ = self.bracket(k)
            if kept is not None:
                return max(self._least(), AGAIN_SHARE * size(kept.load) * replicas / k)
        assert self.unloaded is not None
        alone = FIRST_SHARE / self.unloaded.mean_s
        if isinstance(self.like, Rate):
            return alone
        return max(1.0, alone * (self.like.think_s + self.unloaded.mean_s))
