"""The latency trigger: step, judge, take back; alone and beside others; against a queue with known capacity."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest

from headway.scaling.decision import Decision, LatencyState, Status
from headway.scaling.policy import DOWN, Direction, LatencyTrigger, Pick, Policy
from headway.scaling.samples import LatencyReading, LatencyWindow
from tests.unit.scaling.scene import Scene, latency, policy, queue, reading, windows

SLOW, FINE, FAST = 1.5, 0.6, 0.1


def alone(**changes: Any) -> Policy:
    return policy(latency(**changes), most=10)


def see(scene: Scene, value: float | None, after_s: float = 15.0, **more: Any) -> Decision:
    return scene.step(after_s, latency=windows(value, **more))


def proposal(decision: Decision) -> tuple[Status, int | None]:
    found = next(each for each in decision.proposals if each.trigger == "latency")
    return found.status, found.desired


def test_above_the_threshold_it_adds_a_step_and_then_waits_for_the_effect() -> None:
    scene = Scene(alone(step=2), 2)
    assert see(scene, SLOW).desired == 4
    assert scene.last.binding == "latency"
    # Seen to be ready after 15 s; then a cooldown, and a window that lies wholly after that.
    assert [see(scene, 1.2).desired for _ in range(5)] == [4, 4, 4, 4, 6]  # it had helped, and more is needed
    assert scene.last.not_replica_bound == ""


def test_it_looks_only_so_often_and_in_between_its_wish_stands() -> None:
    scene = Scene(alone(), 2)
    assert see(scene, FINE, 0).desired == 2
    for _ in range(14):
        assert see(scene, SLOW, 1).desired == 2
    assert see(scene, SLOW, 1).desired == 3


def test_nothing_follows_within_the_cooldown_of_any_change() -> None:
    scene = Scene(alone(), 2)
    see(scene, FINE)
    scene.count = 5  # by hand
    for _ in range(4):
        assert see(scene, SLOW, 15).desired == 5
    assert "cooldown for 15 s" in scene.last.proposals[0].note
    assert see(scene, SLOW, 15).desired == 6


def test_windows_from_before_the_last_change_are_no_reason() -> None:
    scene = Scene(alone(span_s=180.0, cooldown_s=60.0), 2)
    scene.step(latency=windows(FINE, FINE, FINE))
    scene.count = 3
    scene.step(1, latency=windows(SLOW, SLOW, FINE))
    assert scene.step(100, latency=windows(SLOW, SLOW, FINE)).desired == 3
    assert "not since the last change" in scene.last.proposals[0].note
    assert scene.step(100, latency=windows(SLOW, FINE, SLOW)).desired == 4


def test_the_slowest_window_counts_or_the_latest() -> None:
    for pick, wanted in ((Pick.MAX, 3), (Pick.LATEST, 2)):
        scene = Scene(alone(pick=pick, span_s=180.0), 2)
        assert scene.step(latency=windows(FINE, SLOW, FINE, None)).desired == wanted


def test_a_hold_means_the_present_count_also_when_others_change_it() -> None:
    scene = Scene(alone(), 4)
    see(scene, FINE)
    for count in (7, 2):
        scene.count = count
        assert see(scene, FINE, 1).desired == count
    for _ in range(21):
        see(scene, FAST)
    assert scene.count == 1
    scene.count = 5  # the step down from 2 was none from 5
    assert see(scene, FAST, 1).desired == 5


def test_slow_without_waiting_is_no_reason() -> None:
    scene = Scene(alone(), 2)
    assert see(scene, SLOW, queue_share=0.03).desired == 2
    assert "waiting is only 3% of it, more replicas would not help" in scene.last.proposals[0].note


def test_a_step_that_does_not_help_is_taken_back_once_and_none_follows() -> None:
    scene = Scene(policy(latency(step=2), most=10, down=Direction(300.0, ())), 3)
    counts = [see(scene, SLOW).desired for _ in range(60)]
    assert counts[0] == 5
    verdicts = [decision for decision in scene.said if decision.not_replica_bound]
    assert [each.not_replica_bound for each in verdicts] == ["latency"]
    assert verdicts[0].desired == 3  # at once: the window does not hold what is withdrawn
    assert "3 to 5 replicas took p95 from 1500 ms to 1500 ms" in verdicts[0].proposals[0].note
    assert set(counts[counts.index(3) :]) == {3}
    assert "not replica-bound" in scene.last.proposals[0].note
    assert see(scene, FINE).desired == 3
    assert see(scene, SLOW).desired == 5  # below the threshold in between: it may try again


def test_a_step_is_not_judged_before_its_replicas_are_ready() -> None:
    scene = Scene(alone(), 3)
    see(scene, SLOW)
    for _ in range(20):
        assert scene.step(15, ready=3, latency=windows(SLOW)).desired == 4
    assert "3 of 4 replicas are ready" in scene.last.proposals[0].note
    for _ in range(4):
        see(scene, SLOW)
        assert scene.count == 4
    see(scene, SLOW)
    assert (scene.count, scene.last.not_replica_bound) == (3, "latency")


def test_a_step_to_below_the_threshold_helped_however_little_that_is() -> None:
    for after, bound in ((0.89, True), (0.91, False), (0.85, True)):
        scene = Scene(alone(), 3)
        see(scene, 0.95)
        for _ in range(5):
            see(scene, after)
        assert (scene.count, scene.last.not_replica_bound == "") == (4 if bound else 3, bound)


def test_a_step_has_a_whole_cooldown_after_its_replicas_are_ready() -> None:
    scene = Scene(alone(cooldown_s=120.0), 3)
    see(scene, SLOW, 0)
    for _ in range(6):
        scene.step(15, ready=3, latency=windows(SLOW))
    assert [see(scene, SLOW).desired for _ in range(9)] == [4] * 8 + [3]  # ready at 105 s, judged at 225 s


@pytest.mark.parametrize(("requests", "bound"), [(600, False), (700, False), (800, True), (1200, True)])
def test_a_step_that_the_load_outgrew_is_not_called_useless(requests: int, bound: bool) -> None:
    scene = Scene(alone(), 2)
    scene.step(latency=LatencyReading((LatencyWindow(600, SLOW, 0.8),), 0.0))
    for _ in range(8):
        scene.step(15, latency=LatencyReading((LatencyWindow(requests, SLOW, 0.8),), 0.0))
    assert (scene.count > 3, any(each.not_replica_bound for each in scene.said)) == (bound, not bound)


def test_a_step_that_a_bound_did_not_allow_is_not_judged() -> None:
    scene = Scene(policy(latency(), most=3), 3)
    for _ in range(40):
        assert see(scene, SLOW).desired == 3
        assert not scene.last.not_replica_bound
    assert scene.last.binding == "maxReplicas"


@pytest.mark.parametrize("value", [FAST, None])
def test_well_below_for_long_enough_it_takes_a_step_down(value: float | None) -> None:
    scene = Scene(policy(latency(), most=10, down=DOWN), 4)
    for _ in range(20):
        assert see(scene, value).desired == 4
    assert see(scene, value).desired == 3  # 300 s after the first look; the window does not add another 300 s
    assert [see(scene, value).desired for _ in range(8)] == [3, 3, 3, 2, 2, 2, 2, 1]
    assert see(scene, SLOW, 60).desired == 2


def test_no_step_down_to_what_was_too_few_for_as_much_load_until_that_is_long_ago() -> None:
    def reading_of(value: float, requests: int) -> LatencyReading:
        return LatencyReading((LatencyWindow(requests, value, 0.8),), 0.0)

    scene = Scene(alone(), 2)
    assert scene.step(0, latency=reading_of(SLOW, 1000)).desired == 3  # 2 were too few for 1000
    for _ in range(100):
        assert scene.step(15, latency=reading_of(FAST, 901)).desired == 3
    assert "2 replicas were too few for 1000 requests" in scene.last.proposals[0].note
    assert scene.step(15, latency=reading_of(FAST, 900)).desired == 2
    for _ in range(10):
        assert scene.step(15, latency=reading_of(FAST, 451)).desired == 2  # so is 1 for half of it
    for _ in range(150):
        scene.step(15, latency=reading_of(FAST, 451))
    assert scene.count == 1  # an hour later it tries


def test_being_well_below_has_to_last() -> None:
    scene = Scene(alone(), 4)
    for _ in range(5):
        for _ in range(19):
            assert see(scene, FAST).desired == 4
        assert see(scene, FINE).desired == 4


def test_content_and_alone_it_holds_for_ever() -> None:
    scene = Scene(alone(), 4)
    for _ in range(200):
        assert see(scene, FINE).desired == 4
    assert proposal(scene.last) == (Status.YIELDS, 3)


def test_content_beside_another_trigger_it_lets_go_after_a_while_one_step_at_a_time() -> None:
    scene = Scene(policy(latency(), queue(1.0), most=10), 6)
    counts = [scene.step(15, latency=windows(FINE), queue=reading(2.0)).desired for _ in range(41)]
    assert counts[:20] == [6] * 20
    assert counts[20] == 5
    assert counts[24] == 4
    assert counts[32:] == [2] * 9
    assert scene.step(15, latency=windows(SLOW), queue=reading(2.0)).desired == 3  # it objects again


def test_more_from_another_trigger_is_not_held_back() -> None:
    scene = Scene(policy(latency(), queue(1.0), most=10), 2)
    assert scene.step(0, latency=windows(FAST), queue=reading(7.0)).desired == 7


@pytest.mark.parametrize("given", [
    None,
    LatencyReading((), None, "disk full"),
    LatencyReading((), 0.0),
    LatencyReading((LatencyWindow(9, 0.1, 0.0),), None),
    LatencyReading((LatencyWindow(9, 0.1, 0.0),), 200.0),
    reading(0.1),
])  # fmt: skip
def test_without_windows_there_is_no_data_and_no_time_is_counted(given: Any) -> None:
    scene = Scene(alone(), 4)
    for _ in range(19):
        see(scene, FAST)
    decision = scene.step(15, latency=given)
    assert (decision.desired, proposal(decision)) == (4, (Status.NO_DATA, None))
    assert [see(scene, FAST).desired for _ in range(20)] == [4] * 20


def test_at_zero_it_forgets() -> None:
    scene = Scene(policy(latency(), least=0, most=10, cooldown_s=30.0), 1)
    see(scene, SLOW)
    for _ in range(40):
        see(scene, None)
    assert scene.count == 0
    assert scene.state.latency["latency"] == LatencyState()
    assert scene.step(1, held=3, latency=windows(None)).desired == 1


# -- a queue with c servers -------------------------------------------------------------------------


class Servers:
    """Each takes ``service_s`` for a request; what they cannot take waits. ``shared``: one thing that all wait for."""

    def __init__(self, service_s: float, shared_rate: float | None = None) -> None:
        self.service_s = service_s
        self.shared_rate = shared_rate
        self.backlog = 0.0
        self.seconds: deque[tuple[float, float, float]] = deque(maxlen=60)

    def second(self, rate: float, servers: int) -> None:
        capacity = self.shared_rate or servers / self.service_s
        done = min(capacity, rate + self.backlog)
        self.backlog = max(0.0, self.backlog + rate - capacity)
        busy = min(0.97, rate / capacity)
        wait = self.backlog / capacity + self.service_s * busy**4 / (1 - busy) / servers
        self.seconds.append((done, self.service_s + wait, wait))

    def windows(self) -> LatencyReading:
        values = sorted(each[1] for each in self.seconds)
        total = sum(each[1] for each in self.seconds)
        requests = int(sum(each[0] for each in self.seconds))
        share = sum(each[2] for each in self.seconds) / total
        return LatencyReading((LatencyWindow(requests, values[int(len(values) * 0.95)], share),), 0.0)


def live(trigger: LatencyTrigger, servers: Servers, rates: list[tuple[int, float]], start: int = 1) -> Scene:
    scene = Scene(policy(trigger, most=12), start)
    for seconds, rate in rates:
        for _ in range(seconds):
            servers.second(rate, scene.count)
            scene.step(1, latency=servers.windows())
    return scene


@pytest.mark.parametrize("step", [1, 2])
def test_it_finds_enough_replicas_and_gives_them_back(step: int) -> None:
    servers = Servers(0.4)  # 2.5 requests a second each
    scene = live(latency(step=step), servers, [(600, 2.0), (3600, 12.0)])
    assert 5 <= scene.count <= 8  # 4.8 are needed
    calm = [decision.proposals[0].value for decision in scene.said[-600:]]
    assert all(value is not None and value <= 0.9 for value in calm)
    assert not any(decision.not_replica_bound for decision in scene.said)
    held = {decision.desired for decision in scene.said[-600:]}
    for _ in range(7200):
        servers.second(0.5, scene.count)
        scene.step(1, latency=servers.windows())
    assert (len(held), scene.count) == (1, min(held) if min(held) < 1 else 1)


def test_what_replicas_cannot_help_is_found_out_and_left_alone() -> None:
    scene = live(latency(step=2), Servers(0.4, shared_rate=8.0), [(300, 4.0), (3000, 8.5)], start=3)
    verdicts = [decision for decision in scene.said if decision.not_replica_bound]
    assert len(verdicts) == 1
    assert scene.count == 3
    assert max(decision.desired for decision in scene.said) == 5
