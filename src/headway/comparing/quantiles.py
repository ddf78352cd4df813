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
from numpy.typing import NDArray

from headway.comparing.bernoulli import evidence_against, plausible_counts
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


def quantile_difference(
    base: Mapping[int, int], version: Mapping[int, int], q: float, alpha: float, margin: float, floor: float
) -> tuple[float, float, float]:
    """Bounds of ``version``'s quantile less ``base``'s, from what is plausible of both together and an interval of
    each, as in :func:`.bernoulli.difference`.

    The third: by how much ``version``'s may exceed what it is allowed to be, ``base``'s and ``margin`` times as much or
    ``floor``, whichever is more.
    """
    half = alpha / 2
    (base_low, base_high), (lowest, highest) = (quantile_interval(buckets, q, half / 2) for buckets in (base, version))
    arms = [_places(buckets, q) for buckets in (base, version)]
    limit = math.log(1 / half)
    for place in range(2):  # what is implausible whatever the other is need not be looked at
        low, high, evidence = arms[place]
        kept = evidence + arms[1 - place][2].min() < limit
        arms[place] = (low[kept], high[kept], evidence[kept])
    (low1, high1, evidence1), (low2, high2, evidence2) = arms
    both = evidence1[:, None] + evidence2[None, :] < limit
    allowed = np.maximum(low1 * (1 + margin), low1 + floor)

    def most(values: NDArray[np.float64]) -> float:
        return float(np.max(values, where=both, initial=-math.inf))

    beyond = highest - max(base_low * (1 + margin), base_low + floor)
    return (
        max(-most(high1[:, None] - low2[None, :]), lowest - base_high),
        min(most(high2[None, :] - low1[:, None]), highest - base_low),
        min(most(high2[None, :] - allowed[:, None]), beyond),
    )


def _places(
    buckets: Mapping[int, int], q: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Where the quantile may lie, in buckets and between them: bounds, and the evidence against it."""
    n = sum(buckets.values())
    ordered = sorted(buckets)
    until = np.cumsum([0, *(buckets[place] for place in ordered)]).astype(float)
    below, above = (np.array([upper_edge(place + step) for place in ordered]) for step in (-1, 0))
    low = np.concatenate([[0.0], np.ravel([below, above], order="F")])
    high = np.concatenate([low[1:], [math.inf]])
    # Of a bucket it is not known how many of its values lie below the quantile: as many as speak least against it.
    inside = np.clip(n * q, until[:-1], until[1:])
    counts = np.concatenate([[0.0], np.ravel([inside, until[1:]], order="F")])
    return low, high, evidence_against(counts, n, q)


def quantile(buckets: Mapping[int, int], q: float) -> float | None:
    """As :meth:`LatencySketch.quantile`; None without values."""
    sketch = LatencySketch()
    sketch.add_counts({max(place, 0): count for place, count in buckets.items()}, zeros=0, total=0)
    return sketch.quantile(q)


def upper_edge(bucket: int) -> float:
    """The largest value of a bucket, which the ones above it exceed."""
    return math.exp(bucket * LatencySketch.LOG_GAMMA)
