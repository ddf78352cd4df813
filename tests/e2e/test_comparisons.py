"""Feedback, a comparison and a canary on trial, through the real gateway: the version that fails goes by itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from headway.client import Client
from tests.e2e.calls import Caller
from tests.installation import Installation
from tests.waiting import wait_until

CODE = """
def predict(X):
    if {fails} and (X < 0.5).any():
        raise ValueError("this version cannot")
    return [1 for _ in X]
"""


@pytest.fixture(scope="module")
def tried(shared: Installation) -> Iterator[Installation]:
    """Model ``judged``: v2, which failed every second request, was on trial beside v1."""
    folder = shared.scratch / "judged"
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(CODE.format(fails=False))
    shared.ok("deploy", str(folder))
    (folder / "model.py").write_text(CODE.format(fails=True))
    rules = ["--steps", "50,100", "--step-at-least", "1s", "--metric", "right"]
    shared.ok("deploy", str(folder), "--canary", "50%", "--auto", *rules)
    call = Caller(shared.data_url)
    with Client(home=shared.home) as client:

        def asked() -> Any:
            for number in range(40):
                answer = call("/models/judged/predict", f"[[{number % 2}.0]]")
                assert answer.status in (200, 500)
                assert answer.status == 200 or answer.version == "v2"
                told = {"request_id": answer.headers["x-request-id"], "outcome": answer.status == 200, "name": "right"}
                assert client.feedback("judged", told) == 1
            trial = client.get("judged").trial
            return trial if trial is not None and trial.ended_at is not None else None

        trial = wait_until(asked, 120)
        assert trial.state == "rolled_back"
        client.feedback("judged", {"request_id": "nobody", "outcome": True, "name": "right"})
    call.close()
    yield shared
    shared.ok("delete", "judged", "--yes")


def test_a_failing_version_on_trial_is_rolled_back_and_the_events_say_why(tried: Installation) -> None:
    def live() -> Any:
        return tried.ok("status", "judged", "-o", "json").json()["live"]

    wait_until(lambda: live() == [{"version": "v1", "weight": 100}], 60)
    told = [e for e in tried.ok("events", "--model", "judged", "-o", "json").json() if e["type"].startswith("trial_")]
    assert [event["type"] for event in told] == ["trial_started.v1", "trial_ended.v1"]
    assert told[1]["data"]["state"] == "rolled_back"
    assert "instead of" in told[1]["data"]["reason"]
    assert told[1]["data"]["comparison"]["answer"] == "worse"
    assert "v2 beside v1 rolled back" in tried.ok("status", "judged").stdout


def test_a_comparison_counts_what_was_sent_and_what_was_told(tried: Installation) -> None:
    found = tried.ok("compare", "judged", "v1", "v2", "-o", "json").json()
    assert found["answer"] == "worse"
    assert found["unmatched"] >= 1
    latency, errors, right = found["measures"]
    assert (latency["kind"], errors["kind"], right["metric"]) == ("latency", "errors", "right")
    assert errors["answer"] == "worse"
    assert 0 < right["counts"][1] <= found["requests"][1]
    figure = right["figures"][0]
    assert figure["base"] == 1.0
    assert figure["version"] < 1.0
    refused = tried.run("compare", "judged", "v1", "v9")
    assert refused.code == 3


def test_feedback_that_makes_no_sense_is_refused_by_name(tried: Installation) -> None:
    call = Caller(tried.data_url)
    answer = call("/models/judged/feedback", '[{"request_id": "a", "reward": 1}, {"request_id": "a"}]')
    assert (answer.status, answer.json()["error"]["where"]) == (400, "[1]")
    assert call("/models/nobody/feedback", '{"request_id": "a", "reward": 1}').status == 404
    call.close()
