"""Where a service saturates: the knee of its throughput over load, from measured points alone.

Below the knee throughput grows in proportion to load, above it stays; the two asymptotes meet at the knee (Kleinrock
1968; Lazowska et al. 1984, chapter 5). With users the first asymptote is ``N / (R0 + Z)``, with arrivals the rate
itself. A measured curve is rounded there, so it is the largest throughput that was seen, once more load no longer
brought more.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from headway.planning.measured import Point, Users, size

FLAT: Final = 0.35
"""Throughput that grows by less than this share of what load grew by is flat."""


@dataclass(frozen=True, slots=True)
class Knee:
    """``reached``: whether the points go beyond it; if not, it is at least here."""

    replicas: int
    rate_per_s: float
    size: float
    """Users, or requests per second, at which the asymptotes meet."""
    reached: bool


def knee(points: Sequence[Point], unloaded_s: float) -> Knee:
    """Of points with one number of replicas under one kind of load; at least one."""
    ordered = sorted(points, key=lambda p: size(p.load))
    rate = max(p.rate_per_s for p in ordered)
    first = ordered[0].load
    at = rate * (unloaded_s + first.think_s) if isinstance(first, Users) else rate
    reached = any(p.saturated for p in ordered)
    for less, more in itertools.pairwise(ordered):
        grew = size(more.load) / size(less.load) - 1
        if grew > 0.02 and more.rate_per_s / less.rate_per_s - 1 < FLAT * grew:
            reached = True
    return Knee(ordered[0].replicas, rate, at, reached)
