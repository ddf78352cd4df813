"""What people write in a question to the query log: what is understood, and how the rest is refused."""

from __future__ import annotations

import contextlib
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.domain import query_conditions as q
from headway.domain.errors import InvalidInput
from headway.domain.query_log import Condition, GroupBy, LatencyField, Operator, QueryRecord

NOW_NS = 1_750_000_000_123_456_789
S = 1_000_000_000
DAY = 86_400


def test_every_field_of_a_record_can_be_asked_for() -> None:
    assert sorted(q.FIELDS) == sorted({f.name for f in fields(QueryRecord)} - {"model"})
    assert len(q.FIELDS) == len(set(q.FIELDS))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("status>=500", Condition("status", Operator.GE, 500)),
        (" status = 200 ", Condition("status", Operator.EQ, 200)),
        ("status==200", Condition("status", Operator.EQ, 200)),
        ("status!=200", Condition("status", Operator.NE, 200)),
        ("rows<8", Condition("rows", Operator.LT, 8)),
        ("total>250ms", Condition("total_ns", Operator.GT, 250_000_000)),
        ("total_ns<=1m30s", Condition("total_ns", Operator.LE, 90 * S)),
        ("queue_ns>=1500", Condition("queue_ns", Operator.GE, 1500)),
        ("bytes_in>1Mi", Condition("bytes_in", Operator.GT, 1 << 20)),
        ("bytes_out=0", Condition("bytes_out", Operator.EQ, 0)),
        ("shed=true", Condition("shed", Operator.EQ, True)),
        ("expired!=False", Condition("expired", Operator.NE, False)),
        ("version=v2", Condition("version", Operator.EQ, "v2")),
        ("client=", Condition("client", Operator.EQ, "")),
        ("route~pre", Condition("route", Operator.LIKE, "pre")),
        ("request_id=a=b>c", Condition("request_id", Operator.EQ, "a=b>c")),
        ("arm=shadow", Condition("arm", Operator.EQ, "shadow")),
        ("arm~s", Condition("arm", Operator.LIKE, "s")),
    ],
)
def test_a_condition(text: str, expected: Condition) -> None:
    found = q.condition(text)
    assert found == expected
    assert type(found.value) is type(expected.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not a condition"),
        ("status", "not a condition"),
        ("status 500", "not a condition"),
        (">=500", "not a condition"),
        ("x" * 600 + "=1", "not a condition"),
        ("statsu>=500", "did you mean 'status'"),
        ("zzzzzz=1", "fields: version"),
        ("model=iris", "no field"),
        ("status~5", "cannot be compared with ~"),
        ("version>v1", "it takes = != ~"),
        ("shed>true", "it takes = !="),
        ("shed=1", "true or false"),
        ("status=5xx", "whole number"),
        ("status=-1", "whole number"),
        ("status=", "whole number"),
        ("status=²", "whole number"),
        ("seq=9223372036854775808", "too large"),
        ("total>fast", "not a duration"),
        ("bytes_in>big", "not a quantity"),
        ("route~", "needs a text"),
        ("arm=left", "arms: split"),
    ],
)
def test_a_condition_that_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        q.condition(text, where="--where")
    assert complaint in str(refused.value)
    assert refused.value.where == "--where"


def test_many_conditions_but_not_any_number() -> None:
    assert q.conditions(["status=1"] * q.MAX_CONDITIONS) == (Condition("status", Operator.EQ, 1),) * q.MAX_CONDITIONS
    with pytest.raises(InvalidInput, match="21 conditions"):
        q.conditions(["status=1"] * (q.MAX_CONDITIONS + 1))


@given(st.text(max_size=80))
def test_whatever_is_written_is_understood_or_refused(text: str) -> None:
    for parse in (
        q.condition,
        q.span_s,
        q.window_ns,
        q.latency_field,
        lambda written: q.instant_ns(written, NOW_NS),
        lambda written: q.grouping([written]),
    ):
        with contextlib.suppress(InvalidInput):
            parse(text)


