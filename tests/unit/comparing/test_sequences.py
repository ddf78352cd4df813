"""Confidence sequences: what they are by definition, and that they hold at every look together.

Full size, with power: ``benchmarks/sequential_test.py``.
"""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headway.comparing.bernoulli import apart, difference, interval, plausible_counts
from headway.comparing.means import FEWEST, difference_half_width, mean_half_width
from headway.comparing.quantiles import quantile, quantile_difference, quantile_interval
from headway.domain.sketch import LatencySketch

ALPHA = 0.05
RUNS, LOOKS = 400, 600


def evidence(k: int, n: int, p: float) -> float:
    """The logarithm of the mixture's likelihood over that of ``p``, term by term as it is defined."""
    beta = math.lgamma(k + 0.5) + math.lgamma(n - k + 0.5) - math.lgamma(n + 1) - math.log(math.pi)
    return beta - (k * math.log(p) if k else 0) - ((n - k) * math.log1p(-p) if n > k else 0)


@given(st.integers(1, 5000), st.floats(0, 1), st.sampled_from([0.05, 0.01, 0.001]))
def test_a_probability_is_in_the_interval_while_little_speaks_against_it(n: int, share: float, alpha: float) -> None:
    k = round(n * share)
    low, high = (float(bound) for bound in interval(k, n, alpha))
    assert 0 <= low <= k / n <= high <= 1
    limit = math.log(1 / alpha)
    for bound in (low, high):
        if 0 < bound < 1:
            assert evidence(k, n, bound) == pytest.approx(limit, abs=1e-5)
    if low > 1e-9:
        assert evidence(k, n, low * 0.999) > limit
    if high < 1:
        assert evidence(k, n, min(high + (1 - high) * 0.001, 1 - 1e-12)) > limit


def test_without_trials_nothing_is_known() -> None:
    assert [float(bound) for bound in interval(0, 0, ALPHA)] == [0.0, 1.0]
    assert quantile_interval({}, 0.95, ALPHA) == (0.0, math.inf)
    assert quantile({}, 0.95) is None


@given(st.integers(0, 400), st.sampled_from([0.5, 0.95, 0.05]))
def test_plausible_counts_are_all_that_little_speaks_against(n: int, p: float) -> None:
    fewest, most = (int(bound) for bound in plausible_counts(n, p, ALPHA))
    limit = math.log(1 / ALPHA)
    assert [k for k in range(n + 1) if evidence(k, n, p) < limit] == list(range(fewest, most + 1))


@given(st.lists(st.integers(1, 10**9), min_size=1, max_size=300), st.sampled_from([0.5, 0.95]))
def test_bounds_of_a_quantile_are_those_of_its_ranks(values: list[int], q: float) -> None:
    buckets = Counter(LatencySketch.bucket(value) for value in values)
    low, high = quantile_interval(buckets, q, ALPHA)
    ordered = sorted(values)
    fewest, most = (int(bound) for bound in plausible_counts(len(values), q, ALPHA))
    if fewest >= 1:
        assert ordered[fewest - 1] / LatencySketch.GAMMA * (1 - 1e-9) <= low <= ordered[fewest - 1]
    else:
        assert low == 0
    if most < len(values):
        assert ordered[most] * (1 - 1e-9) <= high <= ordered[most] * LatencySketch.GAMMA * (1 + 1e-9)
    else:
        assert high == math.inf


@pytest.mark.parametrize("p", [0.002, 0.05, 0.5, 0.95])
def test_a_probability_is_hardly_ever_outside_at_any_look(p: float) -> None:
    heads = np.cumsum(np.random.default_rng(1).random((RUNS, LOOKS)) < p, axis=1)
    low, high = interval(heads, np.arange(1, LOOKS + 1), ALPHA)
    assert ((low > p) | (high < p)).any(axis=1).mean() <= ALPHA


@pytest.mark.parametrize("q", [0.5, 0.95])
def test_a_quantile_is_hardly_ever_outside_at_any_look(q: float) -> None:
    below = np.cumsum(np.random.default_rng(2).random((RUNS, LOOKS)) < q, axis=1)
    fewest, most = plausible_counts(np.arange(1, LOOKS + 1), q, ALPHA)
    assert ((below < fewest) | (below > most)).any(axis=1).mean() <= ALPHA


