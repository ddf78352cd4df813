"""The course of a plan on a service that is simulated: search, try, settle, and what cannot be measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from headway.domain.promises import parse
from headway.planning.course import Course
from headway.planning.measured import Point, Rate, Run, Users
from headway.planning.nodes import Size
from headway.planning.plan import Question
from headway.planning.search import Wanted
from headway.planning.service import Service, law_of
from headway.planning.simulate import Case, simulate

RUNS, REQUESTS = 3, 600
LAW = law_of(np.random.default_rng(7).exponential(0.02, 20_000))


def asked(**more: Any) -> Question:
    values: dict[str, Any] = {
        "promise": parse("p95<200ms"), "most_failed": 0.001, "like": Rate(1.0), "needed": None, "most_replicas": 3,
        "measured": (1, 2), "cpu_share": 1.0, "each": Size(1.0),
    }  # fmt: skip
    return Question(**{**values, **more})


class Lab:
    """Measures a service of known law; each run meets other draws."""

    def __init__(self, service: Service) -> None:
        self._service, self._seed = service, 1000

    def measure(self, wanted: Wanted) -> tuple[Point, list[float]]:
        self._seed += 1
        case = Case(self._service, wanted.replicas, wanted.load, self._seed)
        (outcome,) = simulate([case], streams=RUNS, requests=REQUESTS)
        runs = [
            Run(REQUESTS, float(rate), float(times.mean()), float(np.quantile(times, 0.95)))
            for times, rate in zip(outcome.times_s.T, outcome.rate_per_s, strict=True)
        ]
        alone = outcome.times_s.reshape(-1).tolist() if wanted.load == Users(1) else []
        return Point(wanted.replicas, wanted.load, tuple(runs)), alone


def drive(
    question: Question, lab: Lab, *, cannot: Callable[[Course, Wanted], bool] = lambda course, wanted: False
) -> tuple[Course, list[Wanted]]:
    course, asked_for = Course(question, seed=3), []
    while (wanted := course.wanted()) is not None:
        asked_for.append(wanted)
        assert len(asked_for) < 60, "it does not end"
        if cannot(course, wanted):
            assert course.refused()
            continue
        course.found(*lab.measure(wanted))
    return course, asked_for


def test_it_searches_then_tries_a_prediction_where_nothing_was_measured_and_tells_its_error() -> None:
    course, wanted = drive(asked(), Lab(Service(LAW, 1)))
    assert wanted[0].load == Users(1)
    assert {w.replicas for w in wanted[:-1]} == {1, 2}
    assert wanted[-1].replicas == 3, "beyond what was measured"
    plan = course.document()
    assert course.tried is not None
    assert plan["held_out"]["error"] == course.tried.error
    assert abs(course.tried.error) < 0.3
    assert plan["points"][-1]["replicas"] == 3, "what was tried joins the points"
    assert (plan["settled"], plan["answer"]) == ([], None)
    # One server of 20 ms and the 200 ms of the promise: 1 - 0.02 * ln(20) / 0.2 of its 50 a second, M/M/1.
    one = plan["capacity"][0]
    assert one["low"] < 35.0 < one["high"]


def test_where_the_prediction_cannot_be_tried_the_plan_goes_on_and_says_so() -> None:
    course, _ = drive(asked(), Lab(Service(LAW, 1)), cannot=lambda course, wanted: wanted.replicas == 3)
    plan = course.document()
    assert plan["held_out"] is None
    assert any("no prediction was tried" in note for note in plan["notes"])
    assert {point["replicas"] for point in plan["points"]} == {1, 2}


def test_a_search_that_cannot_be_measured_ends_the_plan() -> None:
    course = Course(asked(), seed=3)
    assert course.wanted() is not None
    assert not course.refused(), "no plan is better than one about the generator"


def test_a_promise_that_one_user_breaks_wants_nothing_more() -> None:
    course, wanted = drive(asked(promise=parse("p95<10ms")), Lab(Service(LAW, 1)))
    assert course.search.hopeless()
    assert len(wanted) == 1


def test_what_the_answer_hangs_on_is_settled() -> None:
    course, _ = drive(asked(needed=Rate(80.0), most_replicas=2), Lab(Service(LAW, 1)))
    assert course.settled, "two carry about 80 a second: whether they carry these hangs on this very load"
    assert {(one.point.replicas, one.point.load) for one in course.settled} == {(2, Rate(80.0))}
    assert course.need is not None
    assert course.document()["answer"]["finding"] == course.need.finding.value
