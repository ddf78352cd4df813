"""Wishes from outside: KEDA's targets, activation and fallback; cron windows; the user's function."""

from __future__ import annotations

import math
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from headway.scaling.decide import decide
from headway.scaling.decision import State, Status
from headway.scaling.policy import DOWN, CronTrigger, Fallback, FallbackBehavior, FunctionTrigger
from headway.scaling.samples import Reading
from tests.unit.scaling.scene import T0, Scene, policy, queue, reading, samples


@pytest.mark.parametrize(("average", "value", "current", "ready", "wanted"), [
    (True, 100.0, 2, 2, 10),
    (True, 101.0, 2, 2, 11),
    (True, 0.0, 2, 2, 1),
    (True, 55.0, 5, 5, 5),  # 1.1: within the tolerance
    (True, 45.0, 5, 5, 5),
    (True, 44.0, 6, 6, 5),
    (True, 30.0, 10, 2, 3),  # what is ready does not matter
    (True, 8600 / 215.0, 3, 3, 4),
    (False, 20.0, 3, 3, 6),
    (False, 11.0, 3, 3, 3),
    (False, 5.0, 3, 3, 2),
    (False, 20.0, 6, 3, 6),  # three of six are starting: not multiplied again
    (False, 30.0, 6, 3, 9),
    (False, 20.0, 3, 0, 3),
    (False, 0.0, 3, 3, 1),
])  # fmt: skip
def test_targets(average: bool, value: float, current: int, ready: int, wanted: int) -> None:
    rules = policy(queue(10.0, average=average))
    assert decide(rules, samples(current, 0, ready, queue=reading(value)), State(), T0)[0].desired == wanted


@pytest.mark.parametrize(("current", "value", "wanted", "status"), [
    (0, 40.0, 0, Status.INACTIVE),  # KEDA: activation goes before scaling, though 40 would be worth four
    (0, 50.0, 0, Status.INACTIVE),  # above it, not at it
    (0, 51.0, 6, Status.OK),
    (3, 40.0, 4, Status.INACTIVE),  # between 1 and N the target alone counts
    (3, 51.0, 6, Status.OK),
])  # fmt: skip
def test_activation_is_a_threshold_of_its_own(current: int, value: float, wanted: int, status: Status) -> None:
    rules = policy(queue(10.0, activation=50.0), least=0)
    decision, _ = decide(rules, samples(current, queue=reading(value)), State(last=current, active_at=T0 - 1), T0)
    assert (decision.desired, decision.proposals[0].status) == (wanted, status)


def test_inactive_for_the_cooldown_period_it_goes_to_zero_although_the_target_asks_for_more() -> None:
    scene = Scene(policy(queue(10.0, activation=50.0), least=0, cooldown_s=300.0), 4)
    assert scene.step(queue=reading(60.0)).desired == 6
    for _ in range(9):
        assert scene.step(30, queue=reading(40.0)).desired == 4
    assert scene.step(29, queue=reading(40.0)).desired == 4
    assert scene.step(1, queue=reading(40.0)).desired == 0
    assert scene.last.binding == "activation"


def test_a_little_work_keeps_one() -> None:
    scene = Scene(policy(queue(10.0), least=0), 1)
    for _ in range(20):
        assert scene.step(60, queue=reading(0.01)).desired == 1


@pytest.mark.parametrize("given", [
    None,
    reading(None),
    reading(math.nan),
    reading(math.inf),
    reading(0.0, age_s=None),
    reading(0.0, age_s=90.1),
    reading(None, None, "connection refused", 9),
])  # fmt: skip
def test_no_data_holds(given: Reading | None) -> None:
    for least in (0, 1):
        readings = {} if given is None else {"queue": given}
        rules = policy(queue(), least=least, cooldown_s=0.0)
        decision, _ = decide(rules, samples(5, **readings), State(active_at=T0 - 9999), T0)
        assert (decision.desired, decision.proposals[0].status) == (5, Status.NO_DATA)


def test_an_old_value_is_used_until_it_is_too_old() -> None:
    rules = policy(queue())
    failed = reading(80.0, 89.0, "timeout", 4)
    assert decide(rules, samples(5, queue=failed), State(), T0)[0].desired == 8


@pytest.mark.parametrize(("behavior", "current", "wanted"), [
    (FallbackBehavior.STATIC, 3, 6), (FallbackBehavior.STATIC, 9, 6),
    (FallbackBehavior.CURRENT, 3, 3), (FallbackBehavior.CURRENT, 9, 9),
    (FallbackBehavior.CURRENT_IF_HIGHER, 3, 6), (FallbackBehavior.CURRENT_IF_HIGHER, 9, 9),
    (FallbackBehavior.CURRENT_IF_LOWER, 3, 3), (FallbackBehavior.CURRENT_IF_LOWER, 9, 6),
])  # fmt: skip
def test_fallback_behaviours(behavior: FallbackBehavior, current: int, wanted: int) -> None:
    rules = policy(queue(), fallback=Fallback(3, 6, behavior))
    lost = reading(None, None, "connection refused", 3)
    decision, _ = decide(rules, samples(current, queue=lost), State(), T0)
    assert (decision.desired, decision.proposals[0].status) == (wanted, Status.FALLBACK)
    assert "connection refused" in decision.proposals[0].note


def test_before_the_threshold_of_failures_there_is_no_fallback() -> None:
    rules = policy(queue(), fallback=Fallback(3, 6))
    assert decide(rules, samples(2, queue=reading(None, None, "down", 2)), State(), T0)[0].desired == 2


