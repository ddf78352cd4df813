"""Asymptotic confidence sequences for a mean, of values that need no bounds.

Sums of independent values behave, from some n on, like Brownian motion, for which a mixture of normals gives an exact
bound (Robbins 1970). With the estimated variance it holds in the limit, uniformly over time (Waudby-Smith, Arbour,
Sinha, Kennedy, Ramdas: "Time-uniform central limit theory and asymptotic confidence sequences", Annals of Statistics
2024, theorem 2.2). How soon the limit is near depends on how skewed the values are, so nothing is said before there
are :data:`FEWEST` of them, and :data:`PER_SKEWNESS` times the square of their skewness (2 for an exponential
distribution, 15 for one that is zero 49 times out of 50). Where values are 0 or 1, :mod:`.bernoulli` is exact instead.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

FEWEST: Final = 200
PER_SKEWNESS: Final = 25
"""Measured: ``benchmarks/sequential_test.py``."""
TIGHTEST_AT: Final = 2_000
"""Number of values at which the interval is about as narrow as such a one can be."""


def mean_half_width(
    count: ArrayLike, variance: ArrayLike, alpha: float, skewness: ArrayLike = 0.0
) -> NDArray[np.float64]:
    """Half the width of the interval around the mean of ``count`` values; infinite before it says anything."""
    n, spread = np.asarray(count, float), np.asarray(variance, float)
    rho2 = _rho2(alpha)
    scaled = n * rho2 + 1
    with np.errstate(divide="ignore", invalid="ignore"):
        width: Any = np.sqrt(spread * 2 * scaled / (n**2 * rho2) * np.log(np.sqrt(scaled) / alpha))
    return np.where(n >= np.maximum(FEWEST, PER_SKEWNESS * np.square(skewness)), width, math.inf)


def difference_half_width(
    counts: tuple[ArrayLike, ArrayLike],
    variances: tuple[ArrayLike, ArrayLike],
    alpha: float,
    skewness: tuple[ArrayLike, ArrayLike] = (0.0, 0.0),
) -> NDArray[np.float64]:
    """Half the width of the interval around the difference of two means, from what is plausible of both together."""
    rho2 = _rho2(alpha)
    penalty: Any = -math.log(alpha)
    inverse: Any = 0.0
    known: Any = True
    for count, variance, skewed in zip(counts, variances, skewness, strict=True):
        n = np.asarray(count, float)
        scaled = n * rho2 + 1
        known = known & (n >= np.maximum(FEWEST, PER_SKEWNESS * np.square(skewed)))
        penalty = penalty + np.log(scaled) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            inverse = inverse + np.asarray(variance, float) * 2 * scaled / (n**2 * rho2)
    with np.errstate(invalid="ignore"):
        return np.where(known, np.sqrt(penalty * inverse), math.inf)


def _rho2(alpha: float) -> float:
    """Of the mixture that is about tightest at :data:`TIGHTEST_AT` (same paper, appendix on tuning)."""
    quiet = -2 * math.log(alpha)
    return (quiet + math.log(quiet + 1)) / TIGHTEST_AT
