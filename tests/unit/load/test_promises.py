"""Promises as people write them."""

from __future__ import annotations

import pytest

from headway.domain.errors import InvalidInput
from headway.domain.promises import Promise, parse, parse_all


def test_what_people_write() -> None:
    assert parse("p95<1s") == Promise("p95", 1.0, "p95<1s")
    assert parse(" p99.9 <= 250ms ").quantile == pytest.approx(0.999)
    assert parse("errors<1%").bound == 0.01
    assert not parse("errors<1%").of_latency
    assert parse("mean<200ms").quantile is None
    assert [one.what for one in parse_all(["p95<1s, errors<1%", "p50<1s"])] == ["p95", "errors", "p50"]


@pytest.mark.parametrize(
    "text", ["", "p95", "p95>1s", "p95<1", "errors<1", "errors<200%", "p0<1s", "p95<0s", "x" * 200, "p95<1s,p95<2s"]
)
def test_what_is_no_promise_is_refused_where_it_stands(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_all([text])
    assert refused.value.where == "--sla"