def test_a_fallback_is_a_wish_like_any_other() -> None:
    rules = policy(queue(), FunctionTrigger("mine", 60.0), fallback=Fallback(1, 6))
    lost = reading(None, None, "down", 1)
    assert decide(rules, samples(9, queue=lost, mine=reading(8.0)), State(), T0)[0].desired == 8
    assert decide(rules, samples(9, queue=lost, mine=reading(2.0)), State(), T0)[0].desired == 6


@pytest.mark.parametrize(("answer", "wanted"), [(3.0, 3), (3.2, 4), (0.0, 1), (-5.0, 1), (1e18, 100)])
def test_a_function_answers_a_count(answer: float, wanted: int) -> None:
    rules = policy(FunctionTrigger("mine", 60.0))
    assert decide(rules, samples(2, mine=reading(answer)), State(), T0)[0].desired == wanted


@pytest.mark.parametrize(
    "given", [None, reading(9.0, 61.0), reading(None, None, "ZeroDivisionError"), reading(math.nan)]
)
def test_a_function_that_fails_holds(given: Reading | None) -> None:
    readings = {} if given is None else {"mine": given}
    assert decide(policy(FunctionTrigger("mine", 60.0)), samples(2, **readings), State(), T0)[0].desired == 2


# -- calendars --------------------------------------------------------------------------------------


def at(text: str, zone: str = "Europe/Berlin", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def cron(start: str, end: str, zone: str = "Europe/Berlin") -> CronTrigger:
    return CronTrigger("cron", start, end, zone, 7)


OFFICE = ("0 8 * * 1-5", "0 20 * * 1-5")
NIGHT = ("0 22 * * *", "30 6 * * *")


@pytest.mark.parametrize(("window", "when", "inside"), [
    (OFFICE, "2024-03-04T07:59:59", False),
    (OFFICE, "2024-03-04T08:00:00", True),
    (OFFICE, "2024-03-04T08:00:30", True),
    (OFFICE, "2024-03-04T19:59:59", True),
    (OFFICE, "2024-03-04T20:00:00", False),
    (OFFICE, "2024-03-09T12:00:00", False),  # Saturday
    (OFFICE, "2024-04-01T08:00:00", True),  # the first Monday of summer time
    (NIGHT, "2024-03-04T23:00:00", True),
    (NIGHT, "2024-03-05T06:29:59", True),
    (NIGHT, "2024-03-05T06:30:00", False),
    (NIGHT, "2024-03-31T03:30:00", True),  # the night of 23 hours
    (NIGHT, "2024-10-27T02:30:00", True),
    (("30 2 * * *", "0 5 * * *"), "2024-03-31T03:00:00", True),  # 2:30 did not exist: begun at the gap's end
    (("30 2 * * *", "0 5 * * *"), "2024-03-31T01:59:59", False),
    (("0 0 29 2 *", "0 0 1 3 *"), "2023-02-28T12:00:00", False),
    (("0 0 29 2 *", "0 0 1 3 *"), "2024-02-29T12:00:00", True),
    (("0 8 * * 1-5", "0 20 * * *"), "2024-03-09T12:00:00", False),  # Saturday: ended on Friday
])  # fmt: skip
def test_cron_windows(window: tuple[str, str], when: str, inside: bool) -> None:
    decision, _ = decide(policy(cron(*window), least=2), samples(7), State(), at(when))
    (proposal,) = decision.proposals
    assert (proposal.status, proposal.desired) == ((Status.OK, 7) if inside else (Status.INACTIVE, None))
    assert decision.desired == (7 if inside else 2)


def test_the_hour_that_comes_twice_is_one_window() -> None:
    rules = policy(cron("0 2 * * *", "0 3 * * *"))
    first, second = at("2024-10-27T02:30:00"), at("2024-10-27T02:30:00", fold=1)
    assert second - first == 3600
    wishes = [decide(rules, samples(1), State(), when)[0].desired for when in (first, second)]
    assert wishes == [7, 7]
    assert decide(rules, samples(1), State(), at("2024-10-27T03:00:00"))[0].desired == 1


@pytest.mark.parametrize(
    "trigger", [cron("0 8 * * *", "0 0 31 2 *"), cron("x", "y"), cron(*OFFICE, zone="Mars/Olympus")]
)
def test_a_window_that_cannot_be_read_is_no_data(trigger: CronTrigger) -> None:
    decision, _ = decide(policy(trigger), samples(3), State(), T0)
    assert (decision.desired, decision.proposals[0].status) == (3, Status.NO_DATA)


def test_a_zone_is_a_zone() -> None:
    rules = policy(cron("0 8 * * *", "0 9 * * *", "Asia/Kolkata"))
    assert decide(rules, samples(1), State(), at("2024-03-04T02:30:00", "UTC"))[0].desired == 7
    assert decide(rules, samples(1), State(), at("2024-03-04T08:30:00", "UTC"))[0].desired == 1


def test_the_end_of_a_window_is_smoothed_like_any_wish() -> None:
    scene = Scene(policy(cron(*OFFICE), least=2, down=DOWN), 2, now=at("2024-03-04T19:59:00"))
    assert scene.step().desired == 7
    assert scene.step(59).desired == 7
    assert scene.step(299).desired == 7
    assert scene.last.binding == "stabilization"
    assert scene.step(1).desired == 2
