"""The arithmetic of traffic splits, by example."""

from __future__ import annotations

import pytest

from headway.domain.errors import InvalidTraffic
from headway.domain.routing_table import Arm
from headway.routing import bucket_plan, check_split, with_canary

KNOWN = ("v1", "v2", "v3", "v10")


def arms(**weights: int) -> tuple[Arm, ...]:
    return tuple(Arm(version, weight) for version, weight in weights.items())


@pytest.mark.parametrize(
    ("weights", "split"),
    [
        ({"v1": 100}, arms(v1=100)),
        ({"v2": 10, "v1": 90}, arms(v1=90, v2=10)),
        ({"v10": 50, "v2": 50}, arms(v2=50, v10=50)),
        ({"v1": 0, "v2": 100}, arms(v1=0, v2=100)),
    ],
)
def test_a_split_is_ordered_by_number(weights: dict[str, int], split: tuple[Arm, ...]) -> None:
    assert check_split(weights, KNOWN) == split


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({}, "no version"),
        ({"v1": 99}, "sum to 99"),
        ({"v1": 90, "v2": 11}, "sum to 101"),
        ({"v1": 110, "v2": -10}, "110"),
        ({"v1": -1, "v2": 101}, "-1"),
        ({"v1": 50, "v4": 50}, "'v4'"),
        ({"v1": 100, "x" * 300: 0}, r"x\.\.\."),
    ],
)
def test_a_wrong_split_is_refused_with_what_is_wrong(weights: dict[str, int], told: str) -> None:
    with pytest.raises(InvalidTraffic, match=told):
        check_split(weights, KNOWN)


def test_an_unknown_version_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InvalidTraffic) as caught:
        check_split({"v7": 100}, KNOWN)
    assert caught.value.hint == "versions: v1, v2, v3, v10"


@pytest.mark.parametrize(
    ("live", "version", "percent", "split"),
    [
        (arms(v1=100), "v2", 10, arms(v1=90, v2=10)),
        (arms(v1=50, v2=50), "v3", 25, arms(v1=38, v2=37, v3=25)),
        (arms(v1=90, v2=10), "v3", 50, arms(v1=45, v2=5, v3=50)),
        (arms(v1=90, v2=10), "v2", 30, arms(v1=70, v2=30)),
        (arms(v1=100), "v2", 99, arms(v1=1, v2=99)),
        (arms(v2=100, v3=0), "v1", 10, arms(v1=10, v2=90, v3=0)),
    ],
)
def test_a_canary_takes_its_share_from_the_others(
    live: tuple[Arm, ...], version: str, percent: int, split: tuple[Arm, ...]
) -> None:
    assert with_canary(live, version, percent) == split


@pytest.mark.parametrize("percent", [0, 100, -5])
def test_a_canary_is_more_than_nothing_and_less_than_all(percent: int) -> None:
    with pytest.raises(InvalidTraffic):
        with_canary(arms(v1=100), "v2", percent)


@pytest.mark.parametrize("live", [(), arms(v2=100), arms(v1=0, v2=100)])
def test_a_canary_needs_another_version_with_traffic(live: tuple[Arm, ...]) -> None:
    with pytest.raises(InvalidTraffic, match="v2"):
        with_canary(live, "v2", 10)


def test_moving_ten_percent_moves_ten_buckets() -> None:
    before, after = bucket_plan(arms(v1=90, v2=10)), bucket_plan(arms(v2=20, v1=80))
    assert [n for n in range(100) if before[n] != after[n]] == [*range(80, 90)]


def test_no_arms_are_no_buckets() -> None:
    assert bucket_plan(()) == ()
