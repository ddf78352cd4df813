"""The universal scalability law, as the other candidate beside queues.

Gunther, "Guerrilla capacity planning", Springer 2007: with ``n`` requests in flight the throughput is
``n / (c0 + c1 (n - 1) + c2 n (n - 1))``: ``c1`` is contention, ``c2`` coherency, the price of keeping all in step, by
which throughput falls again behind its peak. By Little's law the denominator is the mean response time, so the law is a
line in its coefficients and least squares gives them at once.

``K`` replicas count as ``K / (1 + a (K - 1))`` that share the requests evenly (Amdahl). The law knows only means: how
far the promised quantile is above the mean is taken from the points, as a line in the logarithm of the requests in
flight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from headway.planning.measured import Array, Load, Point, Users, size

LEAST_POINTS: Final = 5
LEAST_ERROR: Final = 0.01
"""A law is not taken to be more exact than this share."""
_SHARES: Final = (0.0, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5)


@dataclass(frozen=True, slots=True, eq=False)
class Usl:
    """A fitted law."""

    coefficients: Array
    """Seconds: ``c0``, ``c1``, ``c2``."""
    amdahl: float
    """``a``, between replicas."""
    ratio: Array
    """The logarithm of value by mean: constant and slope by the logarithm of requests in flight."""
    most_per_s: float = math.inf
    """Of one replica alone, where a load was seen to saturate it: the law has no such bound of its own."""

    def alike(self, replicas: int) -> float:
        """As how many replicas, each left to itself, so many are."""
        return replicas / (1 + self.amdahl * (replicas - 1))

    def mean_s(self, in_flight: float, replicas: int) -> float:
        n = max(1.0, in_flight / self.alike(replicas))
        return float(self.coefficients @ np.array([1.0, n - 1, n * (n - 1)]))

    def expect(self, replicas: int, load: Load) -> tuple[float, float, float]:
        """Value, mean and throughput; ``inf`` for a load that is never carried."""
        n = self._in_flight(replicas, load)
        if math.isinf(n) or n / self.mean_s(n, replicas) > self.most_per_s * self.alike(replicas):
            return math.inf, math.inf, 0.0
        mean = self.mean_s(n, replicas)
        own = max(1.0, n / self.alike(replicas))
        return mean * math.exp(float(self.ratio @ np.array([1.0, math.log(own)]))), mean, n / mean

    def bound_per_s(self, replicas: int) -> float:
        """The peak of its throughput, and no more than was seen to saturate a replica."""
        in_flight = np.geomspace(1, 1000, 200) * replicas
        most = max(float(n) / self.mean_s(float(n), replicas) for n in in_flight)
        return min(most, self.most_per_s * self.alike(replicas))

    def _in_flight(self, replicas: int, load: Load) -> float:
        def excess(n: float) -> float:
            mean = self.mean_s(n, replicas)
            if isinstance(load, Users):
                return n * (1 + load.think_s / mean) - load.count
            return n - load.per_s * mean

        high = float(load.count) if isinstance(load, Users) else 1e-6
        while excess(high) < 0:
            high *= 1.3
            if high > 1e6:
                return math.inf
        low = 0.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if excess(middle) < 0 else (low, middle)
        return high


def fit_usl(points: Sequence[Point]) -> Usl | None:
    """The law through ``points``; None when they are too few for it."""
    laws = likely_laws(points)
    return laws[0][1] if laws else None


def likely_laws(points: Sequence[Point]) -> list[tuple[float, Usl]]:
    """Laws through ``points`` with their weights, the likeliest first: one for each share of what replicas wait for.

    A weight is the likelihood at the best coefficients for that share (profile likelihood, with normal errors of the
    logarithms): few numbers of replicas tell little about how one more will do, and that is to be admitted. Saturated
    points have no mean of their own. Empty when the points are too few.
    """
    used = [point for point in points if not point.saturated]
    if len(used) < LEAST_POINTS:
        return []
    found = []
    for share in _SHARES if len({p.replicas for p in used}) > 1 else (0.0,):
        law = _fit(used, share)
        seen = [p.rate_per_s / law.alike(p.replicas) for p in points if p.saturated]
        errors = [math.log(law.mean_s(p.rate_per_s * p.mean_s, p.replicas) / p.mean_s) for p in used]
        errors += [] if not seen else [math.log(one / max(seen)) for one in seen]
        misfit = sum(error**2 for error in errors) + len(errors) * LEAST_ERROR**2
        found.append((len(errors) * math.log(misfit), replace(law, most_per_s=max(seen)) if seen else law))
    least = min(score for score, _ in found)
    weighted = [(math.exp((least - score) / 2), law) for score, law in found]
    whole = sum(weight for weight, _ in weighted)
    return sorted(((weight / whole, law) for weight, law in weighted), key=lambda one: -one[0])


def _fit(points: Sequence[Point], share: float) -> Usl:
    alike = [p.replicas / (1 + share * (p.replicas - 1)) for p in points]
    own = np.array([max(1.0, p.rate_per_s * p.mean_s / c) for p, c in zip(points, alike, strict=True)])
    means = np.array([p.mean_s for p in points])
    columns = np.stack([np.ones(len(own)), own - 1, own * (own - 1)], axis=1)
    free = [0, 1, 2]
    coefficients = np.zeros(3)
    while free:  # contention and coherency are not negative; relative errors count
        found = np.linalg.lstsq(columns[:, free] / means[:, None], np.ones(len(means)), rcond=None)[0]
        if (found >= 0).all():
            coefficients[free] = found
            break
        free.remove(free[int(found.argmin())])
    coefficients[0] = max(coefficients[0], float(means.min()) * 0.5)
    ratios = np.array([math.log(p.value_s / p.mean_s) for p in points])
    line = np.stack([np.ones(len(own)), np.log(own)], axis=1)
    return Usl(coefficients, share, np.linalg.lstsq(line, ratios, rcond=None)[0])


def left_out(points: Sequence[Point]) -> list[float]:
    """Of each point the log error of its value, saturated of its rate, as predicted by the law through all others.

    Infinite where the law cannot be fitted without the point, or takes for an overload what was carried.
    """
    errors = []
    for i, point in enumerate(points):
        law = fit_usl([*points[:i], *points[i + 1 :]])
        if law is None:
            errors.append(math.inf)
        elif point.saturated:
            errors.append(math.log(min(size(point.load), law.bound_per_s(point.replicas)) / point.rate_per_s))
        else:
            errors.append(math.log(law.expect(point.replicas, point.load)[0] / point.value_s))
    return errors
