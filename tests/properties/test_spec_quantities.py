"""Amounts in a spec: one spelling for one amount, and never another amount for it."""

from __future__ import annotations

import re
from decimal import Decimal

from hypothesis import example, given
from hypothesis import strategies as st

from headway.domain.quantities import (
    byte_count,
    canonical_bytes,
    canonical_duration,
    canonical_millicores,
    millicores,
    seconds,
)

FACTORS = {
    **{unit: 1000**power for power, unit in enumerate(("", "k", "M", "G"))},
    **{unit: 1024**power for power, unit in enumerate(("Ki", "Mi", "Gi"), start=1)},
}


@given(st.integers(1, 2**60))
@example(1024)
@example(10**9)
@example(10**12)
def test_canonical_bytes_are_the_same_bytes(count: int) -> None:
    assert byte_count(canonical_bytes(count)) == count


@given(st.integers(1, 10**6), st.sampled_from(sorted(FACTORS)))
def test_bytes_mean_what_their_unit_says_and_have_one_spelling(number: int, unit: str) -> None:
    count = byte_count(f"{number}{unit}")
    assert count == number * FACTORS[unit]
    assert canonical_bytes(count) == canonical_bytes(byte_count(canonical_bytes(count)))
    assert len(canonical_bytes(count)) <= len(f"{number}{unit}") + 1


@given(st.integers(1, 1_024_000))
def test_canonical_millicores_are_the_same_share(value: int) -> None:
    assert millicores(canonical_millicores(value)) == value
    assert canonical_millicores(millicores(f"{Decimal(value) / 1000:f}")) == canonical_millicores(value)


@given(st.integers(0, 527_000), st.integers(0, 59), st.integers(0, 999_999))
@example(1, 30, 0)
@example(0, 0, 0)
@example(0, 0, 2_500)
def test_a_canonical_duration_is_as_long_and_is_kept(minutes: int, secs: int, micros: int) -> None:
    text = f"{minutes}m{secs}s{Decimal(micros) / 1000:f}ms"
    canonical = canonical_duration(text)
    assert abs(seconds(canonical) - seconds(text)) <= 1e-6 * max(1.0, seconds(text) * 1e-6)
    assert canonical_duration(canonical) == canonical


@given(st.text(alphabet="0123456789.hmsuinkKMGTPE+-٣ ", max_size=12))
@example("")
@example("1m30")
@example("1ms")
@example("8785h")
@example("9" * 400 + "s")
def test_an_amount_is_read_or_refused(text: str) -> None:
    for read in (byte_count, millicores, seconds):
        try:
            value = read(text)
        except ValueError:
            continue
        assert value >= 0
        assert re.fullmatch(r"[0-9A-Za-z.]+", text)
