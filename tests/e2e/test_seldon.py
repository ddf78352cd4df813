"""SeldonDeployments run as they are written, and answer Seldon's protocol under Seldon's own paths."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from headway.client import Client
from tests.e2e.calls import Caller
from tests.installation import Installation
from tests.waiting import PortPicker, wait_until

DOCUMENTS = Path(__file__).parents[1] / "documents" / "seldon"
SOUND = """
class Iris:
    def predict(self, X, features_names=None):
        return [[row[0] / 10, 1 - row[0] / 10] for row in X]
    def class_names(self):
        return ["setosa", "other"]
    def health_status(self):
        return "blooming"
"""
STEP = (
    "import os\nSTEP = int(os.environ.get('STEP', '1'))\n"
    """
class Step:
    def predict(self, X, names):
        return [[row[0] + STEP] for row in X]
"""
)
ADD = """
class Add:
    def predict(self, X, names=None):
        return X + 1
"""
MOST = """
class Most:
    def aggregate(self, features_list, feature_names_list):
        return sum(features_list)
"""
SCALE = """
class Scale:
    def __init__(self, factor=1.0):
        assert isinstance(factor, float)
        self.factor = factor
    def transform_input(self, X, names, meta=None):
        return X * self.factor
    def tags(self):
        return {"scaled": self.factor}
"""
BANDIT = """
class Bandit:
    def __init__(self, start=None):
        self.choice = start
    def route(self, features, feature_names):
        return self.choice
    def send_feedback(self, features, feature_names, reward, truth, routing=None):
        if reward == 0:
            self.choice = 1 - routing
"""
SHOUT = """
class Shout:
    def transform_output(self, X, names=None):
        return [[f"{row[0]:g}!"] for row in X]
