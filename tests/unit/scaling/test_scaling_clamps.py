"""How wishes are weighed and clamped: no data, zero, bounds, shadow, other hands, a clock that is set back."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_type_hints

import pytest

from headway.scaling.decide import decide
from headway.scaling.decision import Decision, LatencyState, State
from headway.scaling.policy import (
    DOWN,
    CronTrigger,
    FunctionTrigger,
    Panic,
    Policy,
    ReplicaTrigger,
    Rule,
    RuleType,
    Signal,
)
from headway.scaling.watch import catch_up
from tests.unit.scaling.scene import (
    AT_ONCE,
    T0,
    Scene,
    concurrency,
    each,
    latency,
    policy,
    queue,
    reading,
    samples,
    windows,
)

NIGHT = CronTrigger("night", "0 1 * * *", "0 2 * * *", "UTC", 5)
"""``T0`` is outside."""


def names(decision: Decision) -> list[str]:
    return [clamp.name for clamp in decision.clamps]


@pytest.mark.parametrize(("readings", "wanted", "wish", "binding"), [
    ({"concurrency": each(*[4.0] * 5), "queue": reading(70.0)}, 7, 7, "queue"),
    ({"concurrency": each(*[8.0] * 5), "queue": reading(70.0)}, 10, 10, "concurrency"),
    ({"concurrency": each(*[4.0] * 5), "queue": reading(10.0)}, 5, 5, "concurrency"),
    ({"concurrency": each(*[1.0] * 5), "queue": reading(20.0)}, 2, 2, "concurrency"),
    ({"concurrency": each(*[1.0] * 5)}, 5, 2, "no_data"),
    ({"concurrency": each(*[8.0] * 5)}, 10, 10, "concurrency"),  # it may grow half blind
    ({"queue": reading(20.0)}, 5, 2, "no_data"),
    ({}, 5, 5, "no_data"),
])  # fmt: skip
def test_the_largest_wish_wins_and_lack_of_data_never_lowers(
    readings: dict[str, Any], wanted: int, wish: int, binding: str
) -> None:
    decision, _ = decide(policy(concurrency(4.0), queue(10.0)), samples(5, **readings), State(), T0)
    assert (decision.desired, decision.wish, decision.binding) == (wanted, wish, binding)


def test_when_all_are_inactive_the_floor_is_wished_and_without_triggers_nothing() -> None:
    assert decide(policy(NIGHT, least=2), samples(5), State(), T0)[0].binding == "minReplicas"
    assert decide(policy(NIGHT, least=2), samples(5), State(), T0)[0].desired == 2
    decision, _ = decide(policy(), samples(5), State(), T0)
    assert (decision.desired, decision.binding) == (5, "none")


def test_a_latency_trigger_that_is_content_keeps_the_count_when_a_calendar_ends() -> None:
    scene = Scene(policy(NIGHT, latency()), 5)
    for _ in range(30):
        assert scene.step(15, latency=windows(0.6)).desired == 5


# -- to zero and back -------------------------------------------------------------------------------


def zero(*triggers: Any, **more: Any) -> Policy:
    return policy(*triggers, **{"least": 0, "cooldown_s": 120.0, "down": DOWN, **more})


def test_with_work_one_stays_and_without_it_leaves_after_the_cooldown_whatever_the_window() -> None:
    scene = Scene(zero(concurrency(4.0)), 3)
    assert scene.step(concurrency=each(0.01, 0.0, 0.0)).desired == 3  # stabilization counts between replicas
    assert scene.step(60, concurrency=each(0.0, 0.0, 0.0)).desired == 3
    assert scene.step(59, concurrency=each(0.0, 0.0, 0.0)).desired == 3
    assert scene.step(1, concurrency=each(0.0, 0.0, 0.0)).desired == 0


def test_the_last_one_waits_for_the_cooldown() -> None:
    scene = Scene(zero(concurrency(4.0), down=AT_ONCE), 3)
    assert scene.step(concurrency=each(0.01, 0.0, 0.0)).desired == 1
    assert scene.step(119, concurrency=each(0.0)).desired == 1
    assert names(scene.last) == ["cooldown"]
    assert "1 s more" in scene.last.clamps[0].why
    assert scene.step(1, concurrency=each(0.0)).desired == 0
    assert scene.last.binding == "concurrency"


def test_one_that_was_never_active_counts_from_first_sight() -> None:
    scene = Scene(zero(concurrency(4.0), down=AT_ONCE), 1)
    assert scene.step(concurrency=each(0.0)).desired == 1
    assert scene.step(119, concurrency=each(0.0)).desired == 1
    assert scene.step(1, concurrency=each(0.0)).desired == 0


@pytest.mark.parametrize("busy", ["queue", "mine", "latency", "held"])
def test_any_work_anywhere_keeps_one(busy: str) -> None:
    rules = zero(concurrency(4.0), queue(), latency(), FunctionTrigger("mine", 60.0), down=AT_ONCE, cooldown_s=0.0)
    still: dict[str, Any] = {
        "concurrency": each(0.0), "queue": reading(0.0), "latency": windows(None), "mine": reading(0.0),
    }  # fmt: skip
    before = State(active_at=T0 - 999, last=1)
    assert decide(rules, samples(1, **still), before, T0)[0].desired == 0
    some = {"queue": reading(0.5), "mine": reading(1.0), "latency": windows(0.1)}
    readings = still if busy == "held" else {**still, busy: some[busy]}
    seen = samples(1, 1 if busy == "held" else 0, **readings)
    decision, state = decide(rules, seen, before, T0)
    assert (decision.desired, state.active_at) == (1, T0)


def test_lack_of_data_and_a_burst_keep_the_last_one() -> None:
    rules = zero(concurrency(4.0, Panic()), queue(), down=AT_ONCE, cooldown_s=0.0)
    before = State(active_at=T0 - 999, last=1)
    still = {"concurrency": each(0.0, burst=0.0), "queue": reading(0.0)}
    assert decide(rules, samples(1, **still), before, T0)[0].desired == 0
    assert decide(rules, samples(1, **{**still, "queue": reading(None)}), before, T0)[0].desired == 1
    assert decide(rules, samples(1, **{**still, "concurrency": each(None)}), before, T0)[0].desired == 1
    panicking = replace(before, panic_until=T0 + 9, panic_peak=1)
    assert decide(rules, samples(1, **still), panicking, T0)[0].binding == "panic"


def test_processor_time_alone_cannot_tell_that_there_is_nothing_to_do() -> None:
    cpu = ReplicaTrigger("cpu", Signal.CPU, 0.8, 15.0)
    scene = Scene(zero(cpu, down=AT_ONCE, cooldown_s=0.0), 2)
    for _ in range(5):
        assert scene.step(999, cpu=each(*[0.0] * scene.count)).desired == 1
    assert scene.last.binding == "activation"


def test_rates_hold_on_the_way_to_zero_but_not_on_the_way_up_to_what_is_needed() -> None:
    slow = replace(AT_ONCE, rules=(Rule(RuleType.PODS, 1, 60.0),))
    scene = Scene(zero(concurrency(4.0), up=slow, down=slow, cooldown_s=0.0), 3)
    counts = [scene.step(60, concurrency=each(*[0.0] * scene.count)).desired for _ in range(4)]
    assert counts == [2, 1, 0, 0]
    assert scene.step(1, held=9).desired == 3
    assert names(scene.last) == ["rate", "activation"]
    assert scene.step(1, concurrency=each(*[40.0] * 3)).desired == 3


def test_at_zero_only_work_wakes_it() -> None:
    rules = zero(concurrency(4.0), queue(10.0, activation=5.0))
    assert decide(rules, samples(0, queue=reading(5.0)), State(), T0)[0].desired == 0
    assert decide(rules, samples(0), State(), T0)[0].desired == 0  # blind: it holds
    assert decide(rules, samples(0, queue=reading(31.0)), State(), T0)[0].desired == 4
    assert decide(rules, samples(0, 1), State(), T0)[0].desired == 1
    assert decide(replace(rules, most=2), samples(0, 99, queue=reading(0.0)), State(), T0)[0].desired == 2


# -- bounds, shadow, other hands, clocks ------------------------------------------------------------


def test_bounds_hold_whatever_is_known() -> None:
    rules = policy(concurrency(4.0), least=2, most=6)
    for current, wanted in ((1, 2), (2, 2), (6, 6), (9, 6)):
        assert decide(rules, samples(current), State(), T0)[0].desired == wanted


def test_shadow_decides_the_same_and_changes_nothing() -> None:
    scene = Scene(policy(queue(10.0), shadow=True), 2)
    for _ in range(3):
        decision = scene.step(60, queue=reading(90.0))
        assert (decision.desired, decision.changed, decision.shadow) == (9, True, True)
    assert scene.state.changes == ()
    assert scene.state.changed_at is None


def test_a_change_by_hand_starts_every_cooldown() -> None:
    scene = Scene(policy(latency()), 2)
    scene.step(latency=windows(0.6))
    scene.count = 4
    scene.step(20, latency=windows(0.6))
    assert scene.state.changed_at == scene.now
    assert scene.state.last == 4


def test_every_instant_moves_with_a_clock_that_is_set_back() -> None:
    def instants(part: Any) -> list[str]:
        return [name for name, hint in get_type_hints(type(part)).items() if hint == float | None and name[-2:] != "_s"]

    memory = LatencyState(before_s=1.5, value_s=2.5)
    then: dict[str, Any] = dict.fromkeys(instants(memory), T0)
    memory = replace(memory, **then)
    state = State(ups=((T0, 1),), downs=((T0, 2),), changes=((T0, 3),), last=4, latency={"latency": memory})
    then = dict.fromkeys(instants(state), T0)
    state = replace(state, **then)
    moved = catch_up(state, 4, T0 - 100)
    assert moved.ups == ((T0 - 100, 1),)
    assert moved.downs == ((T0 - 100, 2),)
    assert moved.changes == ((T0 - 100, 3),)
    assert len(instants(state)) >= 4
    assert len(instants(memory)) >= 7
    assert {getattr(moved, name) for name in instants(state)} == {T0 - 100}
    assert {getattr(moved.latency["latency"], name) for name in instants(memory)} == {T0 - 100}


def test_a_clock_that_is_set_back_keeps_all_ages() -> None:
    rules = policy(queue(1.0), least=0, cooldown_s=60.0, down=replace(AT_ONCE, stabilization_s=100.0))
    scene = Scene(rules, 5)
    scene.step(queue=reading(5.0))
    scene.step(40, queue=reading(2.0))
    scene.step(-86_400, queue=reading(2.0))
    assert scene.count == 5
    assert scene.step(59, queue=reading(2.0)).desired == 5
    assert scene.step(1, queue=reading(2.0)).desired == 2  # 100 s of going forward after the 5
    assert all(at <= scene.now for at, _ in (*scene.state.downs, *scene.state.changes))
    assert scene.step(60, queue=reading(0.0)).desired == 0
    assert scene.step(-5, held=1, queue=reading(0.0)).desired == 1
