"""Confidence sequences for a probability, from counts. Exact for every sample size.

For a coin that shows heads with probability p, the likelihood of k heads in n, averaged over a Beta(1/2, 1/2) prior
and divided by the likelihood under p,

    M(k, n; p) = B(k + 1/2, n - k + 1/2) / B(1/2, 1/2) / (p**k * (1 - p)**(n - k)),

is a martingale that begins at 1. By Ville's inequality it ever reaches 1/alpha with probability alpha at most,
whatever p is. What p leaves it below 1/alpha is a confidence sequence for p (Robbins: "Statistical methods related to
the law of the iterated logarithm", 1970; Howard, Ramdas, McAuliffe, Sekhon: "Time-uniform, nonparametric,
nonasymptotic confidence sequences", 2021).

Arguments may be arrays, which are broadcast; so tests run thousands of experiments at once.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

PRIOR: Final = 0.5
_HALVINGS: Final = 50
"""Of an interval of probabilities: below 1e-15 of what it was."""
_SHIFT: Final = 8
_LOG_PRIOR: Final = 2 * math.lgamma(PRIOR) - math.lgamma(2 * PRIOR)


def interval(successes: ArrayLike, trials: ArrayLike, alpha: float) -> tuple[Floats, Floats]:
    """Lower and upper bounds of the probability; 0 and 1 without trials."""
    k, n = np.broadcast_arrays(np.asarray(successes, float), np.asarray(trials, float))
    limit = _log_mixture(k, n) - math.log(1 / alpha)
    middle = np.divide(k, n, out=np.full(k.shape, 0.5), where=n > 0)
    low = _crossing(k, n, limit, np.zeros(k.shape), middle)
    high = _crossing(k, n, limit, np.ones(k.shape), middle)
    return np.where(k > 0, low, 0.0), np.where(k < n, high, 1.0)


def plausible_counts(
    trials: ArrayLike, probability: float, alpha: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The fewest and the most successes in so many trials that do not speak against ``probability``."""
    n = np.asarray(trials, np.int64)
    expected = np.round(n * probability).astype(np.int64)
    return _last_plausible(n, probability, alpha, expected, -1), _last_plausible(n, probability, alpha, expected, 1)


def _last_plausible(
    n: NDArray[np.int64], probability: float, alpha: float, expected: NDArray[np.int64], side: int
) -> NDArray[np.int64]:
    """The count farthest from what is expected, downwards or upwards, that is still plausible: evidence only grows."""
    inside, outside = expected, (np.full(n.shape, -1) if side < 0 else n + 1)
    while bool((apart := np.abs(outside - inside) > 1).any()):
        middle = (inside + outside) // 2
        held = _evidence(np.clip(middle, 0, n), n, probability) < math.log(1 / alpha)
        inside, outside = np.where(apart & held, middle, inside), np.where(apart & ~held, middle, outside)
    return inside


def _evidence(k: Any, n: Any, p: Any) -> Floats:
    """The logarithm of M(k, n; p), for 0 < p < 1."""
    return np.asarray(_log_mixture(k, n) - k * np.log(p) - (n - k) * np.log1p(-p))


def _crossing(k: Floats, n: Floats, limit: Floats, outside: Floats, inside: Floats) -> Floats:
    """Between the two, where the evidence against p falls below what it takes; on the outer side of it."""
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2
        with np.errstate(divide="ignore", invalid="ignore"):
            likelihood = np.where(k > 0, k * np.log(middle), 0.0) + np.where(n > k, (n - k) * np.log1p(-middle), 0.0)
        beyond = likelihood < limit
        outside, inside = np.where(beyond, middle, outside), np.where(beyond, inside, middle)
    return outside


def _log_mixture(k: Any, n: Any) -> Floats:
    heads, tails = np.asarray(k, float) + PRIOR, np.asarray(n, float) - k + PRIOR
    return np.asarray(_log_gamma(heads) + _log_gamma(tails) - _log_gamma(heads + tails) - _LOG_PRIOR)


def _log_gamma(x: Floats) -> Floats:
    """For x > 0: Stirling's series at x + 8, and the recurrence down from there (error below 1e-13 of the value)."""
    shifted = x + _SHIFT
    product = np.ones_like(x)
    for step in range(_SHIFT):
        product = product * (x + step)
    inverse = 1 / shifted
    series = inverse / 12 - inverse**3 / 360 + inverse**5 / 1260 - inverse**7 / 1680
    stirling = (shifted - 0.5) * np.log(shifted) - shifted + 0.5 * math.log(2 * math.pi) + series
    return np.asarray(stirling - np.log(product))