"""


@pytest.fixture(scope="module")
def headway(free_port: PortPicker) -> Any:
    """A started Headway, with the documents and their folders in its scratch folder."""
    from tests.installation import module_installation

    with module_installation(free_port) as found:
        for document in DOCUMENTS.glob("*.yaml"):
            shutil.copy(document, found.scratch)
        folders = {
            "iris": ("Iris.py", SOUND), "step": ("model.py", STEP), "add": ("model.py", ADD),
            "most": ("model.py", MOST), "scale": ("model.py", SCALE), "bandit": ("model.py", BANDIT),
            "shout": ("model.py", SHOUT),
        }  # fmt: skip
        for name, (file, code) in folders.items():
            (found.scratch / name).mkdir(exist_ok=True)
            (found.scratch / name / file).write_text(code)
        (found.scratch / "iris" / ".s2i").mkdir(exist_ok=True)
        (found.scratch / "iris" / ".s2i" / "environment").write_text("MODEL_NAME=Iris\nSERVICE_TYPE=MODEL\n")
        yield found


@pytest.fixture
def call(headway: Installation) -> Any:
    caller = Caller(headway.data_url)
    yield caller
    caller.close()


def seldon(call: Caller, name: str, rows: list[list[float]], path: str = "predictions", **more: Any) -> Any:
    body = {"data": {"ndarray": rows}, **more}
    reply = call(f"/seldon/models/{name}/api/v1.0/{path}", json.dumps(body))
    assert reply.status == 200, reply.body
    return reply.json()


def test_iris_with_probes_and_a_keda_trigger(headway: Installation, call: Caller) -> None:
    refused = headway.run("apply", "-f", "iris.yaml")
    assert refused.code == 6
    for words in (
        "the image registry.example.com/flowers/iris:0.1 cannot run here",
        "iris.yaml:28:17: spec.predictors[0].componentSpecs[0].spec.containers[0].image",
        "--model classifier=DIR",
    ):
        assert words in refused.stderr, refused
    applied = headway.ok("apply", "-f", "iris.yaml", "--model", "flowers/iris=iris", "-o", "json")
    assert applied.json()["version"] == "v1"
    answer = seldon(call, "iris", [[5.0, 3.0], [1.0, 2.0]])
    assert answer["data"] == {"names": ["setosa", "other"], "ndarray": [[0.5, 0.5], [0.1, 0.9]]}
    assert answer["meta"]["requestPath"] == {"iris": "iris:v1"}
    assert answer["meta"]["puid"]
    with Client(home=headway.home) as client:
        spec = client.spec("iris")["spec"]
    assert spec["probes"]["readiness"]["path"] == "/health/status"
    assert [trigger["type"] for trigger in spec["scaling"]["triggers"]] == ["prometheus"]

    # What convert prints is the same thing: applied, it changes nothing.
    converted = headway.ok("convert", "-f", "iris.yaml", "--model", "classifier=iris").stdout
    assert converted.startswith("# spec.predictors[0]")
    (headway.scratch / "converted.yaml").write_text(converted)
    assert "unchanged" in headway.ok("apply", "-f", "converted.yaml").stdout
    assert "no changes" in headway.ok("diff", "-f", "iris.yaml", "--model", "classifier=iris").stdout


def test_a_canary_and_feedback_that_finds_its_version(headway: Installation, call: Caller) -> None:
    joblib = pytest.importorskip("joblib")
    linear = pytest.importorskip("sklearn.linear_model")
    for name, sign in (("main", 1), ("canary", -1)):
        (headway.scratch / name).mkdir(exist_ok=True)
        fitted = linear.LogisticRegression().fit(
            [[-2.0], [-1.0], [1.0], [2.0]], [sign > 0, sign > 0, sign < 0, sign < 0]
        )
        joblib.dump(fitted, headway.scratch / name / "model.joblib")
    applied = headway.ok("apply", "-f", "canary.yaml", "-o", "json").json()
    assert applied["versions"] == ["v1", "v2"]
    assert applied["version"] == "v1"
    with Client(home=headway.home) as client:
        assert [(arm.version, arm.weight) for arm in client.get("traffic").live] == [("v1", 75), ("v2", 25)]
    seen: Counter[str] = Counter()
    for _ in range(60):
        answer = seldon(call, "traffic", [[2.0]])
        (version,) = set(answer["meta"]["requestPath"].values())
        seen[version] += 1
        assert (answer["data"]["ndarray"][0][0] > 0.5) == (version == "traffic:v1")
        feedback = {"request": {"data": {"ndarray": [[2.0]]}}, "response": answer, "reward": 1}
        reply = call("/seldon/models/traffic/api/v1.0/feedback", json.dumps(feedback))
        assert (reply.status, reply.json()) == (200, {"meta": {"puid": answer["meta"]["puid"]}})
    assert 25 < seen["traffic:v1"] < 60

    def counted() -> dict[str, float]:
        found = {}
        for version in ("v1", "v2"):
            page = call(f"/models/traffic/versions/{version}/metrics", None).body.decode()
            lines = [line for line in page.splitlines() if line.startswith("seldon_api_model_feedback_total")]
            found[f"traffic:{version}"] = float(lines[0].rpartition(" ")[2])
        return found

    wait_until(lambda: counted() == dict(seen), what="every feedback counted for the version that had answered")
    again = headway.ok("apply", "-f", "canary.yaml")
    assert "unchanged" in again.stdout


def test_a_shadow_gets_copies(headway: Installation, call: Caller) -> None:
    headway.ok("apply", "-f", "shadow.yaml", "--model", "step=step")
    with Client(home=headway.home) as client:
        view = client.get("shadowed")
    assert view.shadow is not None
    assert (view.shadow.version, view.shadow.percent) == ("v2", 100)
    for _ in range(5):
        assert seldon(call, "shadowed", [[1.0]])["data"]["ndarray"] == [[2.0]]

    def copies() -> bool:
        page = call("/models/shadowed/versions/v2/metrics", None).body.decode()
        return 'route="/api/v1.0/predictions",status="200"} 5' in page

    wait_until(copies, what="five copies for the shadow")


def test_a_graph_routes_learns_and_says_so(headway: Installation, call: Caller) -> None:
    folders = {"shout": "shout", "scale": "scale", "bandit": "bandit", "org/add": "add", "both": "most"}
    models = [text for name, folder in folders.items() for text in ("--model", f"{name}={folder}")]
    headway.ok("apply", "-f", "graph.yaml", *models)
    answer = seldon(call, "graph", [[1.0], [2.0]])
    assert answer["data"]["ndarray"] == [["11!"], ["21!"]]
    assert answer["meta"]["routing"] == {"bandit": 0}
    assert list(answer["meta"]["requestPath"]) == ["shout", "scale", "bandit", "first"]
    assert answer["meta"]["tags"] == {"scaled": 10.0}
    feedback = {"request": {"data": {"ndarray": [[1.0]]}}, "response": answer, "reward": 0}
    assert call("/models/graph/api/v1.0/feedback", json.dumps(feedback)).status == 200
    learned = seldon(call, "graph", [[1.0]])
    assert learned["data"]["ndarray"] == [["22!"]]
    assert list(learned["meta"]["requestPath"]) == ["shout", "scale", "bandit", "both", "left", "right"]
    assert call("/models/graph/predict", "[[3]]").json() == {"predictions": [["62!"]]}
