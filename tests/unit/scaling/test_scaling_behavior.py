"""``behavior``: Kubernetes' documented examples of windows, rules and ``selectPolicy``."""

from __future__ import annotations

import pytest

from headway.scaling.policy import DOWN, UP, Direction, Rule, RuleType, Select
from tests.unit.scaling.scene import AT_ONCE, Scene, policy, queue, reading

PODS, PERCENT = RuleType.PODS, RuleType.PERCENT


def asked(rules: Direction, start: int, wish: int, *, ticks: int, every_s: float, up: bool) -> list[int]:
    """The counts that follow when ``wish`` is wished all the time."""
    ways = (rules, AT_ONCE) if up else (AT_ONCE, rules)
    scene = Scene(policy(queue(1.0), most=1000, up=ways[0], down=ways[1]), start)
    return [scene.step(every_s if n else 0.0, queue=reading(float(wish))).desired for n in range(ticks)]


def down(rules: tuple[Rule, ...], select: Select = Select.MAX) -> Direction:
    return Direction(0.0, rules, select)


def test_four_replicas_or_a_tenth_a_minute_whichever_is_more() -> None:
    # "Suppose there are 80 replicas and the target has to be scaled down to 10": 8 go in the first minute (10 % of 80),
    # then 10 % of 72 is 7.2, rounded up to 8; below 40 the other rule takes 4 at a time.
    rules = down((Rule(PODS, 4, 60.0), Rule(PERCENT, 10, 60.0)))
    counts = asked(rules, 80, 10, ticks=14, every_s=60, up=False)
    assert counts == [72, 64, 57, 51, 45, 40, 36, 32, 28, 24, 20, 16, 12, 10]


@pytest.mark.parametrize(("rules", "select", "counts"), [
    ((Rule(PERCENT, 10, 60.0),), Select.MAX, [90, 81, 72, 64]),
    ((Rule(PODS, 5, 60.0), Rule(PERCENT, 10, 60.0)), Select.MIN, [95, 90, 85, 80]),
    ((Rule(PODS, 5, 60.0),), Select.DISABLED, [100, 100, 100, 100]),
    ((), Select.MAX, [10, 10, 10, 10]),
    ((), Select.DISABLED, [100, 100, 100, 100]),
    ((Rule(PERCENT, 100, 15.0),), Select.MAX, [10, 10, 10, 10]),
])  # fmt: skip
def test_scale_down_rules(rules: tuple[Rule, ...], select: Select, counts: list[int]) -> None:
    assert asked(down(rules, select), 100, 10, ticks=4, every_s=60, up=False) == counts


@pytest.mark.parametrize(("rules", "counts"), [
    (Direction(0.0, UP.rules), [5, 10, 20, 40]),  # the default: 4, or as many as there are, every 15 s
    (Direction(0.0, UP.rules, Select.MIN), [2, 4, 8, 12]),
    (Direction(0.0, (Rule(PERCENT, 900, 60.0),)), [10, 10, 10, 10]),
    (Direction(0.0, (Rule(PODS, 1, 30.0),)), [2, 2, 3, 3]),
    (Direction(0.0, (Rule(PERCENT, 50, 15.0),)), [2, 3, 5, 8]),
    (Direction(0.0, UP.rules, Select.DISABLED), [1, 1, 1, 1]),
])  # fmt: skip
def test_scale_up_rules(rules: Direction, counts: list[int]) -> None:
    assert asked(rules, 1, 1000, ticks=4, every_s=15, up=True) == counts


def test_within_a_period_the_rule_counts_from_what_there_was_at_its_begin() -> None:
    assert asked(Direction(0.0, (Rule(PERCENT, 100, 15.0),)), 3, 100, ticks=6, every_s=5, up=True) == [
        6, 6, 6, 12, 12, 12,
    ]  # fmt: skip


def test_scale_down_waits_for_the_window_and_takes_its_largest_wish() -> None:
    scene = Scene(policy(queue(1.0), down=DOWN), 10)
    for wish in (10, 8, 3, 5):
        assert scene.step(60, queue=reading(wish)).desired == 10
    assert scene.last.binding == "stabilization"
    assert scene.step(119, queue=reading(2)).desired == 10
    assert scene.step(1, queue=reading(2)).desired == 8  # the first wish has left the window
    assert scene.step(60, queue=reading(2)).desired == 5  # the 8 too; the 3 stood behind the 5 that came later
    assert scene.step(60, queue=reading(2)).desired == 5


def test_scale_up_window_takes_its_smallest_wish() -> None:
    scene = Scene(policy(queue(1.0), up=Direction(60.0, ())), 2)
    assert scene.step(queue=reading(2)).desired == 2
    assert scene.step(30, queue=reading(9)).desired == 2
    assert scene.step(29, queue=reading(5)).desired == 2
    assert scene.step(1, queue=reading(9)).desired == 5
    assert scene.step(30, queue=reading(7)).desired == 5  # 59 s after: the 5 is within
    assert scene.step(30, queue=reading(7)).desired == 7


def test_what_others_change_counts_in_the_rules() -> None:
    scene = Scene(policy(queue(1.0), up=Direction(0.0, (Rule(PODS, 4, 60.0),))), 2)
    scene.step(queue=reading(2))
    scene.count = 5  # somebody adds three
    assert scene.step(1, queue=reading(50)).desired == 6
    assert scene.step(58, queue=reading(50)).desired == 6
    assert scene.step(2, queue=reading(50)).desired == 10


def test_a_decision_that_was_not_carried_out_is_made_again() -> None:
    scene = Scene(policy(queue(1.0), up=Direction(0.0, (Rule(PODS, 4, 60.0),))), 2)
    assert scene.step(queue=reading(50)).desired == 6
    scene.count = 2  # it was lost
    assert scene.step(1, queue=reading(50)).desired == 6


def test_bounds_are_above_every_rule() -> None:
    stiff = Direction(300.0, (Rule(PODS, 1, 60.0),), Select.DISABLED)
    for count, wanted, name in ((1, 4, "minReplicas"), (50, 8, "maxReplicas")):
        scene = Scene(policy(queue(1.0), least=4, most=8, up=stiff, down=stiff), count)
        assert scene.step(queue=reading(6)).desired == wanted
        assert scene.last.binding == name
