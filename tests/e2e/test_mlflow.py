"""A model on a real MLflow server becomes a version of Headway, by URI and by MLflow's own command line."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from headway.client import Client
from tests.e2e.calls import Caller
from tests.installation import Installation
from tests.services import mlflow_calls
from tests.services.process import ServiceProcess
from tests.waiting import PortPicker

# One server, one control plane and one environment of packages for all of them.
pytestmark = [pytest.mark.xdist_group("mlflow"), pytest.mark.timeout(1500), pytest.mark.needs_network]
IRIS = "iris flowers"
PAIR = "apiVersion: headway.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: pair}\nspec:\n"


class MlflowServer(ServiceProcess):
    """A tracking server on SQLite that hands out artifacts itself."""

    uri: str

    def call(self, name: str, *arguments: Any, env: dict[str, str] | None = None) -> Any:
        """A function of :mod:`tests.services.mlflow_calls` in a process that marks itself as this server's."""
        done = subprocess.run(
            [sys.executable, "-W", "ignore", mlflow_calls.__file__, name, json.dumps(arguments)],
            env={"PATH": "/usr/bin:/bin", "TMPDIR": str(self.folder / "tmp"), "MLFLOW_DISABLE_TELEMETRY": "true"}
            | {"HOME": str(self.folder), "PYTHONPATH": str(Path(__file__).parents[2]), **(env or {})},
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=900,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-4000:] + self.log()[-2000:]
        return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def mlflow(free_port: PortPicker) -> Iterator[MlflowServer]:
    server = MlflowServer("MLflow")
    port = free_port()
    server.uri = f"http://127.0.0.1:{port}"
    store = [f"sqlite:///{server.folder}/mlflow.db", "--artifacts-destination", str(server.folder / "artifacts")]
    command = [str(Path(sys.executable).with_name("mlflow")), "server", "--workers", "1", "--serve-artifacts"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}

    def answers() -> bool:
        try:
            return httpx.get(f"{server.uri}/health", trust_env=False, timeout=5).status_code == 200
        except httpx.TransportError:
            return False

    try:
        server.run(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--backend-store-uri", *store],
            answers,
            env={"HOME": str(server.folder), **quiet},
            timeout_s=240,
        )
        yield server
    finally:
        server.remove()


@pytest.fixture(scope="module")
def logged(mlflow: MlflowServer) -> list[dict[str, Any]]:
    """Two registered versions; the alias ``champion`` is the second."""
    found: list[dict[str, Any]] = mlflow.call("log_iris", mlflow.uri, IRIS, [1.0, 0.01])
    return found