@given(st.sampled_from(q.FIELDS), st.sampled_from(list(Operator)), st.text(max_size=20))
def test_a_condition_has_a_value_of_its_fields_type(name: str, op: Operator, text: str) -> None:
    try:
        found = q.condition(f"{name}{op}{text}")
    except InvalidInput:
        return
    kind = str if name in q.TEXTS else bool if name in q.FLAGS else int
    assert type(found.value) is kind
    if kind is int:
        assert 0 <= int(found.value) < 2**63


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30),
        ("1m30s", 90),
        ("2h", 7200),
        ("7d", 7 * DAY),
        ("1d12h", 1.5 * DAY),
        ("0.5d", DAY / 2),
        ("100ms", 0.1),
    ],
)
def test_a_span(text: str, seconds: float) -> None:
    assert q.span_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "7", "d", "1d7", "7D", "-1s", "1 d", "1w", "1h2d", "s" * 600])
def test_a_span_that_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="not a length of time"):
        q.span_s(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("now", NOW_NS),
        ("30m", NOW_NS - 1800 * S),
        ("7d", NOW_NS - 7 * DAY * S),
        ("0", 0),
        ("99999d", 0),
        ("1750000000", 1_750_000_000 * S),
        ("1750000000.123456789", 1_750_000_000_123_456_789),
        ("2025-06-15T15:06:40Z", 1_750_000_000 * S),
        ("2025-06-15t15:06:40z", 1_750_000_000 * S),
        ("2025-06-15T17:06:40.5+02:00", 1_750_000_000 * S + 500_000_000),
        ("2025-06-15T17:06:40 02:00", 1_750_000_000 * S),
        ("2025-06-15T10:06-05:00", 1_750_000_000 * S - 40 * S),
        ("2025-06-15 15:06:40.000000001Z", 1_750_000_000 * S + 1),
        ("1970-01-01T00:00:00Z", 0),
    ],
)
def test_an_instant(text: str, expected: int) -> None:
    assert q.instant_ns(text, NOW_NS) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "neither"),
        ("yesterday", "neither"),
        ("30", "no unit"),
        ("1750000000000", "too late"),
        ("2025-06-15T15:06:40", "no time zone"),
        ("2025-02-30T00:00:00Z", "no instant"),
        ("2025-06-15T25:00Z", "no instant"),
        ("1969-12-31T23:59:59Z", "before 1970"),
        ("0001-01-01T00:00:00+23:00", "no instant|before 1970"),
        ("2400-01-01T00:00:00Z", "after 2255"),
        ("2025-06-15", "neither"),
    ],
)
def test_an_instant_that_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint) as refused:
        q.instant_ns(text, NOW_NS, where="?since")
    assert refused.value.where == "?since"


def test_windows_have_a_least_length_and_a_greatest_number() -> None:
    assert q.window_ns("100ms") == q.MIN_WINDOW_NS
    assert q.window_ns("1m") == 60 * S
    assert q.window_ns("99999d") > 0
    with pytest.raises(InvalidInput, match="too short"):
        q.window_ns("99ms")
    with pytest.raises(InvalidInput, match="too short"):
        q.window_ns("0s")
    q.check_windows(0, 100_000 * S, S)
    with pytest.raises(InvalidInput, match="100,001 windows; at most 100,000"):
        q.check_windows(0, 100_000 * S + 1, S)


def test_a_span_has_to_last() -> None:
    q.check_span(1, 2)
    for since, until in ((2, 2), (3, 2)):
        with pytest.raises(InvalidInput, match="ends before it begins"):
            q.check_span(since, until)


def test_what_windows_are_of() -> None:
    assert q.grouping(["version", "status"]) == (GroupBy.VERSION, GroupBy.STATUS)
    assert q.grouping([]) == ()
    with pytest.raises(InvalidInput, match="cannot be split by 'colour'"):
        q.grouping(["colour"])
    with pytest.raises(InvalidInput, match="twice"):
        q.grouping(["version", "version"])
    assert q.latency_field("queue") is LatencyField.QUEUE
    with pytest.raises(InvalidInput, match="no phase"):
        q.latency_field("total_ns")
