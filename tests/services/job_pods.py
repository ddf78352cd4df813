"""Stands in for the Job controller and the kubelets: pods of a load test's Jobs run as processes of this machine."""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from headway.cluster.load_objects import COMPONENT, JOB, LOAD_KINDS, MASTER, ORDER_FOLDER, TOKEN_VARIABLE
from headway.domain.cluster_objects import POD, Name, Object, labels_of, name_of
from tests.services.kubernetes_api import KubernetesApi
from tests.waiting import PortPicker

_KINDS = {kind.kind: kind for kind in LOAD_KINDS}
HUB = "7070"


class JobPods:
    """Every Job that is not suspended has its pods. ``start_nothing``: they stay without an image."""

    def __init__(self, api: KubernetesApi, folder: Path, ports: PortPicker) -> None:
        self.api = api
        self.start_nothing = False
        self.kill_workers = False
        self.commands: list[list[str]] = []
        self.replicas: str | None = None
        """Where the name of the model's replicas leads; None: there is no such name."""
        self._folder = folder
        self._port = str(ports())
        self._tmp = tempfile.TemporaryDirectory(prefix="pods-")
        self._running: dict[Name, asyncio.Task[None]] = {}
        self._processes: dict[Name, asyncio.subprocess.Process] = {}
        self._told_to_end: set[Name] = set()

    async def look(self) -> None:
        """Until cancelled."""
        while True:
            for job in self.api.cluster.every(JOB):
                if not job["spec"].get("suspend"):
                    for number in range(job["spec"].get("parallelism", 1)):
                        self._start(job, number)
            for name, process in self._processes.items():
                gone = self.api.cluster.find(POD, name) is None
                if gone and name not in self._told_to_end and process.returncode is None:
                    self._told_to_end.add(name)  # once, as a kubelet does: what a process does then is its own
                    process.terminate()
            await asyncio.sleep(0.02)

    def _start(self, job: Object, number: int) -> None:
        name = Name(job["metadata"]["namespace"], f"{job['metadata']['name']}-{number}")
        if name in self._running:
            return
        template = job["spec"]["template"]
        owner = {"apiVersion": "batch/v1", "kind": "Job", "name": job["metadata"]["name"], "controller": True}
        metadata = {
            "name": name.name, "namespace": name.namespace, "labels": template["metadata"]["labels"],
            "ownerReferences": [{**owner, "uid": job["metadata"]["uid"]}],
        }  # fmt: skip
        self.api.cluster.update_as("job-controller", POD, {"metadata": metadata, "spec": template["spec"]})
        self._running[name] = asyncio.create_task(self._run(name, template["spec"]["containers"][0]))

    async def _run(self, name: Name, container: dict[str, Any]) -> None:
        if self.start_nothing:
            waiting = {"reason": "ImagePullBackOff", "message": "no such tag"}
            self._status(name, "Pending", {"waiting": waiting}, container)
            return
        process = await asyncio.create_subprocess_exec(
            *self._command(name, container), env=self._environment(name, container),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, limit=1 << 20,
        )  # fmt: skip
        self._processes[name] = process
        self._status(name, "Running", {"running": {}}, container)
        assert process.stdout is not None
        async for line in process.stdout:
            self.api.logs.write(name.name, line)
            if self.kill_workers and container["name"] == MASTER:
                self.kill_workers = False
                next(one for place, one in self._processes.items() if place != name).kill()
        code = await process.wait()
        self._status(name, "Failed" if code else "Succeeded", {"terminated": {"exitCode": code}}, container)

    def _status(self, name: Name, phase: str, state: dict[str, Any], container: dict[str, Any]) -> None:
        if (pod := self.api.cluster.find(POD, name)) is None:
            return
        statuses = [
            {"name": container["name"], "image": container["image"], "ready": phase == "Running", "state": state}
        ]
        pod["status"] = {"phase": phase, "podIP": "127.0.0.1", "containerStatuses": statuses}
        self.api.cluster.update_as("kubelet", POD, pod)

    def _command(self, name: Name, container: dict[str, Any]) -> list[str]:
        """With a port of this test's own, and the master where names of Services lead on a cluster."""
        command = [sys.executable, *container["command"][1:]]
        self.commands.append(container["command"])
        place = self._folder / "order"
        known = {HUB: self._port, f"{ORDER_FOLDER}/order": str(place)}
        if self.replicas is not None:
            known |= {part: self.replicas for part in command if part.endswith("-pods.models.svc:8080")}
        if labels_of(self.api.cluster.find(POD, name) or {"metadata": {}}).get(COMPONENT) == MASTER:
            (order,) = self._objects("ConfigMap")
            place.write_bytes(base64.b64decode(order["binaryData"]["order"]))
        return [f"127.0.0.1:{self._port}" if part.endswith(f":{HUB}") else known.get(part, part) for part in command]

    def _environment(self, name: Name, container: dict[str, Any]) -> dict[str, str]:
        (secret,) = self._objects("Secret")
        named = {one["name"]: one.get("value") or secret["stringData"][one["name"]] for one in container["env"]}
        assert TOKEN_VARIABLE in named
        return {**os.environ, **named, "TMPDIR": self._tmp.name}

    def _objects(self, kind: str) -> list[Object]:
        return self.api.cluster.every(_KINDS[kind])

    def kill_master(self) -> None:
        next(one for name, one in self._processes.items() if "-workers-" not in name.name).kill()

    async def close(self) -> None:
        for process in self._processes.values():
            if process.returncode is None:
                process.kill()
        await asyncio.gather(*self._running.values(), return_exceptions=True)
        self._tmp.cleanup()


@asynccontextmanager
async def job_pods(api: KubernetesApi, folder: Path, ports: PortPicker) -> AsyncIterator[JobPods]:
    pods = JobPods(api, folder, ports)
    looking = asyncio.create_task(pods.look())
    try:
        yield pods
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        await pods.close()


def names(api: KubernetesApi) -> list[Name]:
    """Of all objects of load tests that there are."""
    return [name_of(one) for kind in (*LOAD_KINDS, POD) for one in api.cluster.every(kind)]
