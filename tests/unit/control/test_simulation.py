"""A policy replayed: the function that scales production decides about simulated replicas, and its records are real."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headway.control.scaling_plan import Size
from headway.control.simulation import Candidate, Simulated, Traffic, simulate
from headway.control.simulation_report import Asked, document
from headway.domain.errors import InvalidInput
from headway.domain.promises import parse_all
from headway.domain.scaling_document import parse_scaling
from headway.planning.fleet import OK, Serving
from headway.scaling.record import decision_of, replay

RECORDED = Path(__file__).with_name("recorded_run.json.gz")
QUICK = {"scaleDown": {"stabilizationWindowSeconds": 10}}


def candidate(name: str = "now", **scaling: Any) -> Candidate:
    return Candidate(name, parse_scaling(scaling).model_dump(mode="json", by_alias=True))


def steady(*stages: tuple[float, float]) -> np.ndarray:
    """Even arrivals: seconds and rate of each stage."""
    at, found = 0.0, []
    for length_s, rate in stages:
        found.append(at + np.arange(int(length_s * rate)) / rate)
        at += length_s
    return np.concatenate(found)


def traffic(arrivals: np.ndarray, until: float, *, work_s: float = 0.05, **more: Any) -> Traffic:
    serving = Serving((work_s,), (0.001,), 1, more.pop("most_waiting", 50), 30.0, more.pop("start_s", 2.0))
    return Traffic(arrivals, 0.0, until, serving, Size(0.5, None), **more)


def ran(wanted: Candidate, what: Traffic) -> Simulated:
    return simulate("iris", wanted, what)


def test_replicas_follow_the_load_and_start_as_late_as_they_do() -> None:
    wanted = candidate(
        minReplicas=1, maxReplicas=6, behavior=QUICK, triggers=[{"type": "rps", "target": 10, "window": "10s"}]
    )
    run = ran(wanted, traffic(steady((30, 8), (60, 38), (60, 8)), 150.0, most_waiting=500))
    wished = dict(zip(run.course.at, run.course.wished, strict=True))
    assert max(wished.values()) >= 4, "38 a second need four, and what has piled up needs more"
    assert run.course.wished[-1] == 1
    grown = next(at for at, count in wished.items() if count > 1)
    assert 30 < grown < 45
    ready = next(at for at, count in zip(run.course.at, run.course.ready, strict=True) if count > 1)
    assert 2.0 <= ready - grown <= 3.0
    assert set(run.outcomes.status) == {OK}


def test_its_records_are_those_of_production_and_can_be_made_again() -> None:
    triggers = [
        {"type": "concurrency", "target": 2, "window": "10s"},
        {"type": "cpu", "target": "70%"},
        {
            "type": "latency",
            "quantile": "p95",
            "threshold": "200ms",
            "window": "20s",
            "every": "10s",
            "cooldown": "20s",
        },
        {"type": "cron", "start": "0 8 * * *", "end": "0 20 * * *", "timezone": "UTC", "desiredReplicas": 2},
    ]
    run = ran(candidate(minReplicas=1, maxReplicas=5, triggers=triggers), traffic(steady((60, 5), (120, 60)), 180.0))
    assert len(run.decisions) > 5
    for one in run.decisions:
        made = one.document()
        assert replay(made) == decision_of(made) == one.decision
        assert set(made["samples"]["readings"]) == {"concurrency", "cpu", "latency"}
    assert any(one.decision.changed for one in run.decisions)
    values = [p.value for one in run.decisions for p in one.decision.proposals if p.trigger == "latency" and p.value]
    assert values


def test_requests_that_find_no_replica_are_decided_about_at_once_and_wait_for_the_first() -> None:
    wanted = candidate(
        minReplicas=0, maxReplicas=3, cooldownPeriod="30s", behavior=QUICK,
        triggers=[{"type": "concurrency", "target": 2, "window": "10s"}],
    )  # fmt: skip
    arrivals = np.concatenate([steady((20, 5)), 100.25 + steady((20, 5))])
    run = ran(wanted, traffic(arrivals, 130.0))
    first = run.decisions[0].decision
    assert (first.at, first.current, first.desired) == (0.0, 0, 1)
    assert run.outcomes.total_s[0] == pytest.approx(2.05, abs=0.01)
    assert 0 in run.course.wished[5:], "it rests in between"
    assert any(one.decision.at == 100.25 and one.decision.desired == 1 for one in run.decisions)
    assert set(run.outcomes.status) == {OK}


def test_a_fixed_number_is_a_policy_too() -> None:
    run = ran(candidate(minReplicas=2), traffic(steady((60, 20)), 60.0))
    assert set(run.course.wished) == {2}
    assert run.replica_s == pytest.approx(120.0, rel=0.05)


def test_a_queue_at_the_end_does_not_make_more_replicas_of_the_mean() -> None:
    load = traffic(steady((20, 60)), 20.0)
    one = document("iris", [ran(candidate(minReplicas=1), load)], load, Asked(), [])["policies"][0]
    assert one["replica_hours"] * 3600 > 22, "it goes on until what waits is done"
    assert one["replicas"] == {"least": 1, "mean": pytest.approx(1.0), "most": 1}


@pytest.mark.parametrize(
    ("trigger", "kind"),
    [
        ({"type": "memory", "target": "80%"}, "memory"),
        ({"type": "prometheus", "serverAddress": "http://p:9090", "query": "up", "threshold": 3}, "prometheus"),
        ({"type": "jobs", "value": 2}, "jobs"),
        ({"type": "python", "entrypoint": "scaling:decide"}, "python"),
    ],
)
def test_what_was_not_recorded_is_refused_by_name(trigger: dict[str, Any], kind: str) -> None:
    wanted = candidate("next", minReplicas=1, maxReplicas=3, triggers=[{**trigger, "name": "outside"}])
    with pytest.raises(InvalidInput, match=rf"'outside' cannot be replayed.*\({kind}\)") as refused:
        ran(wanted, traffic(steady((10, 5)), 10.0))
    assert refused.value.where == "next"


def test_side_by_side_the_cheapest_that_keeps_the_promise_is_named() -> None:
    what = traffic(steady((300, 35)), 300.0, replicas=2)
    policies = [candidate(str(n), minReplicas=n) for n in (1, 2, 3)]
    runs = [ran(one, what if one.name != "1" else traffic(steady((300, 35)), 300.0)) for one in policies]
    found = document("iris", runs, what, Asked(parse_all(["p95<300ms,errors<1%"]), 0.1), ["a note"])
    one, two, three = found["policies"]
    assert [p["promises"][0]["kept"] for p in (one, two, three)] == [False, True, True]
    assert one["failed_share"] > 0.1
    assert one["promises"][0]["broken_share"] > 0.9
    assert found["best"] == "2"
    assert two["core_hours"] == pytest.approx(2 * 0.5 * 300 / 3600, rel=0.02)
    assert two["price"] == pytest.approx(two["core_hours"] * 0.1)
    assert two["replicas"]["mean"] == pytest.approx(2, rel=0.02)
    assert sum(window["count"] for window in one["windows"]) == found["requests"] == 10_500
    assert found["notes"] == ["a note"]


def test_the_same_seed_replays_the_same() -> None:
    wanted = candidate(minReplicas=1, maxReplicas=4, triggers=[{"type": "concurrency", "target": 2}])
    first, again = (ran(wanted, traffic(steady((60, 30)), 60.0, seed=7)) for _ in range(2))
    assert first.outcomes.total_s == again.outcomes.total_s
    assert [one.decision for one in first.decisions] == [one.decision for one in again.decisions]


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    """A real run: what the query log and the decision log of a laptop had of it."""
    found: dict[str, Any] = json.loads(gzip.decompress(RECORDED.read_bytes()))
    return found


def test_a_recorded_run_is_reproduced_by_its_replay(recorded: dict[str, Any]) -> None:
    begin_at, until = float(recorded["begin_at"]), recorded["until"]
    law = [tuple(np.array(recorded[name]) / 1e6) for name in ("work_us", "rest_us")]
    serving = Serving(law[0], law[1], 1, recorded["max_queue"], 30.0, recorded["start_s"])
    arrivals = begin_at + np.cumsum(recorded["arrived_us"]) / 1e6
    what = Traffic(arrivals, begin_at, until, serving, Size(recorded["cores"], None))
    run = ran(Candidate("now", recorded["scaling"]), what)
    seconds = np.arange(begin_at, until)
    real = [decision_of(one) for one in recorded["decisions"]]
    lived = _at([begin_at, *(one.at for one in real)], [1, *(one.desired for one in real)], seconds)
    told = _at(run.course.at, run.course.wished, seconds)
    # It swings from 1 to 6 and back three times. Where it stands is told to one replica at all but a few seconds.
    assert np.mean(np.abs(told - lived) <= 1) > 0.9
    assert (told.max(), told.min()) == (lived.max(), lived.min()) == (6, 1)
    assert told.mean() == pytest.approx(lived.mean(), rel=0.1)
    changes = [one.decision for one in run.decisions if one.decision.changed]
    assert abs(len(changes) - len(real)) <= 2
    assert np.mean(run.outcomes.total_s) == pytest.approx(np.mean(recorded["total_us"]) / 1e6, rel=0.1)


def test_recorded_decisions_are_made_again_to_the_letter(recorded: dict[str, Any]) -> None:
    assert len(recorded["decisions"]) == 16
    for one in recorded["decisions"]:
        assert replay(one) == decision_of(one)


def _at(at: list[float], values: list[int], when: np.ndarray) -> np.ndarray:
    return np.array(values)[np.searchsorted(at, when, side="right") - 1]
