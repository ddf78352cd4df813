"""Replicas that come and go: queues, refusals, waits for a first replica, and the counters that triggers read."""

from __future__ import annotations

import numpy as np
import pytest

from headway.planning.fleet import EXPIRED, OK, REFUSED, Fleet, Serving, replica_seconds
from headway.planning.formulas import mean_wait_s


def serving(work_s: float = 1.0, **more: float) -> Serving:
    values = {"servers": 1, "most_waiting": 100, "timeout_s": 100.0, "start_s": 5.0, "rest_s": 0.0, **more}
    rest_s = values.pop("rest_s")
    return Serving((work_s,), (rest_s,), int(values["servers"]), int(values["most_waiting"]), values["timeout_s"],
                   values["start_s"])  # fmt: skip


def fleet(arrivals: list[float], how: Serving, replicas: int = 1) -> Fleet:
    return Fleet(how, np.array(arrivals), replicas, 0.0, 1)


def test_who_comes_while_another_is_served_waits_its_turn() -> None:
    one = fleet([0.0, 0.5, 0.6], serving(rest_s=0.25))
    one.run(10.0)
    assert list(one.outcomes.waited_s) == pytest.approx([0.0, 0.5, 1.4])
    assert list(one.outcomes.total_s) == pytest.approx([1.25, 1.75, 2.65])
    assert set(one.outcomes.status) == {OK}


def test_the_replica_with_the_fewest_in_flight_gets_it_and_what_waits_stays_where_it_is() -> None:
    one = fleet([0.0, 0.1, 0.2, 0.3, 3.0], serving(start_s=0.5), replicas=2)
    one.run(0.25)
    one.set(3, 0.25)
    one.run(10.0)
    # The third waits behind the first although a replica is idle from 0.75 on: requests do not move.
    assert list(one.outcomes.waited_s) == pytest.approx([0.0, 0.0, 0.8, 0.8, 0.0])


def test_a_full_queue_refuses_at_once_and_a_wait_beyond_the_limit_is_given_up() -> None:
    one = fleet([0.0, 0.1, 0.2, 0.3], serving(most_waiting=2))
    one.run(10.0)
    assert list(one.outcomes.status) == [OK, OK, OK, REFUSED]
    assert one.outcomes.total_s[3] == 0
    late = fleet([0.0, 0.1, 0.2], serving(timeout_s=1.0))
    late.run(10.0)
    assert list(late.outcomes.status) == [OK, OK, EXPIRED]
    assert late.outcomes.total_s[2] == 1.0


def test_without_any_replica_it_stops_at_the_first_request_which_waits_for_one() -> None:
    one = fleet([2.0, 2.5, 9.5], serving(start_s=5.0), replicas=0)
    assert one.run(1.0) == 1.0
    assert one.run(10.0) == 2.0
    assert one.held == 1
    one.set(1, 2.0)
    assert one.run(7.0) == 7.0
    assert (one.held, len(one.ready), one.wished) == (0, 1, 1)
    one.run(20.0)
    assert list(one.outcomes.waited_s) == pytest.approx([5.0, 5.5, 0.0])


def test_of_too_many_those_go_first_that_are_not_ready_then_the_youngest_which_finish_what_they_have() -> None:
    one = fleet([0.0, 0.1, 0.2, 0.3], serving(), replicas=2)
    one.run(0.5)
    one.set(4, 0.5)
    one.set(2, 1.0)
    assert (len(one.ready), len(one.starting)) == (2, 0)
    one.set(1, 1.0)
    one.run(10.0)
    one.end(10.0)
    assert set(one.outcomes.status) == {OK}
    # Two that never were ready 0.5 s each; the second until its own queue was done at 2.1; the first to the end.
    assert replica_seconds(one) == pytest.approx(0.5 + 0.5 + 2.1 + 10.0)


def test_counters_are_integrals_of_what_goes_on() -> None:
    one = fleet([0.0, 0.5], serving())
    one.run(1.25)
    (replica,) = one.ready
    assert replica.busy_s(1.25) == pytest.approx(1.25)
    assert replica.in_flight_s(1.25) == pytest.approx(1.0 + 0.75)
    assert (replica.finished, replica.in_flight) == (1, 1)
    one.run(5.0)
    assert replica.busy_s(5.0) == pytest.approx(2.0)
    assert replica.in_flight_s(5.0) == pytest.approx(1.0 + 1.5)
    assert (replica.finished, replica.in_flight) == (2, 0)


@pytest.mark.parametrize("servers", [1, 3])
def test_a_steady_load_waits_as_the_formulas_say(servers: int) -> None:
    rng = np.random.default_rng(4)
    rate, mean_s = 0.7 * servers / 0.02, 0.02
    arrivals = np.cumsum(rng.exponential(1 / rate, 200_000))
    law = tuple(rng.exponential(mean_s, 5000))
    one = Fleet(Serving(law, (0.0,) * 5000, servers, 10_000, 100.0, 1.0), arrivals, 1, 0.0, 2)
    one.run(float(arrivals[-1]) + 100)
    waited = float(np.mean(one.outcomes.waited_s))
    assert waited == pytest.approx(mean_wait_s(servers, rate, float(np.mean(law)), 1.0), rel=0.08)


def test_the_same_request_has_the_same_work_whatever_the_policy_does() -> None:
    how = Serving((0.1, 0.2, 0.4), (0.0, 0.0, 0.0), 1, 100, 100.0, 1.0)
    arrivals = np.arange(50.0)
    few, many = Fleet(how, arrivals, 1, 0.0, 3), Fleet(how, arrivals, 5, 0.0, 3)
    few.run(100.0)
    many.run(100.0)
    assert few.outcomes.total_s == many.outcomes.total_s
