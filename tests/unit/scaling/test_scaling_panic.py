"""Bursts: the examples that Knative tests its autoscaler by."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.scaling.decision import Decision
from headway.scaling.policy import Panic
from headway.scaling.samples import PerReplica
from tests.unit.scaling.scene import AT_ONCE, Scene, concurrency, each, policy

EXACT = replace(AT_ONCE, tolerance=0.0)
"""Knative has no tolerance."""


class Burst(Scene):
    """Load is given for all replicas together, over both windows, as Knative's tests give it."""

    def __init__(self, target: float, ready: int) -> None:
        trigger = concurrency(target, Panic(6.0, 2.0))
        super().__init__(policy(trigger, most=10_000, up=EXACT, down=EXACT), ready)

    def scale(self, after_s: float, ready: int, stable: float, burst: float) -> Decision:
        self.count = ready
        return self.step(after_s, concurrency=each(*[stable / ready] * ready, burst=burst / ready))


@pytest.mark.parametrize(("target", "ready", "stable", "burst", "wanted"), [
    (10, 1, 50, 10, 5),  # no burst
    (10, 1, 100, 10, 10),
    (10, 1, 50, 49, 5),
    (10, 5, 50, 50, 5),
    (181, 1, 21, 26, 1),
    (10, 8, 50, 50, 5),  # fewer
    (10, 1, 50, 100, 10),  # the burst takes precedence
    (1, 10, 11, 25, 25),  # 2.5 times the ready ones
    (10, 10, 100, 1000, 100),
    (1, 10, 11, 19, 11),  # 1.9 times: not yet
    (1, 10, 11, 20, 20),
])  # fmt: skip
def test_one_look(target: float, ready: int, stable: float, burst: float, wanted: int) -> None:
    assert Burst(target, ready).scale(0, ready, stable, burst).desired == wanted


# after seconds, ready, load over the stable window, over the panic window, wanted replicas, whether still in panic
RUNS = {
    "panics, then scales down one stable window later": (
        10,
        [(0, 1, 100, 100, 10, True), (0, 10, 100, 1000, 100, True),
         (30, 10, 1, 1, 100, True), (31, 10, 1, 1, 1, False)],
    ),
    "a slow increase ends the panic": (
        1,
        [(0, 10, 11, 25, 25, True), (30, 40, 30, 41, 41, True), (32, 55, 50, 56, 50, False)],
    ),
    "a burst that goes on prolongs it": (
        1,
        [(0, 10, 11, 25, 25, True), (30, 40, 30, 80, 80, True),
         (45, 80, 30, 10, 80, True), (16, 80, 30, 10, 30, False)],
    ),
    "the last instant of the stable window is within": (
        1,
        [(0, 10, 11, 25, 25, True), (60, 25, 20, 30, 30, True), (1, 30, 20, 30, 20, False)],
    ),
    "load that grows sixfold each time is followed, and kept": (
        1,
        [(0, 1, 6, 6, 6, True), (0, 6, 36, 36, 36, True), (1, 36, 216, 216, 216, True), (1, 216, 216, 100, 216, True)],
    ),
    "in panic the larger one of both windows counts": (
        1,
        [(0, 2, 4, 5, 5, True), (5, 5, 50, 9, 50, True), (5, 50, 20, 60, 60, True)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_panic_over_time(name: str) -> None:
    target, looks = RUNS[name]
    scene = Burst(target, looks[0][1])
    for after_s, ready, stable, burst, wanted, panicking in looks:
        decision = scene.scale(after_s, ready, stable, burst)
        assert (decision.desired, scene.state.panic_until is not None) == (wanted, panicking)


def test_in_panic_another_trigger_cannot_lower_the_count_and_the_record_says_why() -> None:
    scene = Burst(10, 10)
    scene.scale(0, 10, 100, 1000)
    decision = scene.scale(20, 100, 1, 1)
    assert [clamp.name for clamp in decision.clamps] == ["panic"]
    assert decision.binding == "panic"
    assert "40 s more" in decision.clamps[0].why


def test_with_no_ready_replica_one_is_assumed() -> None:
    scene = Burst(10, 4)
    readings = PerReplica((*each(5.0, burst=19.0).replicas, *each(None, None, None, ready=False).replicas))
    assert not scene.step(ready=0, concurrency=readings).changed  # 1.9 replicas: below twice one
    assert scene.state.panic_until is not None  # ceil(19 / 10) = 2 is twice one
