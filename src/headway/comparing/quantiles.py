"""Confidence sequences for a quantile, from counts of values by bucket. Exact for every sample size.

How many of n values lie at or below their distribution's p-quantile is a count of heads with probability p, whatever
the distribution is. So the counts that are plausible for p (:mod:`.bernoulli`) are ranks between which the quantile
lies, at every n together (Howard, Ramdas: "Sequential estimation of quantiles with applications to A/B testing and
best-arm identification", 2022). Of a value only its bucket is known, so the bounds are those of the buckets: by 1 % at
most wider.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from headway.comparing.bernoulli import plausible_counts
from headway.domain.sketch import LatencySketch


def quantile_interval(buckets: Mapping[int, int], q: float, alpha: float) -> tuple[float, float]:
    """Bounds of the ``q``-quantile in nanoseconds; 0 and infinity where there are too few values to say."""
    n = sum(buckets.values())
    fewest, most = (int(bound) for bound in plausible_counts(n, q, alpha))
    places = sorted(buckets)
    until = np.cumsum([buckets[place] for place in places])
    low, high = 0.0, math.inf
    if fewest >= 1:  # at least so many values are at or below the quantile, so it is not below the last of them
        low = upper_edge(places[int(np.searchsorted(until, fewest))] - 1)
    if most < n:  # no more than so many are, so the next one is above it
        high = upper_edge(places[int(np.searchsorted(until, most + 1))])
    return low, high


def quantile(buckets: Mapping[int, int], q: float) -> float | None:
    """As :meth:`LatencySketch.quantile`; None without values."""
    sketch = LatencySketch()
    sketch.add_counts({max(place, 0): count for place, count in buckets.items()}, zeros=0, total=0)
    return sketch.quantile(q)


def upper_edge(bucket: int) -> float:
    """The largest value of a bucket, which the ones above it exceed."""
    return math.exp(bucket * LatencySketch.LOG_GAMMA)
