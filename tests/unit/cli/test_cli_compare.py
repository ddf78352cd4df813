"""``headway compare``, the rules of a trial as options, and ``Client.feedback``, against APIs pretended at the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

import headway.client
from headway.api.schemas import TrialView
from headway.cli.models import trial_text
from headway.cli.trial import trial_of
from headway.domain.errors import InvalidInput
from tests.unit.cli.wire import Terminal

PLACE = "GET /v1/models/iris/comparison"
NOTHING = {"low": None, "high": None}


def figure(name: str, **changed: Any) -> dict[str, Any]:
    plain = {
        "name": name, "judged": True, "base": 0.02, "base_interval": {"low": 0.01, "high": 0.03}, "version": 0.05,
        "version_interval": {"low": 0.04, "high": 0.06}, "difference": {"low": 0.01, "high": 0.05}, "margin": 0.005,
        "answer": "worse", "within": False,
    }  # fmt: skip
    return {**plain, **changed}


def comparison(**changed: Any) -> dict[str, Any]:
    latency = [figure("p95"), figure("mean", judged=False, margin=None, answer="not enough evidence")]
    outcome = [figure("mean", base=None, base_interval=NOTHING, answer="not enough evidence", margin=None)]
    measures = [
        {"kind": "latency", "metric": None, "counts": [900, 90], "answer": "worse", "within": False,
         "figures": latency},
        {"kind": "errors", "metric": None, "counts": [1000, 100], "answer": "not enough evidence", "within": True,
         "figures": [figure("rate", answer="not enough evidence", within=True)]},
        {"kind": "outcome", "metric": "clicked", "counts": [0, 7], "answer": "not enough evidence", "within": False,
         "figures": outcome},
    ]  # fmt: skip
    plain = {
        "model": "iris", "base": "v1", "version": "v2", "since": 1_795_328_400.0, "until": 1_795_332_000.0,
        "requests": [1000, 100], "answer": "worse", "within": False, "confidence": 0.95, "measures": measures,
        "feedback": 9, "unmatched": 2,
    }  # fmt: skip
    return {**plain, **changed}


def test_a_line_for_each_figure_and_an_answer_over_all(terminal: Terminal) -> None:
    terminal.answer(PLACE, comparison())
    outcome = terminal.run("compare", "iris", "v1", "v2", "--since", "1h", "--metric", "errors", "--metric", "clicked")
    assert outcome.code == 0
    lines = outcome.stdout.splitlines()
    assert lines[0] == "iris: v2 compared with v1: worse"
    assert lines[1] == "  1,000 and 100 requests, 2026-11-22 06:20:00Z to 2026-11-22 07:20:00Z"
    rows = {line[:13].strip(): line for line in lines[4:]}
    assert "20 ms" in rows["latency p95"]
    assert rows["latency p95"].endswith("worse")
    assert rows["latency mean"].endswith("(not judged)")
    assert "2 %" in rows["errors"]
    assert rows["errors"].endswith("not enough evidence, within margin")
    assert "? .. ?" in rows["clicked"]
    assert "2 of 9 pieces of feedback name no request of this time" in outcome.stderr
    asked = terminal.requests[0].url.params
    assert (asked["base"], asked["version"], asked["since"]) == ("v1", "v2", "1h")
    assert asked.get_list("metric") == ["errors", "clicked"]
    assert (float(asked["latency_margin"]), float(asked["errors_margin"])) == (0.1, 0.005)


def test_json_is_the_view(terminal: Terminal) -> None:
    terminal.answer(PLACE, comparison(answer="better", within=True))
    assert terminal.run("compare", "iris", "-o", "json").json == comparison(answer="better", within=True)


@pytest.mark.parametrize(
    ("args", "where"),
    [
        (["--confidence", "high"], "--confidence"),
        (["--latency-margin", "-1%"], "--latency-margin"),
        (["--errors-margin", "200%"], "--errors-margin"),
    ],
)
def test_what_is_no_share_is_refused(terminal: Terminal, args: list[str], where: str) -> None:
    outcome = terminal.run("compare", "iris", *args)
    assert outcome.code == 2
    assert where in outcome.stderr
    assert terminal.requests == []


def said(**given: Any) -> dict[str, Any]:
    nothing = dict.fromkeys(("steps", "at_least", "at_most", "then", "margins", "metrics"))
    return dict(trial_of(**{**nothing, **given}).values())


def test_rules_of_a_trial() -> None:
    assert said() == {}
    assert said(steps="5, 25%,100", at_least="90s", at_most="2h", then="rollback") == {
        "steps": [5, 25, 100], "at_least_s": 90.0, "at_most_s": 7200.0, "then": "rollback",
    }  # fmt: skip
    assert said(margins=["latency=20%", "outcome=0.5"], metrics=["clicked"]) == {
        "margins": {"latency": 0.2, "outcome": 0.5}, "metrics": ["clicked"],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"steps": "five"}, "--steps"),
        ({"at_least": "soon"}, "--step-at-least"),
        ({"at_most": "later"}, "--step-at-most"),
        ({"then": "hope"}, "--then"),
        ({"margins": ["speed=1%"]}, "--margin"),
        ({"margins": ["errors=x"]}, "--margin"),
        ({"margins": ["errors=1%", "errors=2%"]}, "--margin"),
    ],
)
def test_rules_that_make_no_sense_are_refused(given: dict[str, Any], where: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        said(**given)
    assert refused.value.where == where


def test_rules_without_a_trial_are_refused(terminal: Terminal) -> None:
    outcome = terminal.run("deploy", ".", "--canary", "5%", "--steps", "5,100")
    assert outcome.code == 2
    assert "--auto" in outcome.stderr
    assert "--canary" in terminal.run("deploy", ".", "--auto").stderr
    assert terminal.requests == []


def test_status_tells_of_a_trial() -> None:
    running = TrialView(
        base="v1", version="v2", state="running", reason="", share=10, steps=[10, 100], since=None, began_at=0.0,
        ended_at=None, rules={},
    )  # fmt: skip
    assert trial_text(running) == "v2 beside v1 at 10 %, running, its traffic is on the way; steps 10, 100 %"
    ended = running.model_copy(update={"state": "rolled_back", "reason": "errors 0.1 instead of 0", "ended_at": 0.0})
    assert trial_text(ended) == "v2 beside v1 rolled back 1970-01-01 00:00:00Z: errors 0.1 instead of 0"


def test_feedback_goes_through_the_gateway(terminal: Terminal) -> None:
    terminal.answer("POST /models/iris/feedback", {"recorded": 2})
    told = [{"request_id": "a", "reward": 1.5}, {"request_id": "b", "outcome": True}]
    with headway.client.Client() as client:
        assert client.feedback("iris", told) == 2
        assert client.feedback("iris", told[0]) == 2
    assert json.loads(terminal.requests[0].content) == told
    assert json.loads(terminal.requests[1].content) == told[0]
    assert terminal.requests[0].url.host == "gateway.example"
