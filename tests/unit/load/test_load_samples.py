"""Figures of requests: exact, and of the right requests."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.domain.load_samples import GIVEN_UP, NO_ANSWER, Samples, quantile


@given(st.lists(st.floats(0, 100), min_size=1), st.sampled_from([0.0, 0.5, 0.75, 0.95, 0.99, 1.0]))
def test_a_quantile_is_that_of_numpy(values: list[float], q: float) -> None:
    assert quantile(sorted(values), q) == pytest.approx(float(np.quantile(values, q)))


def test_latency_counts_from_when_a_request_was_due_and_refusals_are_not_timed() -> None:
    samples = Samples()
    samples.add(1.0, 1.5, 2.0, 200)
    samples.add(2.0, 2.0, 2.001, 429)
    samples.add(3.0, 3.0, 6.0, GIVEN_UP, "no answer within 3 s")
    samples.add(3.0, 3.0, 3.001, NO_ANSWER, "ConnectionResetError")
    found = samples.figures(range(4), 2.0)
    assert (found.count, found.errors, found.per_s) == (4, 3, 2.0)
    assert (found.p50_s, found.max_s, found.mean_s) == (2.0, 3.0, 2.0)
    assert dict(samples.faults) == {"HTTP 429": 1, "no answer within 3 s": 1, "ConnectionResetError": 1}
    assert samples.latencies(0, 2) == [1.0]


def test_without_a_timed_request_there_is_no_latency() -> None:
    samples = Samples()
    samples.add(0, 0, 0.001, 503)
    found = samples.figures(range(1), 1.0)
    assert found.p95_s is None
    assert found.mean_s is None
    assert samples.figures((), 0.0).per_s == 0.0
