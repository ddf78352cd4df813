"""What counters that only grow say about a replica, over windows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from headway.control.replica_rates import POINTS, ReplicaHistory, ReplicaRates
from headway.domain.lifecycle import ReplicaPhase
from headway.domain.replicas import ReplicaStatus
from headway.ports.replica_stats import ReplicaStat

READY_AT = 5000.0
FAST, SLOW = 6.0, 60.0
WINDOWS = frozenset({FAST, SLOW})


def stat(at: float, cpu_s: float | None = None, epoch: str = "a", **more: Any) -> ReplicaStat:
    return ReplicaStat("m-v1-00000", at, epoch, cpu_s=cpu_s, **more)


def status(phase: ReplicaPhase = ReplicaPhase.READY, ready_at: float | None = READY_AT) -> ReplicaStatus:
    return ReplicaStatus("m-v1-00000", "m", "v1", phase, "unix:/x", ready_at=ready_at)


def rate(history: ReplicaHistory, counter: str, window_s: float) -> float | None:
    grown = history.grown(counter, window_s)
    return None if grown is None else grown[0] / (grown[2] - grown[1])


def history_of(*stats: ReplicaStat, windows: frozenset[float] = WINDOWS) -> ReplicaHistory:
    history = ReplicaHistory(READY_AT, 0.0)
    for one in stats:
        history.add(one, windows)
    return history


def test_a_rate_is_that_of_the_window_alone() -> None:
    # Idle for 100 s, then two cores for 10 s: all of the short window, a sixth of the long one.
    idle = [stat(float(s), 0.0) for s in range(101)]
    busy = [stat(100.0 + s, 2.0 * s) for s in range(1, 11)]
    history = history_of(*idle, *busy)
    assert rate(history, "cpu_s", FAST) == pytest.approx(2.0)
    assert rate(history, "cpu_s", SLOW) == pytest.approx(20 / 60)


def test_a_rate_is_over_the_time_since_ready_when_that_is_shorter() -> None:
    history = history_of(stat(1.0, 10.0))
    assert rate(history, "cpu_s", SLOW) is None, "one measurement is no rate"
    history.add(stat(1.2, 10.4), WINDOWS)
    assert rate(history, "cpu_s", SLOW) is None, "a fifth of a second says more of the measuring"
    history.add(stat(3.0, 11.0), WINDOWS)
    assert rate(history, "cpu_s", SLOW) == pytest.approx(0.5)


def test_counters_that_begin_anew_begin_a_new_history() -> None:
    history = history_of(*(stat(float(s), 5.0 * s) for s in range(10)), stat(10.0, 0.1, epoch="b"))
    assert rate(history, "cpu_s", FAST) is None
    history.add(stat(11.0, 0.3, epoch="b"), WINDOWS)
    assert rate(history, "cpu_s", FAST) == pytest.approx(0.2)


def test_a_counter_that_falls_within_one_life_is_no_data() -> None:
    assert history_of(stat(1.0, 5.0), stat(2.0, 3.0)).grown("cpu_s", FAST) is None


def test_a_counter_that_becomes_known_later_has_a_rate_from_then() -> None:
    history = history_of(stat(1.0, None, finished=0), stat(2.0, 4.0, finished=7), stat(4.0, 5.0, finished=9))
    assert rate(history, "cpu_s", SLOW) == pytest.approx(0.5)
    assert rate(history, "finished", SLOW) == pytest.approx(3.0)
    assert rate(history, "queue_s", SLOW) is None


def test_an_average_over_a_gap_is_not_called_one_over_the_window() -> None:
    history = history_of(*(stat(float(s), 1.0 * s) for s in range(10)), stat(300.0, 9.0))
    assert rate(history, "cpu_s", FAST) is None
    assert rate(history, "cpu_s", SLOW) is None
    history.add(stat(301.0, 10.0), WINDOWS)
    assert rate(history, "cpu_s", FAST) == rate(history, "cpu_s", SLOW) == pytest.approx(1.0)


def test_memory_of_any_window_is_bounded() -> None:
    hour = frozenset({3600.0})
    history = ReplicaHistory(READY_AT, 0.0)
    for tick in range(20_000):
        history.add(stat(tick / 2, tick * 0.25), hour)
    assert rate(history, "cpu_s", 3600.0) == pytest.approx(0.5)
    rings = history._rings
    assert len(rings[3600.0]) <= POINTS + 2


def test_other_windows_begin_with_the_history_there_is() -> None:
    history = history_of(*(stat(float(s), 0.5 * s) for s in range(100)))
    history.add(stat(100.0, 50.0), frozenset({30.0}))
    assert rate(history, "cpu_s", 30.0) == pytest.approx(0.5)
    assert rate(history, "cpu_s", FAST) is None


def test_what_a_replica_did_before_it_was_ready_does_not_count() -> None:
    rates = ReplicaRates()
    now = READY_AT + 2.0  # ready for 2 s
    loading = stat(97.0, 50.0)
    rates.take_in([status()], {"m-v1-00000": loading}, WINDOWS, now, 100.0)
    rates.take_in([status()], {"m-v1-00000": stat(100.0, 60.0)}, WINDOWS, now, 100.0)
    rates.take_in([status()], {"m-v1-00000": stat(102.0, 61.0)}, WINDOWS, now + 2, 102.0)
    (reading,) = rates.utilization([status()], SLOW, 102.0, cores=0.5).replicas
    assert (reading.ready, reading.burst) == (True, None)
    assert [reading.ready_for_s, reading.value, reading.age_s] == pytest.approx([4.0, 1.0, 0.0])


def test_a_step_up_does_not_make_the_load_look_larger() -> None:
    # 8 in flight: 8 s at one replica, then 2 s at four.
    rates = ReplicaRates()
    replicas = [replace(status(), replica_id=f"m-v1-{n:05d}", ready_at=READY_AT + (8 if n else 0)) for n in range(4)]
    for s in range(11):
        there = replicas if s >= 8 else replicas[:1]
        spent = {r.replica_id: 8.0 * s for r in replicas[:1]} if s <= 8 else {}
        for one in replicas if s > 8 else ():
            spent[one.replica_id] = (64.0 if one is replicas[0] else 0.0) + 2.0 * (s - 8)
        stats = {
            r.replica_id: ReplicaStat(r.replica_id, float(s), "a", in_flight_s=spent.get(r.replica_id, 0.0))
            for r in there
        }
        rates.take_in(there, stats, WINDOWS, READY_AT + s, float(s))
    found = rates.concurrency(replicas, SLOW, FAST, 10.0).replicas
    assert [r.value for r in found] == pytest.approx([6.8, 0.4, 0.4, 0.4])
    assert sum(r.burst or 0.0 for r in found) == pytest.approx(8.0)


def test_a_replica_that_is_not_ready_has_no_value_and_begins_anew() -> None:
    rates = ReplicaRates()
    for s in range(4):
        rates.take_in([status()], {"m-v1-00000": stat(10.0 + s, 1.0 * s)}, WINDOWS, READY_AT + s, 10.0 + s)
    unready = status(ReplicaPhase.UNREADY)
    rates.take_in([unready], {}, WINDOWS, READY_AT + 4, 14.0)
    assert rates.utilization([unready], FAST, 14.0, 1.0).replicas == ((False, 0.0, None, None, None),)
    again = status(ready_at=READY_AT + 5)
    rates.take_in([again], {"m-v1-00000": stat(15.0, 5.0)}, WINDOWS, READY_AT + 5, 15.0)
    (reading,) = rates.utilization([again], FAST, 15.0, 1.0).replicas
    assert (reading.ready, reading.value) == (True, None)


def test_an_old_measurement_is_no_data_and_says_how_old_it_is() -> None:
    rates = ReplicaRates()
    for s in range(4):
        measured = stat(float(s), 1.0 * s, memory_bytes=50, in_flight_s=2.0 * s, finished=3 * s)
        rates.take_in([status()], {"m-v1-00000": measured}, WINDOWS, READY_AT + s, float(s))
    for asked_at, known in ((4.0, True), (60.0, False)):
        memory = rates.memory([status()], asked_at, 100).replicas[0]
        load = rates.concurrency([status()], SLOW, FAST, asked_at).replicas[0]
        done = rates.throughput([status()], SLOW, None, asked_at).replicas[0]
        assert memory.age_s == load.age_s == asked_at - 3.0
        assert (memory.value, load.value, load.burst) == ((0.5, 2.0, 2.0) if known else (None, None, None))
        assert (done.value, done.burst) == ((3.0, None) if known else (None, None))
    assert rates.memory([status()], 4.0, None).replicas[0].value is None, "a share of nothing"


def test_a_wall_clock_that_is_set_back_makes_nobody_ready_in_the_future() -> None:
    rates = ReplicaRates()
    rates.take_in([status()], {}, WINDOWS, READY_AT - 3600, 50.0)
    assert rates.utilization([status()], FAST, 51.0, 1.0).replicas[0].ready_for_s == pytest.approx(1.0)
    rates.take_in([status()], {}, WINDOWS, READY_AT + 7200, 52.0)
    assert rates.utilization([status()], FAST, 52.0, 1.0).replicas[0].ready_for_s == pytest.approx(2.0)


def test_histories_of_replicas_that_are_gone_are_let_go() -> None:
    rates = ReplicaRates()
    others = [replace(status(), replica_id=f"m-v1-{n:05d}") for n in range(5)]
    rates.take_in(others, {}, WINDOWS, READY_AT, 0.0)
    rates.keep({"m-v1-00002"})
    assert len(rates) == 1
    assert rates.history("m-v1-00002") is not None
