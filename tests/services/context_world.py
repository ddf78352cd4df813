"""A cluster as the command line sees it: a faked API server, its operator, controllers that act, and a kubeconfig."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from headway.domain.cluster_objects import DEPLOYMENT, POD, Object
from tests.services.kubernetes_api import KubernetesApi
from tests.services.model_world import KINDS, bring_up, operating

PATIENCE_S = 240.0
"""Building an image takes half a minute where nobody else has the processor."""


class Said(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> Any:
        return json.loads(self.err)["error"]


@dataclass
class ContextWorld:
    """``stuck``: versions' Deployments that get no pod ready, with their pods' status."""

    api: KubernetesApi
    folder: Path
    stuck: dict[str, Object] = field(default_factory=dict)

    def environment(self, **more: str) -> dict[str, str]:
        """With a kubeconfig of three contexts: this cluster, one that does not answer, and the current one."""
        clusters = {"here": self.api.url, "dead": "http://127.0.0.1:1"}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": name, "cluster": {"server": url}} for name, url in clusters.items()],
            "contexts": [
                {"name": "prod", "context": {"cluster": "here", "user": "me", "namespace": "models"}},
                {"name": "gone", "context": {"cluster": "dead", "user": "me"}},
            ],
            "users": [{"name": "me", "user": {"token": "x"}}],
            "current-context": "gone",
        }
        file = self.folder / "kubeconfig"
        file.write_text(json.dumps(document))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("HEADWAY_")}
        home = {"HOME": str(self.folder), "HEADWAY_HOME": str(self.folder / "home")}
        return {**kept, **home, "KUBECONFIG": str(file), **more}

    async def run(self, *arguments: str, **more: str) -> Said:
        """``headway`` with ``arguments``, as a process; ``more`` are variables of its environment."""
        process = await self.start(*arguments, **more)
        try:
            out, err = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Said(process.returncode, out.decode(), err.decode())

    async def start(self, *arguments: str, **more: str) -> asyncio.subprocess.Process:
        """The same, not waited for."""
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "headway.cli.main",
            *arguments,
            env=self.environment(**more),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    async def prod(self, *arguments: str) -> Said:
        """The same on this cluster."""
        return await self.run("--context", "prod", *arguments)

    def file(self, name: str, document: Object) -> Path:
        """A document as a file."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document))
        return path

    def act(self) -> None:
        """As controllers and kubelets do: every Deployment gets its pods, ready but for those that are stuck."""
        bring_up(self.api, *self.stuck)
        for item in self.api.cluster.every(DEPLOYMENT):
            name = item["metadata"]["name"]
            wished = item["spec"].get("replicas", 1)
            status = self.stuck.get(name, _ready())
            labels = item["spec"]["template"]["metadata"]["labels"]
            metadata = {"name": f"{name}-abc12", "namespace": item["metadata"]["namespace"], "labels": labels}
            owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name, "uid": item["metadata"]["uid"]}
            pod = {"metadata": {**metadata, "ownerReferences": [owner]}, "status": status}
            if wished:
                self.api.cluster.apply_as("kubelet", POD, {"metadata": pod["metadata"]})
                self.api.cluster.apply_as("kubelet", POD, pod, subresource="status")


def _ready() -> Object:
    moment = "2026-05-01T12:00:00Z"
    container = {"restartCount": 0, "started": True, "ready": True, "state": {"running": {"startedAt": moment}}}
    return {
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": moment}],
        "containerStatuses": [container],
    }


@asynccontextmanager
async def contexts(folder: Path, *, operator: bool = True) -> AsyncIterator[ContextWorld]:
    """The whole of it; without an operator nobody looks at what is asked for."""
    async with KubernetesApi(KINDS) as api:
        world = ContextWorld(api, folder)
        acting = asyncio.create_task(_acting(world.act, api))
        try:
            async with contextlib.AsyncExitStack() as stack:
                if operator:
                    await stack.enter_async_context(operating(api))
                yield world
        finally:
            acting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await acting


async def _acting(act: Callable[[], None], api: KubernetesApi) -> None:
    async for _ in api.cluster.watch(DEPLOYMENT, {}, "0"):
        act()