@pytest.mark.parametrize("kind", ["normal", "exponential", "mostly zero"])
def test_a_mean_is_hardly_ever_outside_at_any_look(kind: str) -> None:
    draw = np.random.default_rng(3)
    shape, n = (RUNS, 4 * LOOKS), np.arange(1, 4 * LOOKS + 1)
    values = draw.normal(size=shape) if kind == "normal" else draw.exponential(size=shape)
    if kind == "mostly zero":
        values *= draw.random(shape) < 0.1
    truth = {"normal": 0.0, "exponential": 1.0, "mostly zero": 0.1}[kind]
    mean = np.cumsum(values, axis=1) / n
    variance = (np.cumsum(values**2, axis=1) / n - mean**2) * n / np.maximum(n - 1, 1)
    third = np.cumsum(values**3, axis=1) / n - 3 * mean * np.cumsum(values**2, axis=1) / n + 2 * mean**3
    skewness = np.divide(third, variance**1.5, out=np.zeros(shape), where=variance > 0)
    outside = np.abs(mean - truth) > mean_half_width(n, variance, ALPHA, skewness)
    assert not outside[:, : FEWEST - 1].any()
    assert outside.any(axis=1).mean() <= ALPHA


COUNTS = st.integers(0, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@settings(max_examples=30)
@given(COUNTS, COUNTS)
def test_a_difference_is_bounded_by_what_is_plausible_of_both(base: tuple[int, int], version: tuple[int, int]) -> None:
    least, most = difference(base, version, ALPHA)
    shares = [k / n if n else 0.5 for k, n in (base, version)]
    if base[1] and version[1]:
        assert -1 <= least <= shares[1] - shares[0] <= most <= 1
    if bool(apart(base, version, ALPHA / 2)):
        assert least > -0.005 or most < 0.005  # but for the cells that it is looked for in
    mirrored = difference(version, base, ALPHA)
    assert mirrored == pytest.approx((-most, -least))


def test_a_difference_of_two_is_hardly_ever_outside_at_any_look() -> None:
    draw = np.random.default_rng(4)
    n = np.arange(1, LOOKS + 1)
    for p in (0.01, 0.5):
        one, two = (np.cumsum(draw.random((RUNS, LOOKS)) < p, axis=1) for _ in range(2))
        assert apart((one, n), (two, n), ALPHA).any(axis=1).mean() <= ALPHA
        means, variances = [one / n, two / n], [one / n * (1 - one / n), two / n * (1 - two / n)]
        half = difference_half_width((n, n), (variances[0], variances[1]), ALPHA)
        assert (np.abs(means[1] - means[0]) > half).any(axis=1).mean() <= ALPHA


@settings(max_examples=10)
@given(st.integers(1, 10**6))
def test_a_difference_of_quantiles_is_found_and_no_other(seed: int) -> None:
    draw = np.random.default_rng(seed)
    ns = np.exp(draw.normal(17, 0.4, (3, 600)))
    ns[2] *= 2.5
    base, same, slow = (Counter(np.ceil(np.log(row) / LatencySketch.LOG_GAMMA).astype(int).tolist()) for row in ns)
    least, most, beyond = quantile_difference(base, slow, 0.5, ALPHA, 0.1, 1e6)
    truth = math.exp(17)
    assert 0 < least <= 1.5 * truth <= most
    assert beyond > 0
    least, most, beyond = quantile_difference(base, same, 0.5, 0.001, 0.1, 1e6)
    assert least <= 0 <= most
    assert quantile_difference(base, same, 0.5, ALPHA, 0.5, 1e6)[2] <= 0


def test_an_ordinary_interval_would_not_do() -> None:
    heads = np.cumsum(np.random.default_rng(1).random((RUNS, LOOKS)) < 0.5, axis=1)
    n = np.arange(1, LOOKS + 1)
    outside = np.abs(heads / n - 0.5) > 1.96 * np.sqrt(0.25 / n)
    assert outside.any(axis=1).mean() > 0.3
