"""Shares, pinned routes, stickiness and shadows, through the real gateway."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.calls import Caller, shares
from tests.installation import Installation
from tests.waiting import wait_until

CODE = "def predict(X):\n    return [[{n}] for _ in X]\n"


@pytest.fixture(scope="module")
def split(shared: Installation) -> Iterator[Installation]:
    """Model ``split`` with three running versions."""
    folder = shared.scratch / "split"
    folder.mkdir(exist_ok=True)
    for number in (1, 2, 3):
        (folder / "model.py").write_text(CODE.format(n=number))
        shared.ok("deploy", str(folder), *(["--canary", "10%"] if number > 1 else []))
    yield shared
    shared.ok("delete", "split", "--yes")


def within_5_sigma(seen: Counter[str], weights: dict[str, int]) -> None:
    """Of binomial shares: a wrong alarm in a million runs, where 3 would be one in every hundred."""
    total = seen.total()
    for version, weight in weights.items():
        share = weight / 100
        sigma = math.sqrt(total * share * (1 - share))
        assert abs(seen[version] - total * share) <= 5 * sigma, (seen, weights)
    assert set(seen) <= {v for v, w in weights.items() if w}


@pytest.mark.parametrize(
    ("weights", "count"),
    [
        ({"v1": 90, "v2": 10}, 10_000),
        ({"v1": 0, "v2": 100}, 1_000),
        ({"v1": 50, "v2": 50}, 5_000),
        ({"v1": 60, "v2": 30, "v3": 10}, 5_000),
    ],
    ids=["90-10", "0-100", "50-50", "60-30-10"],
)
def test_shares_are_what_was_asked_for(split: Installation, weights: dict[str, int], count: int) -> None:
    split.ok("traffic", "split", *(f"{v}={w}" for v, w in weights.items()))
    wait_until(
        lambda: {a["version"]: a["weight"] for a in split.ok("status", "split", "-o", "json").json()["live"]} == weights
    )
    within_5_sigma(shares(split.data_url, "/models/split/predict", count), weights)
    for version in weights:
        assert shares(split.data_url, f"/models/split/versions/{version}/predict", 50) == {version: 50}


def test_promote_and_rollback(split: Installation) -> None:
    split.ok("traffic", "split", "v1=90", "v2=10")
    split.ok("promote", "split")
    wait_until(lambda: shares(split.data_url, "/models/split/predict", 20) == {"v2": 20})


def test_the_same_user_meets_the_same_version(shared: Installation) -> None:
    folder = shared.scratch / "sticky"
    folder.mkdir(exist_ok=True)
    head = "apiVersion: headway.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: sticky}\n"
    spec = head + "spec:\n  sticky: {header: X-User}\n"
    for number in (1, 2):
        (folder / "model.py").write_text(CODE.format(n=number))
        (folder / "headway.yaml").write_text(spec)
        shared.ok("deploy", str(folder), *(["--canary", "50%"] if number > 1 else []))
    both = set()
    for user in range(40):
        seen = shares(shared.data_url, "/models/sticky/predict", 5, X_User=f"user-{user}")
        assert len(seen) == 1
        both |= set(seen)
    assert both == {"v1", "v2"}
    shared.ok("delete", "sticky", "--yes")


def test_a_shadow_gets_copies_and_its_answers_are_thrown_away(shared: Installation) -> None:
    folder = shared.scratch / "shadowed"
    folder.mkdir(exist_ok=True)
    trace = shared.scratch / "shadow-trace"
    code = (
        f"seen = open({str(trace)!r} + '-NUMBER', 'a', buffering=1)\n"
        "def predict(X):\n"
        "    for _ in X:\n"
        "        seen.write('row\\n')\n"
        "    return [[NUMBER] for _ in X]\n"
    )
    spec = {
        "apiVersion": "headway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": "shadowed"},
        "spec": {},
    }
    (folder / "model.py").write_text(code.replace("NUMBER", "1"))
    (folder / "headway.yaml").write_text(json.dumps(spec))
    shared.ok("deploy", str(folder))
    (folder / "model.py").write_text(code.replace("NUMBER", "2"))
    (folder / "headway.yaml").write_text(json.dumps({**spec, "spec": {"shadow": {"version": "v2"}}}))
    shared.ok("deploy", str(folder))
    wait_until(
        lambda: (
            {v["name"]: v["state"] for v in shared.ok("versions", "shadowed", "-o", "json").json()}
            == {"v1": "live", "v2": "live"}
        )
    )
    assert shares(shared.data_url, "/models/shadowed/predict", 50) == {"v1": 50}
    shadow = Path(f"{trace}-2")
    wait_until(lambda: shadow.exists() and shadow.read_text().count("\n") >= 50, what="50 copies")
    shared.ok("delete", "shadowed", "--yes")


def test_a_replica_that_dies_costs_no_request(shared: Installation, write_model: Callable[..., Path]) -> None:
    code = "import time\ndef predict(X):\n    time.sleep(0.01)\n    return [[1] for _ in X]\n"
    shared.ok("deploy", str(write_model("mortal", code)))
    shared.ok("scale", "mortal", "2")
    status = wait_until(lambda: (s := shared.ok("status", "mortal", "-o", "json").json())["ready_replicas"] == 2 and s)
    victim = status["replica_list"][0]["pid"]
    call = Caller(shared.data_url)
    for number in range(200):
        if number == 20:
            shared.kill(next(p for p in shared.processes() if p.pid == victim))
        assert call("/models/mortal/predict").status == 200
    wait_until(lambda: shared.ok("status", "mortal", "-o", "json").json()["ready_replicas"] == 2)
    call.close()
    shared.ok("delete", "mortal", "--yes")
