"""The main job: a folder becomes an API, is changed, and goes away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.calls import Caller
from tests.installation import Installation
from tests.waiting import wait_until

DOUBLE = "def predict(X):\n    return [[2 * value for value in row] for row in X]\n"
TRIPLE = DOUBLE.replace("2", "3")
WriteModel = Callable[..., Path]


def test_a_folder_becomes_a_versioned_api(running: Installation, write_model: WriteModel) -> None:
    folder = write_model("double", DOUBLE)
    (folder / "sample.json").write_text("[[1, 2]]")
    deployed = running.ok("deploy", str(folder))
    for word in ("bundle", "start", "ready", "route", "curl", "/models/double/predict"):
        assert word in deployed.text, deployed
    call = Caller(running.data_url)
    reply = call("/models/double/predict", "[[1, 2], [3, 4]]", X_Request_Id="my-id")
    assert reply.status == 200, reply.body
    assert reply.json() == {"predictions": [[2, 4], [6, 8]]}
    assert reply.version == "v1"
    assert reply.headers["x-headway-replica"].startswith("double-v1-")
    assert reply.headers["x-request-id"] == "my-id"
    assert json.loads(running.ok("predict", "double", "-d", "[[5, 6]]", "-o", "json").stdout)["predictions"] == [
        [10, 12]
    ]

    again = running.ok("deploy", str(folder))
    assert "unchanged" in again.text

    write_model("double", TRIPLE)
    running.ok("deploy", str(folder))
    assert call("/models/double/predict", "[[1]]").json() == {"predictions": [[3]]}
    versions = {v["name"]: v for v in running.ok("versions", "double", "-o", "json").json()}
    assert versions["v2"]["weight"] == 100
    wait_until(
        lambda: running.ok("versions", "double", "-o", "json").json()[0]["state"] == "retired", 20, what="v1 retired"
    )
    assert call("/models/double/versions/v1/predict", "[[1]]").code == "version_not_found"

    rolled_back = running.ok("rollback", "double")
    assert "v1" in rolled_back.text
    wait_until(lambda: call("/models/double/predict", "[[1]]").json() == {"predictions": [[2]]}, what="v1 again")

    running.ok("delete", "double", "--yes")
    wait_until(lambda: running.ok("list", "-o", "json").json() == [], what="the model gone")
    assert call("/models/double/predict", "[[1]]").code == "model_not_found"
    call.close()

    events = [e["type"] for e in running.ok("events", "-o", "json").json()]
    for told in (
        "version_created.v1",
        "replica_ready.v1",
        "traffic_shifted.v1",
        "version_retired.v1",
        "deployment_deleted.v1",
    ):
        assert told in events


def test_init_makes_a_folder_that_deploys(running: Installation) -> None:
    running.ok("init", "hello")
    running.ok("deploy", "hello")
    assert running.ok("predict", "hello", "-d", "@hello/sample.json").code == 0
    refused = running.run("init", "hello")
    assert refused.code != 0
    assert "hello" in refused.stderr


def test_scale_and_logs(running: Installation, write_model: WriteModel) -> None:
    running.ok("deploy", str(write_model("chatty", "print('loaded', flush=True)\n" + DOUBLE)))
    running.ok("scale", "chatty", "3")
    status = wait_until(lambda: (s := running.ok("status", "chatty", "-o", "json").json())["ready_replicas"] == 3 and s)
    assert len({r["pid"] for r in status["replica_list"]}) == 3
    call = Caller(running.data_url)
    seen = {call("/models/chatty/predict", "[[1]]").headers["x-headway-replica"] for _ in range(60)}
    assert len(seen) == 3
    assert running.ok("logs", "chatty").stdout.count("| loaded\n") == 3
    running.ok("scale", "chatty", "1")
    wait_until(lambda: len(running.ok("status", "chatty", "-o", "json").json()["replica_list"]) == 1)
    assert call("/models/chatty/predict", "[[1]]").status == 200
    call.close()


SPEC = """
apiVersion: headway.dev/v1alpha1
kind: ModelDeployment
metadata: {name: declared}
spec:
  env: [{name: FACTOR, value: "7"}]
  resources: {memory: 512Mi}
  scaling: {minReplicas: 2}
"""
FACTOR = "import os\ndef predict(X):\n    return [[int(os.environ['FACTOR']) * v for v in row] for row in X]\n"


def test_a_declared_deployment_is_applied_and_compared(running: Installation, write_model: WriteModel) -> None:
    folder = write_model("declared", FACTOR, spec=SPEC)
    file = str(folder / "headway.yaml")
    assert "declared" in running.ok("diff", "-f", file).text
    running.ok("apply", "-f", file)
    call = Caller(running.data_url)
    assert call("/models/declared/predict", "[[1]]").json() == {"predictions": [[7]]}
    assert running.ok("status", "declared", "-o", "json").json()["ready_replicas"] == 2
    assert running.ok("diff", "-f", file, "-o", "json").json()["changes"] == []
    (folder / "headway.yaml").write_text(SPEC.replace('"7"', '"8"').replace("minReplicas: 2", "minReplicas: 1"))
    paths = {c["path"] for c in running.ok("diff", "-f", file, "-o", "json").json()["changes"]}
    assert "spec.scaling.minReplicas" in paths
    assert any(path.startswith("spec.env") for path in paths)
    running.ok("apply", "-f", file)
    assert call("/models/declared/predict", "[[1]]").json() == {"predictions": [[8]]}
    call.close()


@pytest.mark.needs_network
@pytest.mark.slow
def test_requirements_are_installed_once_per_lock(running: Installation, write_model: WriteModel) -> None:
    code = "import iniconfig\ndef predict(X):\n    return [[len(row)] for row in X]\n"
    folder = write_model("needy", code, requirements="iniconfig\n")
    running.ok("deploy", str(folder), timeout_s=120)
    events = running.ok("events", "--model", "needy", "-o", "json").json()
    built = [e["data"]["cached"] for e in events if e["type"] == "version_environment_ready.v1"]
    assert built == [False]
    write_model("needy", code + "\n# changed\n", requirements="iniconfig\n")
    running.ok("deploy", str(folder), timeout_s=120)
    events = running.ok("events", "--model", "needy", "-o", "json").json()
    built = [e["data"]["cached"] for e in events if e["type"] == "version_environment_ready.v1"]
    assert built == [False, True]