def test_a_registered_model_is_deployed_by_alias_and_upgraded(
    shared: Installation, mlflow: MlflowServer, logged: list[dict[str, Any]]
) -> None:
    first, second = logged
    shared.env["MLFLOW_TRACKING_URI"] = mlflow.uri
    mlflow.call("set_alias", mlflow.uri, IRIS, "champion", "1")
    said = shared.ok("deploy", f"models:/{IRIS}@champion", timeout_s=500).text
    assert "iris-flowers v1 serves" in said
    assert "sepal length (cm)" in said, "the line to try it with shows the input example"
    call, path = Caller(shared.data_url), "/models/iris-flowers"

    # The same answers as scikit-learn's, whatever the format.
    names = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
    rows, expected = first["rows"], [pytest.approx(answer) for answer in first["answers"]]
    bodies = {
        "/predict": rows,
        "/invocations": {"dataframe_split": {"columns": names, "data": rows}},
        "/api/v1.0/predictions": {"data": {"names": names, "ndarray": rows}},
    }
    answers = {where: call(path + where, json.dumps(body)).json() for where, body in bodies.items()}
    assert answers["/predict"]["predictions"] == expected
    assert answers["/invocations"]["predictions"] == expected
    assert answers["/api/v1.0/predictions"]["data"]["ndarray"] == expected
    columns = [
        {"name": name, "shape": [len(rows)], "datatype": "FP64", "data": [row[place] for row in rows]}
        for place, name in enumerate(names)
    ]
    inferred = call(f"{path}/v2/models/iris-flowers/infer", json.dumps({"inputs": columns})).json()
    assert inferred["outputs"][0]["data"] == pytest.approx([one for row in first["answers"] for one in row])

    # Signature and input example are the model's schema and its sample.
    described = call(f"{path}/openapi.json", method="GET").json()["components"]["schemas"]["Rows"]["oneOf"]
    assert described[1]["items"]["required"] == names
    told = call(f"{path}/v2/models/iris-flowers", method="GET").json()["inputs"]
    assert [(one["name"], one["datatype"]) for one in told] == [(name, "FP64") for name in names]
    with Client(home=shared.home) as client:
        sample = json.loads(client.sample("iris-flowers"))
        assert len(sample) == 2
        assert list(sample[0]) == names
    refused = call(f"{path}/predict", json.dumps([{names[0]: 1}]))
    assert (refused.status, refused.code) == (400, "invalid_request")

    # The next version, by the same command.
    mlflow.call("set_alias", mlflow.uri, IRIS, "champion", "2")
    shared.ok("deploy", f"models:/{IRIS}@champion", timeout_s=200)
    after = call(f"{path}/predict", json.dumps(second["rows"])).json()["predictions"]
    assert after == [pytest.approx(answer) for answer in second["answers"]]
    call.close()
    v1, v2 = shared.ok("versions", "iris-flowers", "-o", "json").json()
    source = {"uri": f"models:/{IRIS}@champion", "tracking_uri": mlflow.uri}
    assert v1["source"] == {**source, "resolved": f"models:/{IRIS}/1", "run_id": first["run"]}
    assert v2["source"] == {**source, "resolved": f"models:/{IRIS}/2", "run_id": second["run"]}
    assert v1["lock_digest"] == v2["lock_digest"] is not None, "both share one environment"
    assert f"models:/{IRIS}/2" in shared.ok("versions", "iris-flowers").stdout

    # What a run logged is the same model, however it is called.
    by_run = ("deploy", f"runs:/{second['run']}/classifier", "--name", "iris-flowers")
    assert "unchanged" in shared.ok(*by_run, "--tracking-uri", mlflow.uri).text
    shared.ok("delete", "iris-flowers", "--yes")


def test_two_registered_versions_share_the_traffic(
    shared: Installation, mlflow: MlflowServer, logged: list[dict[str, Any]], scratch: Path
) -> None:
    shared.env["MLFLOW_TRACKING_URI"] = mlflow.uri
    uris = [f"models:/{IRIS}/{one['version']}" for one in logged]
    arms = zip(uris, (75, 25), strict=True)
    file = scratch / "pair.yaml"
    file.write_text("---\n".join(f'{PAIR}  model: {{path: "{uri}"}}\n  arm: {{weight: {n}}}\n' for uri, n in arms))
    shared.ok("apply", "-f", str(file), timeout_s=500)
    versions = shared.ok("versions", "pair", "-o", "json").json()
    assert [(one["source"]["uri"], one["weight"]) for one in versions] == [(uris[0], 75), (uris[1], 25)]
    shared.ok("delete", "pair", "--yes")


