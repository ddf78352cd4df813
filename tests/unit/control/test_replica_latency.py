"""Latency windows from what replicas count themselves."""

from __future__ import annotations

import random
from typing import Any

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.control.replica_latency import ReplicaLatency
from headway.control.signal_watch import SignalKey, SignalWatch
from headway.domain.latency_counts import BOUNDS_NS, BUCKETS, GAMMA, quantile_ns
from headway.domain.lifecycle import ReplicaPhase
from headway.domain.replicas import ReplicaStatus
from headway.domain.scaling_spec import Scaling
from headway.ports.replica_stats import LatencyCounts, ReplicaStat
from headway.scaling.from_spec import policy_of
from headway.scaling.policy import LatencyTrigger
from headway.scaling.samples import LatencyReading

KEY = SignalKey("models/iris", "v1", "latency")


def trigger(**more: Any) -> LatencyTrigger:
    given = {"type": "latency", "threshold": "1s", "window": "1m", **more}
    [found] = policy_of(Scaling.model_validate({"maxReplicas": 9, "triggers": [given]})).triggers
    assert isinstance(found, LatencyTrigger)
    return found


class Watched:
    """Replicas whose counts a test says, read every two seconds."""

    def __init__(self, asked: LatencyTrigger) -> None:
        self.clock = ManualClock()
        self.asked = asked
        self.latency = ReplicaLatency(self.clock, SignalWatch(self.clock, lambda event: None))
        self.counts: dict[str, tuple[str, LatencyCounts | None]] = {}
        self.known = True

    def serve(self, replica: str, count: int, seconds: float, *, waited_s: float = 0.0, epoch: str = "a") -> None:
        before_epoch, before = self.counts.get(replica, (epoch, None))
        if before is None or before_epoch != epoch:
            before = LatencyCounts({}, 0.0, 0.0)
        place = next(place for place, bound in enumerate(BOUNDS_NS) if seconds * 1e9 <= bound)
        counts = {**before.counts, place: before.counts.get(place, 0) + count}
        total_s, queue_s = before.total_s + count * seconds, before.queue_s + count * waited_s
        self.counts[replica] = epoch, LatencyCounts(counts, total_s, queue_s)

    def run(self, seconds: float) -> None:
        for _ in range(round(seconds / 2)):
            self.clock.advance(2)
            at = self.clock.monotonic()
            stats = {name: ReplicaStat(name, at, epoch, latency=said) for name, (epoch, said) in self.counts.items()}
            ready_at = self.clock.now() - 1000
            replicas = [
                ReplicaStatus(name, "models/iris", "v1", ReplicaPhase.READY, None, ready_at=ready_at)
                for name in self.counts
            ]
            self.latency.take_in("models/iris", "v1", [self.asked], replicas, stats if self.known else {})
            self.latency.sweep(list(self.counts))

    def reading(self) -> LatencyReading:
        found = self.latency.reading(KEY, self.asked, None, self.clock.now(), self.clock.monotonic())
        assert found is not None
        return found


def test_a_quantile_is_known_to_two_percent() -> None:
    chance = random.Random(7)
    values = [chance.lognormvariate(17, 1.5) for _ in range(5000)]
    counts: dict[int, int] = {}
    for value in values:
        place = next((place for place, bound in enumerate(BOUNDS_NS) if value <= bound), BUCKETS)
        counts[place] = counts.get(place, 0) + 1
    values.sort()
    for share in (0.5, 0.75, 0.95, 0.99):
        found = quantile_ns(counts, share)
        assert found is not None
        assert found == pytest.approx(values[int(share * len(values)) - 1], rel=(GAMMA - 1) / (GAMMA + 1) + 0.001)
    assert quantile_ns({}, 0.5) is None


def test_replicas_are_added_up_over_a_window() -> None:
    world = Watched(trigger())
    world.serve("a", 1, 0.1)
    world.serve("b", 1, 0.1)
    world.run(10)
    world.serve("a", 95, 0.1, waited_s=0.02)
    world.serve("b", 5, 2.0, waited_s=1.0)
    world.run(60)
    [window] = world.reading().windows
    assert window.requests == 100, "what was there at the first reading is of nobody knows when"
    assert window.value_s == pytest.approx(0.1, rel=0.02)
    assert window.queue_share == pytest.approx((95 * 0.02 + 5) / (95 * 0.1 + 5 * 2.0))
    world.run(60)
    [window] = world.reading().windows
    assert (window.requests, window.value_s, window.queue_share) == (0, None, None)


def test_a_window_longer_than_what_is_known_is_no_data() -> None:
    world = Watched(trigger(window="30m", span="90m"))
    world.serve("a", 1, 0.1)
    world.run(600)
    found = world.reading()
    assert (found.windows, found.age_s) == ((), None)
    assert found.error == "replicas have been watched for 598 s, and a window takes 1800 s"
    world.run(1800)
    assert len(world.reading().windows) == 1, "what is known counts"
    world.run(1800 * 4)
    assert len(world.reading().windows) == 3
    age_s = world.reading().age_s
    assert age_s is not None
    assert age_s < 150


def test_a_replica_that_says_nothing_is_no_data_and_nothing_is_lost_when_it_is_back() -> None:
    world = Watched(trigger())
    world.serve("a", 1, 0.1)
    world.run(80)
    world.known = False
    world.serve("a", 50, 3.0)
    world.run(20)
    assert "does not answer" in world.reading().error
    world.known = True
    world.run(12)
    assert sum(window.requests for window in world.reading().windows) == 50


def test_an_older_image_is_told() -> None:
    world = Watched(trigger())
    world.counts["a"] = "a", None
    world.run(80)
    assert "its image is older" in world.reading().error


def test_another_life_begins_anew() -> None:
    world = Watched(trigger())
    world.serve("a", 100, 0.1)
    world.run(10)
    world.serve("a", 7, 0.1, epoch="b")
    world.run(2)
    world.serve("a", 5, 0.1, epoch="b")
    world.run(60)
    assert sum(window.requests for window in world.reading().windows) == 5


def test_what_is_gone_is_forgotten() -> None:
    world = Watched(trigger())
    world.serve("a", 1, 0.1)
    world.run(4)
    world.latency.sweep([])
    world.latency.sweep([])
    assert not world.latency._last
    assert not world.latency._histories
