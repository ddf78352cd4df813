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
_CELLS: Final = 256
"""Of what is plausible of one probability, when the difference of two is looked for."""
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


def apart(base: tuple[ArrayLike, ArrayLike], version: tuple[ArrayLike, ArrayLike], alpha: float) -> NDArray[np.bool_]:
    """Whether two probabilities, each given by its successes and trials, are shown to differ.

    The product of both martingales is one too, whatever the two probabilities are, so what is plausible of *both
    together* is where it is below 1/alpha. For equal ones it is least at the share of all successes in all trials.
    """
    (k1, n1), (k2, n2) = (tuple(np.asarray(part, float) for part in arm) for arm in (base, version))
    k, n = k1 + k2, n1 + n2
    pooled = np.divide(k, n, out=np.full(np.shape(k), 0.5), where=n > 0)
    evidence = _log_mixture(k1, n1) + _log_mixture(k2, n2) - _log_likelihood(k, n, pooled)
    return np.asarray(evidence >= math.log(1 / alpha))


def difference(base: tuple[int, int], version: tuple[int, int], alpha: float) -> tuple[float, float]:
    """Bounds of ``version``'s probability less ``base``'s.

    One half of ``alpha`` is for what is plausible of both together (:func:`apart`), which finds a difference with a
    third less trials. The other half is for an interval of each, which says sooner that none of two rare things is much
    rarer: evidence about one is not held up by how little is known of the other.
    """
    half = alpha / 2
    (base_low, base_high), (low, high) = (interval(*arm, half / 2) for arm in (base, version))
    least = max(-_most_above(version, base, half), float(low - base_high))
    return least, min(_most_above(base, version, half), float(high - base_low))


def _most_above(less: tuple[int, int], more: tuple[int, int], alpha: float) -> float:
    """By how much the probability of ``more`` may be the larger one, at most."""
    (k1, n1), (k2, n2) = ((float(k), float(n)) for k, n in (less, more))
    limit = math.log(1 / alpha)
    mixture1, mixture2 = float(_log_mixture(k1, n1)), float(_log_mixture(k2, n2))
    middle1, middle2 = (k / n if n else 0.5 for k, n in ((k1, n1), (k2, n2)))
    least2 = mixture2 - float(_log_likelihood(np.float64(k2), np.float64(n2), np.float64(middle2)))
    one = np.ones(1)
    lowest = (
        _crossing(k1 * one, n1 * one, (mixture1 - (limit - least2)) * one, 0 * one, middle1 * one) if k1 else 0 * one
    )
    edges = np.linspace(float(lowest[0]), middle1, _CELLS + 1)
    # In each cell the most that the other may be at its upper end, less the cell's lower end: too wide, if anything.
    budget = limit - (mixture1 - _log_likelihood(np.full(_CELLS, k1), np.full(_CELLS, n1), edges[1:]))
    if k2 == n2:
        highest = np.ones(_CELLS)
    else:
        shape = np.ones(_CELLS)
        highest = _crossing(k2 * shape, n2 * shape, mixture2 - budget, shape, middle2 * shape)
    return float((highest - edges[:-1]).max())


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


def evidence_against(k: ArrayLike, n: ArrayLike, p: float) -> Floats:
    """The logarithm of M(k, n; p), for 0 < p < 1; ``k`` need not be whole."""
    return _evidence(np.asarray(k, float), np.asarray(n, float), p)


def _evidence(k: Any, n: Any, p: Any) -> Floats:
    """The logarithm of M(k, n; p), for 0 < p < 1."""
    return _log_mixture(k, n) - _log_likelihood(k, n, p)


def _log_likelihood(k: Any, n: Any, p: Any) -> Floats:
    """Of k heads in n; 0 log 0 is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        heads, tails = np.where(k > 0, k * np.log(p), 0.0), np.where(n > k, (n - k) * np.log1p(-np.asarray(p)), 0.0)
    return np.asarray(heads + tails)


def _crossing(k: Floats, n: Floats, limit: Floats, outside: Floats, inside: Floats) -> Floats:
    """Between the two, where the evidence against p falls below what it takes; on the outer side of it."""
    for _ in range(_HALVINGS):
        middle = (outside + inside) / 2
        beyond = _log_likelihood(k, n, middle) < limit
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