def test_mlflows_own_commands_create_update_predict_and_delete(
    shared: Installation, mlflow: MlflowServer, logged: list[dict[str, Any]], scratch: Path
) -> None:
    rows = scratch / "rows.json"
    names = ["sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)"]
    rows.write_text(json.dumps([dict(zip(names, row, strict=True)) for row in logged[0]["rows"]]))
    name, target = ["--name", "flowers"], ["-t", f"headway://127.0.0.1:{shared.control_port}"]
    first, second = (["-m", f"models:/{IRIS}/{one['version']}"] for one in logged)
    calls: dict[str, list[str]] = {
        "help": ["help", *target],
        "create": ["create", *target, *name, *first, "-C", "server.timeout=10s"],
        "again": ["create", *target, *name, *first],
        "list": ["list", *target],
        "predict": ["predict", *target, *name, "-I", str(rows)],
        "update": ["update", *target, *name, *second],
        "predict the second": ["predict", *target, *name, "-I", str(rows)],
        "configure": ["update", *target, *name, "-C", "replicas=2", "-C", "resources.memory=2Gi"],
        "get": ["get", *target, *name],
        "explain": ["explain", *target, *name, "-I", str(rows)],
        "misspelt": ["update", *target, *name, "-C", "resources.memori=2Gi"],
        "nothing": ["update", *target, *name],
        "flavor": ["create", *target, "--name", "other", *first, "-f", "sklearn"],
        "endpoint": ["get", *target, *name, "--endpoint", "e"],
        "delete": ["delete", *target, *name],
        "delete again": ["delete", *target, *name],
        "gone": ["get", *target, *name],
    }
    env = {"MLFLOW_TRACKING_URI": mlflow.uri, "HEADWAY_HOME": str(shared.home)}
    found = mlflow.call("command_line", *[["deployments", *call] for call in calls.values()], env=env)
    said = dict(zip(calls, found, strict=True))

    done = ("help", "create", "list", "predict", "update", "predict the second", "configure", "get", "delete")
    for what in (*done, "delete again"):
        assert said[what]["code"] == 0, (what, said[what])
    assert "headway://HOST:PORT" in said["help"]["out"]
    assert "python_function deployment flowers is created" in said["create"]["out"]
    assert "'name': 'flowers'" in said["list"]["out"]
    for what, version in (("predict", logged[0]), ("predict the second", logged[1])):
        answers = json.loads(said[what]["out"])["predictions"]
        # The second was fitted to the same flowers; the rows are those of the first.
        assert (answers == [pytest.approx(answer) for answer in version["answers"]]) is True
    assert "state: ready" in said["get"]["out"]
    assert "ready_replicas: 2" in said["get"]["out"]
    assert f"models:/{IRIS}/2" in said["get"]["out"], "another config of it is the same model"
    refusals = {
        "again": "there is a deployment flowers already",
        "explain": "Headway does not explain predictions",
        "misspelt": "memori",
        "nothing": "there is nothing to update",
        "flavor": "not by sklearn",
        "endpoint": "Headway has no endpoints",
        "gone": "flowers",
    }
    for what, words in refusals.items():
        assert said[what]["code"] == 1, (what, said[what])
        assert words in said[what]["err"]
        assert "Traceback" not in said[what]["err"]


def test_what_the_server_does_not_have_is_told(mlflow: MlflowServer, logged: list[dict[str, Any]]) -> None:
    run = logged[0]["run"]
    nobody = "http://user:secret@127.0.0.1:1"  # no ordinary process may listen there
    cases: dict[str, tuple[str, str | None]] = {
        "latest": (f"models:/{IRIS}/latest", mlflow.uri),
        "no server named": (f"models:/{IRIS}/1", None),
        "no model": ("models:/nothing/1", mlflow.uri),
        "no version": (f"models:/{IRIS}/99", mlflow.uri),
        "no alias": (f"models:/{IRIS}@rival", mlflow.uri),
        "no stage": (f"models:/{IRIS}/Production", mlflow.uri),
        "no run": (f"runs:/{'0' * 32}/classifier", mlflow.uri),
        "no artifact": (f"runs:/{run}/other", mlflow.uri),
        "silent": (f"models:/{IRIS}/1", nobody),
    }
    found = dict(zip(cases, mlflow.call("fetch", *cases.values()), strict=True))
    assert found["latest"] == {"name": IRIS, "resolved": f"models:/{IRIS}/2", "run": logged[1]["run"]}
    assert found["no server named"]["code"] == "invalid_input"
    assert "MLFLOW_TRACKING_URI" in found["no server named"]["hint"]
    missing = {what: answer for what, answer in found.items() if answer.get("code") == "source_not_found"}
    assert set(missing) == {"no model", "no version", "no alias", "no stage", "no run", "no artifact"}, found
    assert found["silent"]["code"] == "source_failed"
    assert "does not answer" in found["silent"]["message"]
    assert "secret" not in str(found["silent"])
