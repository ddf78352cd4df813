"""Restart back-off as docs/explanation/replicas.md gives it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from headway.adapters.local.backoff import LONGEST_S, delay_s, looping, score_after_crash


def test_the_first_restart_is_immediate_and_the_next_ones_wait_twice_as_long_each() -> None:
    score, waits = 0.0, []
    for _ in range(10):
        score = score_after_crash(score, ready_s=0.0)
        waits.append(delay_s(score))
    assert waits == [0, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_crash_loop_begins_with_the_second_crash() -> None:
    first = score_after_crash(0.0, 0.0)
    assert not looping(first)
    assert looping(score_after_crash(first, 0.0))


def test_being_ready_for_long_makes_up_for_crashes() -> None:
    assert score_after_crash(5.0, ready_s=20.0, forget_s=10.0) == 4.0
    assert score_after_crash(5.0, ready_s=1e9, forget_s=10.0) == 1.0


def test_killed_from_outside_every_fifteen_seconds_it_comes_back_at_once_each_time() -> None:
    score = 0.0
    for _ in range(50):
        score = score_after_crash(score, ready_s=14.0)
        assert delay_s(score) == 0.0


def test_a_wall_clock_that_stepped_back_is_no_time_ready() -> None:
    assert score_after_crash(1.0, ready_s=-3600.0) == 2.0


@given(st.lists(st.floats(0, 1e6), max_size=200))
def test_the_wait_is_always_within_its_bounds(ready: list[float]) -> None:
    score = 0.0
    for seconds in ready:
        score = score_after_crash(score, seconds)
        assert score >= 1.0
        assert 0.0 <= delay_s(score) <= LONGEST_S
