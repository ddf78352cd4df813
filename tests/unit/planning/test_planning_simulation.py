"""The simulation of a service, held against what queueing theory knows exactly."""

from __future__ import annotations

import numpy as np
import pytest

from headway.planning.formulas import erlang_c, mean_wait_s, users_mean
from headway.planning.measured import Array, Load, Rate, Users
from headway.planning.service import Service, law_of
from headway.planning.simulate import Case, Outcome, simulate

S = 0.02
EVEN = (np.arange(20_000) + 0.5) / 20_000
EXPONENTIAL = law_of(-S * np.log(1 - EVEN))
STEADY = law_of(np.full(100, S))


def outcome(service: Service, replicas: int, load: Load, streams: int = 60, requests: int = 3000) -> Outcome:
    return simulate([Case(service, replicas, load, 7)], streams=streams, requests=requests)[0]


def test_the_law_keeps_mean_and_quantiles() -> None:
    assert EXPONENTIAL.mean() == pytest.approx(S, rel=1e-3)
    assert np.quantile(EXPONENTIAL, 0.95) == pytest.approx(S * np.log(20), rel=0.01)
    assert (np.diff(EXPONENTIAL) >= 0).all()
    assert law_of(np.array([0.1, 0.3])).mean() == pytest.approx(0.2)


def test_erlang_c_is_that_of_the_textbook() -> None:
    # M/M/1: the probability to wait is the utilisation. M/M/2 at a = 1: 1/3.
    assert erlang_c(1, 0.7) == pytest.approx(0.7)
    assert erlang_c(2, 1.0) == pytest.approx(1 / 3)
    assert erlang_c(3, 3.5) == 1.0


def test_waits_are_those_of_pollaczek_and_khinchine_for_one_server() -> None:
    for variation in (0.0, 0.5, 1.0, 3.0):
        wait = mean_wait_s(1, 35.0, S, variation)
        assert wait == pytest.approx(0.7 * S * (1 + variation) / (2 * 0.3)), variation
    assert mean_wait_s(2, 100.0, S, 1.0) == np.inf
    assert mean_wait_s(2, 0.0, S, 1.0) == 0.0


@pytest.mark.parametrize(("servers", "rate"), [(1, 30.0), (2, 70.0), (4, 150.0)])
@pytest.mark.parametrize(("law", "variation"), [(EXPONENTIAL, 1.0), (STEADY, 0.0)])
def test_an_open_queue_waits_as_the_formulas_say(servers: int, rate: float, law: Array, variation: float) -> None:
    found = outcome(Service(law, servers), 1, Rate(rate), streams=100)
    assert found.times_s.mean() == pytest.approx(S + mean_wait_s(servers, rate, S, variation), rel=0.04)
    assert found.rate_per_s.mean() == pytest.approx(rate, rel=0.02)


@pytest.mark.parametrize(("servers", "users"), [(1, 30), (2, 120), (4, 260)])
def test_users_who_think_are_the_machine_repairman(servers: int, users: int) -> None:
    rate, mean = users_mean(servers, users, S, 1.0)
    found = outcome(Service(EXPONENTIAL, servers), 1, Users(users, 1.0))
    assert found.rate_per_s.mean() == pytest.approx(rate, rel=0.02)
    assert found.times_s.mean() == pytest.approx(mean, rel=0.05)


def test_one_user_without_pauses_shows_the_law_itself() -> None:
    found = outcome(Service(EXPONENTIAL, 3), 1, Users(1))
    assert np.quantile(found.times_s, 0.95) == pytest.approx(np.quantile(EXPONENTIAL, 0.95), rel=0.02)
    assert list(users_mean(3, 1, S, 0.0)) == pytest.approx([1 / S, S])


def test_several_replicas_are_worse_than_one_of_their_size_and_better_than_apart() -> None:
    apart = outcome(Service(EXPONENTIAL, 1), 1, Rate(40.0)).times_s.mean()
    together = outcome(Service(EXPONENTIAL, 3), 1, Rate(120.0)).times_s.mean()
    routed = outcome(Service(EXPONENTIAL, 1), 3, Rate(120.0)).times_s.mean()
    assert together < routed < apart


@pytest.mark.parametrize(
    ("service", "replicas"),
    [
        (Service(STEADY, 2), 1),
        (Service(STEADY, 2), 3),
        (Service(STEADY, 4, serial=0.5), 2),
        (Service(STEADY, 2, shared=0.25), 4),
        (Service(STEADY, 2, slowdown=0.2), 2),
        (Service(STEADY, 2, delay=0.5), 2),
    ],
)
def test_saturated_throughput_is_the_asymptotic_bound(service: Service, replicas: int) -> None:
    found = outcome(service, replicas, Users(replicas * service.servers * 6), streams=4, requests=2000)
    assert found.rate_per_s.mean() == pytest.approx(service.bound_per_s(replicas), rel=0.03)
    assert found.rate_per_s.max() <= service.bound_per_s(replicas) * 1.01


def test_the_same_seed_gives_the_same_answer_whatever_stands_beside_it() -> None:
    one = Case(Service(EXPONENTIAL, 2), 2, Rate(120.0), 3)
    other = Case(Service(STEADY, 1), 3, Rate(80.0), 4)
    (alone,) = simulate([one], streams=3, requests=300)
    beside = simulate([other, one], streams=3, requests=300)[1]
    assert np.array_equal(alone.times_s, beside.times_s)
    few, many = (Case(Service(EXPONENTIAL, 2, serial=0.3), 2, Users(count, 0.1), 3) for count in (10, 40))
    assert np.array_equal(
        simulate([few, many], streams=3, requests=300)[0].times_s, simulate([few], streams=3, requests=300)[0].times_s
    )
    (again,) = simulate([Case(one.service, 2, one.load, 5)], streams=3, requests=300)
    assert not np.array_equal(alone.times_s[:50], again.times_s[:50])


def test_an_overload_does_not_shorten_what_is_simulated_beside_it() -> None:
    carried, overload = (Case(Service(STEADY, 1), 2, Rate(rate), 3) for rate in (50.0, 2000.0))
    found, short = simulate([carried, overload], streams=2, requests=300)
    assert found.times_s.shape == (300, 2)
    assert 0 < len(short.times_s) < 300


def test_an_overload_of_several_replicas_is_simulated_too() -> None:
    found = outcome(Service(STEADY, 1), 2, Rate(2000.0), streams=2, requests=300)
    assert len(found.times_s) > 0
    assert found.rate_per_s.mean() == pytest.approx(100, rel=0.1)
