"""What follows from measuring, on a real installation: a plan's policy in force, and a policy replayed from the log."""

from __future__ import annotations

from typing import Any

import pytest

from headway.cli.plan import digest_of
from headway.client import Client
from headway.ports.load_generator import LoadRequest
from tests.installation import Installation
from tests.waiting import wait_until

CODE = "def predict(X: list):\n    return [0] * len(X)\n"
POLICY = {"minReplicas": 1, "maxReplicas": 2, "triggers": [{"type": "rps", "target": 45.6, "window": "15s"}]}
PLAN: dict[str, Any] = {
    "format": 1,
    "promise": "p95<1s",
    "limit_s": 1.0,
    "load": {"kind": "users", "think_time_s": 1.0},
    "points": [{"replicas": 1, "load": {"kind": "users", "size": 1, "think_time_s": 0.0}, "value_s": 0.02}],
    "held_out": None,
    "model": {"chosen": "queue", "left_out_error": {"queue": 0.021, "usl": None}, "beliefs": []},
    "knees": [],
    "capacity": [],
    "curves": [],
    "answer": None,
    "policy": POLICY,
    "max_queue": 46,
    "notes": [],
}


@pytest.fixture(scope="module")
def planned(shared: Installation) -> Installation:
    """A model with a plan, as if it had been measured."""
    folder = shared.scratch / "models" / "planned"
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(CODE)
    (folder / "sample.json").write_text("[[1]]")
    shared.ok("deploy", str(folder))
    with Client(home=shared.home) as client:
        client.add_plan("planned", "v1", digest_of([LoadRequest(b"[[1]]")]), PLAN)
    return shared


def test_the_policy_and_the_queue_bound_are_in_force_and_the_plan_still_holds(planned: Installation) -> None:
    planned.ok("plan", "planned", "--show", "--write-policy")
    with Client(home=planned.home) as client:
        scaling = client.scaling("planned").scaling
        serving = [version for version in client.versions("planned") if version.weight]
    assert scaling is not None
    assert (scaling["maxReplicas"], scaling["triggers"][0]["target"]) == (2, 45.6)
    assert [(version.name, version.spec["server"]["maxQueue"]) for version in serving] == [("v2", 46)]
    told = planned.ok("plan", "planned", "--show", "-o", "json").json()
    assert told["stale"] == []
    assert told["basis"]["version"] == "v2"
    assert "measured with v1" in told["document"]["notes"][-1]
    planned.ok("plan", "planned", "--show", "--write-policy")
    with Client(home=planned.home) as client:
        assert len(client.versions("planned")) == 2, "what is so already is left alone"


def test_a_policy_is_replayed_from_the_query_log(planned: Installation) -> None:
    with Client(home=planned.home) as client:
        for _ in range(30):
            client.predict("planned", b"[[1]]")

    def logged() -> bool:
        with Client(home=planned.home) as client:
            return len(list(client.records("planned", since="5m"))) >= 30

    wait_until(logged)
    (planned.scratch / "lean.yaml").write_text("minReplicas: 1\nmaxReplicas: 2\ntriggers: [{type: rps, target: 9}]\n")
    asked = ("simulate", "planned", "--since", "5m", "--policy", str(planned.scratch / "lean.yaml"), "-o", "json")
    told = planned.ok(*asked).json()
    assert told["requests"] >= 30
    assert [one["name"] for one in told["policies"]] == ["now", "lean"]
    assert 0 < told["replica"]["work_s"] < 10
    assert told["replica"]["start_s"] > 0, "as the events tell"
    assert any("query log's" in note for note in told["notes"])
    assert all(one["figures"]["count"] == told["requests"] for one in told["policies"])
