"""LatencySketch: what it says of known values, its bound on buckets, its bytes."""

from __future__ import annotations

import pytest

from headway.domain.sketch import MAX_BUCKETS, LatencySketch

MINUTE_NS = 60_000_000_000


def sketch_of(*values: int) -> LatencySketch:
    sketch = LatencySketch()
    for value in values:
        sketch.add(value)
    return sketch


def test_no_value_has_no_quantile_and_no_average() -> None:
    assert LatencySketch().quantile(0.5) is None
    assert LatencySketch().average is None
    assert LatencySketch().count == 0


def test_one_value_is_every_quantile() -> None:
    for q in (0.0, 0.5, 1.0):
        assert sketch_of(1_000_000).quantile(q) == pytest.approx(1_000_000, rel=LatencySketch.RELATIVE_ERROR)


def test_zeros_are_exactly_zero() -> None:
    sketch = sketch_of(0, 0, 0, 500)
    assert sketch.quantile(0.5) == 0
    assert sketch.quantile(1) == pytest.approx(500, rel=LatencySketch.RELATIVE_ERROR)


def test_quantiles_are_interpolated_between_closest_ranks() -> None:
    sketch = sketch_of(100, 200)
    assert sketch.quantile(0.75) == pytest.approx(175, rel=LatencySketch.RELATIVE_ERROR)
    assert sketch.quantiles(0.99, 0.0) == [sketch.quantile(0.99), sketch.quantile(0)]


def test_average_is_exact() -> None:
    assert sketch_of(1, 2, 10**18).average == (3 + 10**18) / 3


def test_a_count_stands_for_so_many_values() -> None:
    many = LatencySketch()
    many.add(7, 3)
    many.add(9, 0)
    assert many == sketch_of(7, 7, 7)


def test_every_value_lies_in_its_bucket() -> None:
    for value in [*range(1, 3000), 10**9, 2**63 - 1]:
        place = LatencySketch.bucket(value)
        assert LatencySketch.GAMMA ** (place - 1) * (1 - 1e-12) < value <= LatencySketch.GAMMA**place * (1 + 1e-12)


def test_memory_is_bounded_and_high_quantiles_keep_their_bound() -> None:
    sketch = LatencySketch()
    value = 1
    while value < 2**62:
        sketch.add(value, 10)
        value = max(value + 1, int(value * 1.005))
    assert len(sketch.to_bytes()) <= 64 + 10 * MAX_BUCKETS
    sketch.add(MINUTE_NS, 10**6)
    assert sketch.quantile(0.5) == pytest.approx(MINUTE_NS, rel=LatencySketch.RELATIVE_ERROR)


def test_the_bound_spans_from_80_ns_to_a_minute() -> None:
    sketch = sketch_of(80, MINUTE_NS)
    assert sketch.quantile(0) == pytest.approx(80, rel=LatencySketch.RELATIVE_ERROR)


@pytest.mark.parametrize("q", [-0.01, 1.01, float("nan")])
def test_what_is_no_quantile_is_refused(q: float) -> None:
    with pytest.raises(ValueError, match="from 0 to 1"):
        sketch_of(1).quantile(q)


def test_negative_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        LatencySketch().add(-1)
    with pytest.raises(ValueError, match="negative"):
        LatencySketch().add(1, -1)
    with pytest.raises(ValueError, match="negative"):
        LatencySketch().add_counts({3: -1}, zeros=0, total=0)


def test_bytes_that_are_no_sketch_are_refused() -> None:
    data = sketch_of(0, 5, 5, 10**9).to_bytes()
    for wrong in (b"", data[:-1], data + b"\0", b"\2" + data[1:], data[:-2] + b"\0\0"):
        if wrong != data:
            with pytest.raises(ValueError, match="not a sketch"):
                LatencySketch.from_bytes(wrong)
    swapped = data[:29] + data[39:49] + data[29:39]
    with pytest.raises(ValueError, match="not a sketch"):
        LatencySketch.from_bytes(swapped)
