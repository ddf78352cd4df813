"""The model server as a container's one process: started as a Deployment starts it, with places of the test's own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from headway.cluster.names import model_owner
from headway.cluster.render import render_model
from headway.cluster.versions import described
from headway.domain.routing_table import Arm
from headway.domain.spec import parse
from tests.waiting import PATIENCE_S, PortPicker, wait_until

MODEL = "def predict(X):\n    return [sum(row) for row in X]\n"


def environment() -> dict[str, str]:
    """As the container of a rendered Deployment has it."""
    kinds = {"apiVersion": "headway.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "iris"}}
    document = parse({**kinds, "spec": {"server": {"workers": 2}, "kubernetes": {"image": "iris:1"}}})
    version = described(document, ())
    objects = render_model(document, [version], (Arm("v1", 100),), model_owner("iris", "models"))
    [deployment] = [one for one in objects if one["kind"] == "Deployment"]
    entries = deployment["spec"]["template"]["spec"]["containers"][0]["env"]
    return {one["name"]: one["value"].replace("$$", "$") for one in entries if "value" in one}


@pytest.mark.parametrize("workers", [1, 2])
def test_it_serves_as_the_deployment_says_and_drains_when_told_to_stop(
    scratch: Path, free_port: PortPicker, workers: int
) -> None:
    port = free_port()
    scratch.joinpath("model.py").write_text(MODEL)
    said = environment()
    config = json.loads(said["HEADWAY_SERVER_CONFIG"])
    config["options"]["workers"] = workers
    places = {"bundle_path": str(scratch), "listen": f"tcp:127.0.0.1:{port}"}
    said |= {
        "HEADWAY_SERVER_CONFIG": json.dumps({**config, **places}),
        "HEADWAY_REPLICA": "iris-v1-x7k2p",
        "HOME": str(scratch),
        "TMPDIR": str(scratch),
    }
    process = subprocess.Popen([sys.executable, "-m", "headway.server"], env={**os.environ, **said}, cwd=scratch)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=PATIENCE_S) as client:
            wait_until(lambda: _ready(client))
            answer = client.post("/predict", json=[[1, 2]])
            assert answer.json() == {"predictions": [3.0]}
            assert (answer.headers["x-headway-version"], answer.headers["x-headway-replica"]) == ("v1", "iris-v1-x7k2p")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


def _ready(client: httpx.Client) -> bool:
    try:
        return client.get("/health/ready").status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("said", ["{", '{"model": "iris"}', '{"model": "iris", "fly": true}'])
def test_a_config_that_is_none_ends_it_at_once(said: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "headway.server"],
        env={**os.environ, "HEADWAY_SERVER_CONFIG": said},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith("headway.server: HEADWAY_SERVER_CONFIG: ")
    assert "Traceback" not in ended.stderr
