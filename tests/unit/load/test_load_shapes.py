"""Shapes of load: what is due when."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headway.domain.errors import InvalidInput
from headway.domain.load_shapes import LoadShape, Loop, Stage, rate, users

LOADS = st.floats(0, 1000).map(lambda value: round(value, 3))


def test_a_ramp_moves_on_a_straight_line_and_ends() -> None:
    shape = users(200, 180, begin=1)
    assert [shape.at(at) for at in (0, 90, 180)] == [1, 100.5, 0]
    assert shape.loop is Loop.CLOSED


def test_stages_follow_one_another() -> None:
    first, second = Stage(duration_s=10, begin=5, end=5), Stage(duration_s=20, begin=5, end=50)
    shape = LoadShape(loop=Loop.OPEN, stages=(first, second))
    assert shape.duration_s == 30
    assert shape.begins_s() == [0, 10]
    assert [shape.stage_at(at) for at in (0, 9.99, 10, 29, 31)] == [0, 0, 1, 1, 1]
    assert shape.at(20) == 27.5


@given(LOADS, LOADS, st.floats(0.1, 600), st.floats(0, 1))
def test_arrivals_are_due_when_the_integral_of_the_rate_reaches_them(
    begin: float, end: float, duration_s: float, part: float
) -> None:
    stage = Stage(duration_s=duration_s, begin=begin, end=end)
    if stage.area < 1e-3:
        return
    at = stage.reaches(stage.area * part)
    assert 0 <= at <= duration_s
    reached = (begin + stage.at(at)) / 2 * at
    assert reached == pytest.approx(stage.area * part, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: users(0, 10), "0 users are no load"),
        (lambda: rate(0, 10), "0 requests a second are no load"),
        (lambda: rate(5, 0), "takes 0 s"),
        (lambda: rate(-1, 5), "-1 requests a second"),
        (lambda: users(10**9, 5), "users in stage 1"),
        (lambda: LoadShape(loop=Loop.OPEN, stages=()).checked("x"), "no stage"),
    ],
)
def test_what_is_no_load_is_refused(make: object, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        make()  # type: ignore[operator]
