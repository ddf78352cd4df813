"""Figures of a replayed load: what counts, window by window, and promises over all."""

from __future__ import annotations

from array import array

import numpy as np
import pytest

from headway.domain.promises import parse
from headway.planning.fleet import EXPIRED, OK, REFUSED, Outcomes
from headway.planning.replayed import Replay, averaged, window_length


def replay() -> Replay:
    outcomes = Outcomes(
        np.array([0.0, 1.0, 2.0, 11.0, 12.0, 25.0]),
        array("d", [0.1, 0.2, 0.3, 0.0, 5.0, 0.4]),
        array("d", [0.0] * 6),
        array("h", [OK, OK, OK, REFUSED, EXPIRED, OK]),
    )
    return Replay(outcomes, 0.0, 30.0)


def test_refusals_count_and_are_not_timed() -> None:
    whole = replay().whole()
    assert (whole.count, whole.refused, whole.expired) == (6, 1, 1)
    assert whole.average_s == pytest.approx((0.1 + 0.2 + 0.3 + 5.0 + 0.4) / 5)
    assert whole.p50_s == pytest.approx(0.3)
    assert whole.failed_share == pytest.approx(2 / 6)


def test_windows_are_by_arrival_and_empty_ones_are_there() -> None:
    windows = replay().windows(5.0)
    assert [one.count for one in windows] == [3, 0, 2, 0, 0, 1]
    assert windows[1].p95_s is None
    assert windows[2].p95_s == 5.0


def test_a_promise_is_about_all_and_the_windows_that_broke_it_are_told() -> None:
    kept = replay().kept(parse("p50<1s"), 10.0)
    assert kept.kept
    assert kept.measured == pytest.approx(0.3)
    assert kept.broken_share == pytest.approx(1 / 3)
    errors = replay().kept(parse("errors<10%"), 10.0)
    assert not errors.kept
    assert errors.measured == pytest.approx(1 / 3)
    assert errors.broken_share == pytest.approx(1 / 3)


def test_a_value_that_changes_is_averaged_over_time() -> None:
    assert averaged([0.0, 5.0, 12.0], [1, 3, 2], 0.0, 25.0, 10.0) == pytest.approx([2.0, 2.2, 2.0])


def test_windows_are_round_and_not_too_many() -> None:
    assert [window_length(span) for span in (10.0, 3600.0, 86_400.0, 30 * 86_400.0)] == [1.0, 30.0, 300.0, 21_600.0]
