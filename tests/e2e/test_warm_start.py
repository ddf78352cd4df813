"""A deployment that scales keeps a process per version that has loaded the model; its replicas are forks of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from headway.adapters.local.adoption import scan
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


def replicas(running: Installation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = running.ok("status", "warm", "-o", "json").json()["replica_list"]
    return found


def template_pids(running: Installation) -> set[int]:
    return {p.pid for p in scan(running.home) if p.leads and key_of(p.replica_id) is not None}


def test_replicas_of_an_elastic_deployment_are_forks(running: Installation, write_model: Callable[..., Path]) -> None:
    running.ok("deploy", str(write_model("warm", CODE, spec=SPEC)))
    wait_until(lambda: sum(r["phase"] == "ready" for r in replicas(running)) == 2, 30, what="two replicas ready")
    (template,) = template_pids(running)
    before = {r["pid"] for r in replicas(running)}
    assert {psutil.Process(pid).ppid() for pid in before} == {template}
    call = Caller(running.data_url)
    answers = [call("/models/warm/predict", "[[1]]").json()["predictions"][0] for _ in range(8)]
    assert {loaded_by for loaded_by, _ in answers} == {template}
    assert {pid for _, pid in answers} == before
    assert "loading prints" in running.ok("logs", "warm").text

    # The control plane goes and comes: template and replicas are the same, and still parent and children.
    pid = running.ok("info", "-o", "json").json()["pid"]
    running.kill(next(p for p in running.processes() if p.pid == pid))
    assert call("/models/warm/predict", "[[1]]").status == 200
    running.up()
    wait_until(lambda: {r["pid"] for r in replicas(running)} == before, 20, what="the same replicas")
    assert template_pids(running) == {template}

    # A replica that is killed comes back as a fork; with its template killed, replicas go on and others come.
    running.kill(psutil.Process(min(before)))
    wait_until(lambda: sum(r["phase"] == "ready" for r in replicas(running)) == 2, 30, what="two replicas again")
    assert {psutil.Process(r["pid"]).ppid() for r in replicas(running)} == {template}
    running.kill(psutil.Process(template))
    assert call("/models/warm/predict", "[[1]]").status == 200
    wait_until(lambda: template_pids(running) - {template}, 30, what="a new template")
    assert sum(r["phase"] == "ready" for r in replicas(running)) == 2
    call.close()

    running.ok("delete", "warm", "--yes")
    wait_until(lambda: running.ok("list", "-o", "json").json() == [], 30, what="the model gone")
