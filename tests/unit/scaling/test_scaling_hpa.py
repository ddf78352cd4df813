"""Replicas by use and load: the examples that Kubernetes documents and tests its own algorithm by."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from headway.scaling.decide import decide
from headway.scaling.decision import State, Status
from headway.scaling.hpa import replicas_for
from headway.scaling.policy import Direction, ReplicaTrigger, Signal
from headway.scaling.samples import PerReplica, ReplicaReading
from tests.unit.scaling.scene import AT_ONCE, T0, concurrency, each, policy, samples

# name, values of measured replicas, missing, unready, target, current, wanted
HPA = [
    ("200m of 100m doubles", [0.2, 0.2, 0.2], 0, 0, 0.1, 3, 6),
    ("50m of 100m halves", [0.05] * 4, 0, 0, 0.1, 4, 2),
    ("one replica at twice its target", [0.2], 0, 0, 0.1, 1, 2),
    ("1.1 is within the tolerance", [0.11] * 10, 0, 0, 0.1, 10, 10),
    ("0.9 is within the tolerance", [0.09] * 10, 0, 0, 0.1, 10, 10),
    ("just above it", [0.1101] * 10, 0, 0, 0.1, 10, 12),
    ("just below it", [0.0899] * 10, 0, 0, 0.1, 10, 9),
    ("rounded up", [0.3, 0.5, 0.7], 0, 0, 0.3, 3, 5),
    ("rounded up on the way down", [0.1, 0.3, 0.5, 0.25, 0.25], 0, 0, 0.5, 5, 3),
    ("requests per second", [20, 10, 30], 0, 0, 15, 3, 4),
    ("a replica that is not ready uses nothing on the way up", [0.5, 0.7], 0, 1, 0.3, 3, 4),
    ("two of them turn growth round: hold", [0.4], 0, 2, 0.3, 3, 3),
    ("one that is not ready does not count on the way down", [0.1, 0.1], 0, 1, 0.5, 3, 1),
    ("a missing one uses its target on the way down", [0.1, 0.1], 1, 0, 0.5, 3, 2),
    ("a missing one keeps it within the tolerance: hold", [0.8], 1, 0, 1.0, 2, 2),
    ("a missing one uses nothing on the way up", [2.0, 2.0], 2, 0, 0.5, 4, 8),
    ("missing ones turn growth round: hold", [0.6], 1, 0, 0.5, 2, 2),
    ("missing ones cannot turn a fitting count into fewer", [0.5, 0.5], 1, 0, 0.5, 3, 3),
    ("missing and not ready ones, going up", [4.0], 1, 1, 1.0, 3, 4),
    ("more measured than wished does not turn less load into more", [0.8] * 5, 0, 0, 1.0, 2, 2),
    ("no load", [0.0, 0.0], 0, 0, 0.5, 2, 0),
]


@pytest.mark.parametrize(
    ("values", "missing", "unready", "target", "current", "wanted"),
    [row[1:] for row in HPA],
    ids=[row[0] for row in HPA],
)
def test_the_hpa_algorithm(
    values: list[float], missing: int, unready: int, target: float, current: int, wanted: int
) -> None:
    assert replicas_for(sum(values), len(values), missing, unready, target, current) == wanted


def test_rounding_up_does_not_add_what_floating_point_adds() -> None:
    total = 0.1 + 0.2 + 0.3
    assert math.ceil(total / 0.2) == 4
    assert replicas_for(total, 1, 0, 0, 0.2, 1) == 3


@pytest.mark.parametrize(("up", "down", "load", "wanted"), [
    (0.0, 0.1, 4.01, 11),
    (0.2, 0.1, 4.79, 10),
    (0.2, 0.1, 4.81, 13),
    (0.1, 0.0, 3.59, 9),
    (0.1, 0.3, 2.81, 10),
    (0.1, 0.3, 2.79, 7),
])  # fmt: skip
def test_each_direction_has_its_own_tolerance(up: float, down: float, load: float, wanted: int) -> None:
    rules = policy(concurrency(4.0), up=replace(AT_ONCE, tolerance=up), down=replace(AT_ONCE, tolerance=down))
    decision, _ = decide(rules, samples(10, concurrency=each(*[load] * 10)), State(), T0)
    assert decision.desired == wanted


def test_what_is_unusable_counts_as_missing_and_the_reading_says_so() -> None:
    values = (
        ReplicaReading(True, 600, 8.0, None, 0.5),
        ReplicaReading(True, 600, math.nan, None, 0.5),
        ReplicaReading(True, 600, 8.0, None, 61.0),  # older than the window
        ReplicaReading(False, 0, None),
    )
    decision, _ = decide(policy(concurrency(2.0)), samples(5, concurrency=PerReplica(values)), State(), T0)
    (proposal,) = decision.proposals
    # 8 over five replicas is 1.6 each: the wish to grow turns round, so it holds. The fifth is wished and not seen.
    assert (decision.desired, proposal.value, proposal.age_s) == (5, 8.0, 0.5)
    assert "2 without data, 2 not ready" in proposal.note


def test_a_replica_that_has_just_started_does_not_count_with_its_start_up_work() -> None:
    cpu = ReplicaTrigger("cpu", Signal.CPU, 0.8, 15.0)
    busy = ReplicaReading(True, 600.0, 0.4, None, 0.5)
    starting = ReplicaReading(True, 14.0, 1.0, None, 0.5)
    seen = samples(2, cpu=PerReplica((busy, starting)))
    assert decide(policy(cpu), seen, State(), T0)[0].desired == 1
    rps = replace(cpu, name="cpu", signal=Signal.RPS)
    assert decide(policy(rps), seen, State(), T0)[0].desired == 2  # requests are work whenever they come


@pytest.mark.parametrize("given", [None, PerReplica(()), each(None, None), each(1.0, 1.0, ready=False)])
def test_without_a_single_measurement_there_is_no_data_and_the_count_holds(given: PerReplica | None) -> None:
    readings = {} if given is None else {"concurrency": given}
    decision, _ = decide(policy(concurrency()), samples(7, **readings), State(), T0)
    assert (decision.desired, decision.binding) == (7, "no_data")
    assert decision.proposals[0].status is Status.NO_DATA
    assert decision.proposals[0].desired is None


@pytest.mark.parametrize(("signal", "held", "wanted"), [
    (Signal.CONCURRENCY, 1, 1), (Signal.CONCURRENCY, 9, 3), (Signal.RPS, 9, 1), (Signal.CPU, 9, 1),
])  # fmt: skip
def test_held_requests_call_the_first_replicas(signal: Signal, held: int, wanted: int) -> None:
    trigger = ReplicaTrigger("load", signal, 4.0, 60.0)
    slow = Direction(600.0, ())  # wakes at once all the same
    decision, _ = decide(policy(trigger, least=0, up=slow), samples(0, held), State(last=0, ups=((T0 - 1, 0),)), T0)
    assert decision.desired == wanted


def test_held_requests_are_load_while_the_first_replica_starts() -> None:
    rules = policy(concurrency(4.0), least=0)
    seen = samples(1, 9, 0, concurrency=each(None, ready=False))
    assert decide(rules, seen, State(), T0)[0].desired == 3
