"""The search for the largest load that keeps a promise, on a service whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from headway.domain.promises import parse
from headway.planning.capacity import Capacity
from headway.planning.measured import Load, Point, Rate, Run, Users, size
from headway.planning.nodes import Node, Size
from headway.planning.saturation import knee
from headway.planning.search import CLOSE, MOST_POINTS, Search
from headway.planning.sizing import bill, policy, queue_bound
from headway.planning.usl import Usl, fit_usl, left_out, likely_laws

S = 0.02


def point(replicas: int, load: Load, value_s: float, rate: float | None = None, failed: int = 0) -> Point:
    run = Run(1000, rate if rate is not None else size(load), value_s / 2, value_s, failed)
    return Point(replicas, load, (run, run))


def answer(replicas: int, load: Load) -> float:
    """M/M/1 by replica, in effect; above saturation a second and more."""
    if isinstance(load, Users):
        busy = load.count / (load.think_s + S) * S / replicas if load.think_s else 0.0
    else:
        busy = load.per_s * S / replicas
    return S / (1 - busy) * 3 if busy < 0.97 else 2.0


def searched(like: Load, counts: tuple[int, ...] = (1, 2), promise: str = "p95<300ms") -> Search:
    search = Search(parse(promise), 0.001, like, counts)
    for _ in range(100):
        wanted = search.wanted()
        if wanted is None:
            return search
        search.found(point(wanted.replicas, wanted.load, answer(wanted.replicas, wanted.load)))
    raise AssertionError("it does not end")


@pytest.mark.parametrize("like", [Rate(1.0), Users(1, 1.0)])
def test_the_largest_kept_load_is_found_between_two_that_were_measured(like: Load) -> None:
    search = searched(like)
    assert search.points[0].load == Users(1), "first one user alone"
    for replicas in (1, 2):
        kept, broken = search.bracket(replicas)
        assert kept is not None
        assert broken is not None
        low, high = size(kept.load), size(broken.load)
        assert low < high <= low * CLOSE + 1
        assert answer(replicas, kept.load) <= 0.3 < answer(replicas, broken.load)
        assert 3 <= len(search.at(replicas)) <= MOST_POINTS


def test_a_promise_that_one_user_breaks_ends_the_search() -> None:
    search = searched(Rate(1.0), promise="p95<10ms")
    assert search.hopeless()
    assert len(search.points) == 1


def test_failed_requests_and_saturation_break_the_promise_however_quick_the_rest_is() -> None:
    search = Search(parse("p95<300ms"), 0.001, Rate(1.0), (1,))
    assert search.kept(point(1, Rate(10.0), 0.1))
    assert not search.kept(point(1, Rate(10.0), 0.1, failed=5))
    assert not search.kept(point(1, Rate(10.0), 0.1, rate=9.0))


def test_the_knee_is_where_throughput_stops_to_grow() -> None:
    rising = [point(1, Rate(r), 0.1, rate=min(r, 48.0)) for r in (10.0, 20.0, 40.0)]
    assert not knee(rising, S).reached
    found = knee([*rising, point(1, Rate(80.0), 2.0, rate=48.0)], S)
    assert found.reached
    assert found.rate_per_s == 48.0
    users = [point(1, Users(n, 1.0), 0.1, rate=min(n / 1.02, 48.0)) for n in (20, 40, 80, 100)]
    found = knee(users, S)
    assert found.reached
    assert found.size == pytest.approx(48 * 1.02)


def test_the_scalability_law_finds_its_own_coefficients() -> None:
    def mean(n: float) -> float:
        return 0.02 + 0.002 * (n - 1) + 0.0001 * n * (n - 1)

    points = []
    for n in (1.0, 2.0, 4.0, 6.0, 8.0, 11.0):
        run = Run(1000, n / mean(n), mean(n), 3 * mean(n))
        points.append(Point(1, Rate(n / mean(n)), (run, run)))
    law = fit_usl(points)
    assert law is not None
    assert law.coefficients == pytest.approx([0.02, 0.002, 0.0001], rel=1e-6)
    value, found_mean, rate = law.expect(1, Rate(5 / mean(5.0)))
    assert (value, found_mean, rate) == pytest.approx((3 * mean(5.0), mean(5.0), 5 / mean(5.0)), rel=1e-3)
    assert max(abs(e) for e in left_out(points)) < 1e-3
    assert fit_usl(points[:4]) is None
    assert law.expect(1, Rate(10_000.0))[0] == math.inf


def test_what_few_replicas_do_not_tell_of_many_is_admitted() -> None:
    rng = np.random.default_rng(1)

    def points(counts: tuple[int, ...], share: float) -> list[Point]:
        found = []
        for k in counts:
            alike = k / (1 + share * (k - 1))
            for n in (1.0, 2.0, 4.0, 6.0, 8.0):
                mean = (0.02 + 0.002 * (n - 1)) * float(np.exp(rng.normal(0, 0.03)))
                run = Run(1000, alike * n / mean, mean, 3 * mean)
                found.append(Point(k, Rate(alike * n / mean), (run, run)))
        return found

    few, many = likely_laws(points((1, 2), 0.1)), likely_laws(points((1, 2, 4, 8), 0.1))
    for laws in (few, many):
        assert sum(weight for weight, _ in laws) == pytest.approx(1.0)
        assert [weight for weight, _ in laws] == sorted((weight for weight, _ in laws), reverse=True)
    assert many[0][1].amdahl == pytest.approx(0.1, abs=0.04)

    def apart(laws: list[tuple[float, Usl]]) -> float:
        bounds = [law.bound_per_s(8) for weight, law in laws if weight > 0.05]
        return max(bounds) / min(bounds)

    assert apart(few) > 1.3 * apart(many)


@pytest.mark.parametrize(("requests", "rate", "saturated"), [(390, 9.2, False), (390, 8.6, True), (40_000, 9.5, True)])
def test_arrivals_that_came_fewer_by_chance_are_no_saturation(requests: int, rate: float, saturated: bool) -> None:
    run = Run(requests // 3, rate, 0.1, 0.2)
    assert Point(1, Rate(10.0), (run, run, run)).saturated is saturated


def test_a_saturated_point_that_is_left_out_is_foretold_by_its_throughput() -> None:
    points = []
    for n in (1.0, 2.0, 4.0, 6.0, 8.0, 11.0):
        mean = 0.02 + 0.004 * (n - 1)
        run = Run(1000, n / mean, mean, 3 * mean)
        points.append(Point(1, Rate(n / mean), (run, run)))
    run = Run(1000, 100.0, 1.0, 3.0)
    error = left_out([*points, Point(1, Rate(400.0), (run, run))])[-1]
    assert error == pytest.approx(math.log(250 / 100), rel=0.05), "the law says 1 / 0.004 a second"


def test_a_bill_names_cores_and_where_a_node_is_told_nodes_and_their_price() -> None:
    assert bill(5, Size(1.0, 2 << 30)).cores == 5
    found = bill(5, Size(1.5, 2 << 30), Node(4.0, 16 << 30), 10.0)
    assert (found.nodes, found.price) == (3, 30.0)
    assert bill(5, Size(0.5, 6 << 30), Node(16.0, 16 << 30)).nodes == 3
    assert bill(5, Size(1.5, 2 << 30), Node(4.0, 16 << 30), 10.0, spare=1).price == 40.0


def test_the_policy_scales_by_what_the_weakest_replica_carries() -> None:
    carried = [
        Capacity(1, 100.0, 110.0, 100.0, 120.0, 50.0, 0.9, "sla"),
        Capacity(2, 180.0, 200.0, 180.0, 220.0, 91.26, 0.9, "sla"),
    ]
    found = policy(carried, 1.0, "p95", 7, 0.85, True)
    assert found["maxReplicas"] == 7
    assert found["triggers"][0] == {"type": "rps", "target": 45.6, "window": "15s"}
    assert {"type": "cpu", "target": "85%"} in found["triggers"]
    assert found["triggers"][2]["threshold"] == "900ms"
    assert policy(carried, 1.0, "p95", 1, 0.85, True) == {"minReplicas": 1, "maxReplicas": 1}, (
        "nothing to scale between"
    )
    # One of 20 may take longer than promised, one of 1000 may be refused: the bound lies where those are told apart.
    assert queue_bound(carried[0], 1.0, 0.95, 0.001) == 116
    assert queue_bound(carried[0], 1.0, 0.999, 0.001) == 51
    assert queue_bound(carried[0], 1.0, None, 0.001) == 346
