"""A deployment that scales keeps a process per version that has loaded the model; its replicas are forks of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psutil

from headway.adapters.local.adoption import scan
from headway.client import Client
from headway.server.template_wire import key_of
from tests.e2e.calls import Caller
from tests.installation import Installation
from tests.waiting import wait_until

CODE = """
import os
print("loading prints", flush=True)
LOADED_BY = os.getpid()
def predict(X):
    return [[LOADED_BY, os.getpid()] for _ in X]
"""
SPEC = """
apiVersion: headway.dev/v1alpha1
kind: ModelDeployment
metadata: {name: warm}
spec:
  scaling:
    minReplicas: 2
    maxReplicas: 4
    triggers: [{type: concurrency, target: 100}]
"""


def replicas(running: Installation) -> dict[int, str]:
    """Process and phase of each."""
    with Client(home=running.home) as client:
        return {r.pid: r.phase for r in client.get("warm").replica_list if r.pid is not None}


def both_ready(running: Installation) -> bool:
    return list(replicas(running).values()) == ["ready", "ready"]


def template_pids(running: Installation) -> set[int]:
    return {p.pid for p in scan(running.home) if p.leads and key_of(p.replica_id) is not None}


def test_replicas_of_an_elastic_deployment_are_forks(running: Installation, write_model: Callable[..., Path]) -> None:
    running.ok("deploy", str(write_model("warm", CODE, spec=SPEC)))
    wait_until(lambda: both_ready(running), what="two replicas ready")
    (template,) = template_pids(running)
    before = replicas(running).keys()
    assert {psutil.Process(pid).ppid() for pid in before} == {template}
    call = Caller(running.data_url)
    answers = [call("/models/warm/predict", "[[1]]").json()["predictions"][0] for _ in range(8)]
    assert {loaded_by for loaded_by, _ in answers} == {template}
    assert {pid for _, pid in answers} == before
    assert "loading prints" in running.ok("logs", "warm").text

    # The control plane goes and comes: template and replicas are the same, and still parent and children.
    with Client(home=running.home) as client:
        running.kill(psutil.Process(client.info().pid))
    assert call("/models/warm/predict", "[[1]]").status == 200
    running.up()
    wait_until(lambda: replicas(running).keys() == before, what="the same replicas")
    assert template_pids(running) == {template}

    # A replica that is killed comes back as a fork; with its template killed, replicas go on and others come.
    running.kill(psutil.Process(min(before)))
    wait_until(lambda: both_ready(running), what="two replicas again")
    assert {psutil.Process(pid).ppid() for pid in replicas(running)} == {template}
    running.kill(psutil.Process(template))
    assert call("/models/warm/predict", "[[1]]").status == 200
    wait_until(lambda: template_pids(running) - {template}, what="a new template")
    assert both_ready(running)
    call.close()

    with Client(home=running.home) as client:
        client.delete("warm")
