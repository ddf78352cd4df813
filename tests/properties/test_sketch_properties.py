"""LatencySketch against the values themselves, over distributions; merging in any order."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from functools import reduce

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.domain.query_log import QUANTILES
from headway.domain.sketch import LatencySketch

BOUND = LatencySketch.RELATIVE_ERROR * (1 + 1e-9)

Draw = Callable[[random.Random], float]
DISTRIBUTIONS: dict[str, Draw] = {
    "uniform": lambda r: r.uniform(1e5, 1e8),
    "lognormal": lambda r: r.lognormvariate(math.log(2e6), 1.2),
    "pareto": lambda r: 1e5 * r.paretovariate(1.1),
    "constant": lambda _: 1_234_567,
    "bimodal": lambda r: r.gauss(1e6, 1e4) if r.random() < 0.7 else r.gauss(9e8, 1e7),
    "with zeros": lambda r: 0 if r.random() < 0.4 else r.expovariate(1e-6),
    "small": lambda r: r.randint(0, 5),
}

values = st.lists(st.integers(0, 2**40), max_size=60)


def sketch_of(numbers: list[int]) -> LatencySketch:
    sketch = LatencySketch()
    for number in numbers:
        sketch.add(number)
    return sketch


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 1500), q=st.floats(0, 1))
def test_quantiles_are_within_the_bound(name: str, seed: int, count: int, q: float) -> None:
    source = random.Random(seed)
    numbers = [max(0, round(min(DISTRIBUTIONS[name](source), 9e12))) for _ in range(count)]
    sketch = sketch_of(numbers)
    assert sketch.count == count
    assert sketch.average == sum(numbers) / count
    for wanted in (*QUANTILES, q):
        found, exact = sketch.quantile(wanted), float(np.quantile(numbers, wanted))
        assert found is not None
        # What is smaller than that shares the lowest bucket.
        assert abs(found - exact) <= BOUND * exact + 1e-6 or exact < max(numbers) * LatencySketch.GAMMA**-2000


@given(values, values, values)
def test_merging_is_associative_and_commutative_and_equals_adding(a: list[int], b: list[int], c: list[int]) -> None:
    def merged(*parts: LatencySketch) -> LatencySketch:
        def into(one: LatencySketch, other: LatencySketch) -> LatencySketch:
            one.merge(other)
            return one

        return reduce(into, parts, LatencySketch())

    x, y, z = sketch_of(a), sketch_of(b), sketch_of(c)
    assert merged(merged(x, y), z) == merged(x, merged(y, z)) == merged(z, y, x) == sketch_of(a + b + c)
    assert merged(x, x).count == 2 * len(a)


@given(st.lists(st.integers(0, 2**63 - 1), max_size=60))
def test_bytes_carry_all_of_it(numbers: list[int]) -> None:
    sketch = sketch_of(numbers)
    again = LatencySketch.from_bytes(sketch.to_bytes())
    assert again == sketch
    assert again.quantiles(*QUANTILES) == sketch.quantiles(*QUANTILES)
