"""What a comparison says: planted differences are found, none is made up, margins are what decides "no worse"."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from headway.comparing.compare import compare
from headway.domain.arms import ArmFigures
from headway.domain.comparisons import Answer, Comparison, Margins, MeasureKind
from tests.unit.comparing.figures import arm

DRAW = np.random.default_rng(11)


def latencies(count: int, middle_ms: float = 20.0) -> Any:
    return np.random.default_rng(count).lognormal(np.log(middle_ms), 0.4, count)


def answers(found: Comparison) -> dict[str, str]:
    return {measure.name: str(measure.answer) for measure in found.measures}


def test_without_requests_there_is_not_enough_evidence() -> None:
    found = compare(arm("v1"), arm("v2"))
    assert (found.answer, found.within, found.requests) == (Answer.OPEN, False, (0, 0))
    assert answers(found) == {"latency": "not enough evidence", "errors": "not enough evidence"}
    text = json.dumps(found.document(), allow_nan=False)
    assert json.loads(text)["measures"][0]["figures"][0]["difference"] == {"low": None, "high": None}


def test_no_difference_is_no_answer_but_within_the_margins_in_time() -> None:
    few = compare(arm("v1", latencies(300)), arm("v2", latencies(301)))
    many = compare(arm("v1", latencies(30_000)), arm("v2", latencies(30_001)))
    assert (few.answer, few.within) == (Answer.OPEN, False)
    assert (many.answer, many.within) == (Answer.OPEN, True)


@pytest.mark.parametrize(
    ("version", "measure"),
    [
        (arm("v2", latencies(2000, 30.0)), "latency"),
        (arm("v2", latencies(2000), errors=60), "errors"),
        (arm("v2", latencies(2000), feedback={"clicked": [0, 1] * 500}), "clicked"),
        (arm("v2", latencies(2000), feedback={"gain": [1.0, 2.0] * 1500}), "gain"),
    ],
    ids=["latency", "errors", "outcome", "reward"],
)
def test_a_planted_difference_is_found_in_both_directions(version: ArmFigures, measure: str) -> None:
    base = arm("v1", latencies(2001), feedback={"clicked": [0, 1, 1, 1] * 500, "gain": [2.0, 3.0] * 1500})
    told = {name: figures for name, figures in base.feedback.items() if name in version.feedback}
    found = compare(base, version, metrics=tuple(told))
    assert found.answer is Answer.WORSE
    assert answers(found)[measure] == "worse"
    assert [name for name, answer in answers(found).items() if answer == "worse"] == [measure]
    other = compare(version, base, metrics=tuple(told))
    assert answers(other)[measure] == "better"
    assert not other.measure(measure) or other.measure(measure).within  # type: ignore[union-attr]


def test_better_in_one_is_better_over_all_only_if_the_others_are_no_worse_than_they_may_be() -> None:
    gain = {"clicked": [0, 1, 1, 1] * 2000}
    base = arm("v1", latencies(20_000), feedback={"clicked": [0, 1] * 4000})
    assert compare(base, arm("v2", latencies(20_001), feedback=gain)).answer is Answer.BETTER
    failing = arm("v2", latencies(20_001), errors=1000, feedback=gain)
    assert compare(base, failing).answer is Answer.WORSE
    few = arm("v2", latencies(300), feedback=gain)
    assert compare(base, few).answer is Answer.OPEN


def test_margins_decide_what_is_within() -> None:
    base, version = arm("v1", latencies(20_000)), arm("v2", latencies(20_001, 22.0), errors=60)
    strict = compare(base, version, margins=Margins(errors=0.01))
    errors, latency = strict.measure("errors"), strict.measure("latency")
    assert errors is not None
    assert latency is not None
    assert (errors.answer, errors.within) == (Answer.WORSE, True)  # 0.3 %, of 1 % that is allowed
    assert (latency.answer, latency.within) == (Answer.WORSE, False)
    assert compare(base, version, margins=Margins(latency=0.25, errors=0.01)).within
    assert compare(base, version, margins=Margins(latency=0.0, latency_floor_s=0.02, errors=0.01)).within
    assert not compare(base, version, margins=Margins(latency=0.25, errors=0.001)).within


def test_the_margin_of_feedback_follows_its_spread_unless_it_is_given() -> None:
    values = [1.0, 3.0] * 4000
    base, version = arm("v1", feedback={"gain": values}), arm("v2", feedback={"gain": [v - 0.15 for v in values]})
    for margin, within in ((None, False), (0.5, True)):
        measure = compare(base, version, margins=Margins(outcome=margin)).measure("gain")
        assert measure is not None
        assert measure.within is within
        assert measure.figures[0].margin == pytest.approx(margin or 0.1, rel=1e-3)
    sure = arm("v1", feedback={"right": [1.0] * 5000})
    measure = compare(sure, arm("v2", feedback={"right": [1.0] * 5000})).measure("right")
    assert measure is not None
    assert measure.figures[0].margin == 0.01
    assert measure.within


def test_only_what_is_asked_for_is_compared_and_the_error_is_shared_out_among_it() -> None:
    base, version = arm("v1", latencies(2000), errors=9), arm("v2", latencies(2001), errors=11)
    every, one = compare(base, version), compare(base, version, kinds=[MeasureKind.ERRORS])
    assert [measure.name for measure in one.measures] == ["errors"]
    wide, narrow = (found.measure("errors").figures[0].difference for found in (every, one))  # type: ignore[union-attr]
    assert wide.low is not None
    assert narrow.low is not None
    assert wide.low < narrow.low
    waiting = compare(base, version, metrics=["clicked"])
    assert answers(waiting)["clicked"] == "not enough evidence"
    assert not waiting.within
    told = arm("v1", feedback={"other": [1.0] * 500})
    assert [m.name for m in compare(told, version, metrics=["clicked"]).measures][2:] == ["clicked"]


def test_the_mean_of_latency_is_shown_and_not_judged() -> None:
    base = arm("v1", latencies(5000))
    heavy = arm("v2", np.append(latencies(5001), [50_000.0] * 60))
    found = compare(base, heavy, kinds=[MeasureKind.LATENCY])
    mean = found.measures[0].figures[-1]
    assert (mean.name, mean.judged, mean.margin, mean.answer) == ("mean", False, None, Answer.OPEN)
    assert mean.version is not None
    assert mean.version > 0.5
    assert found.answer is Answer.OPEN


def test_a_version_that_is_the_same_is_hardly_ever_judged_at_any_look() -> None:
    """Whole comparisons, all measures together. With a look after every request: ``benchmarks/sequential_test.py``."""
    draw = np.random.default_rng(5)
    wrong = 0
    for _ in range(8):
        ms = draw.lognormal(3, 0.5, (2, 250))
        failed, good = draw.random((2, 250)) < 0.05, draw.random((2, 250)) < 0.6
        said = set()
        for n in range(25, 251, 25):
            base, version = (
                arm(
                    f"v{place + 1}",
                    ms[place, :n],
                    errors=int(failed[place, :n].sum()),
                    feedback={"good": good[place, :n].astype(float).tolist()},
                )
                for place in range(2)
            )
            said.add(compare(base, version).answer)
        wrong += said != {Answer.OPEN}
    assert wrong <= 1
