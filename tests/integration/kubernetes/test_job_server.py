"""Jobs on a cluster: ``headway job-server`` on a faked API server and a real PostgreSQL; a worker as it is rendered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest

from headway.cluster.job_server import job_server
from headway.cluster.kinds import MODEL_DEPLOYMENT, SCALERS
from headway.domain.cluster_objects import DEPLOYMENT, Name, name_of
from tests.services.fixtures import PostgresqlService
from tests.services.kubernetes_api import KubernetesApi
from tests.services.model_world import GATEWAY, IRIS, KINDS, bring_up, condition, model, operating, put, settled
from tests.services.operator_command import environment, headway
from tests.waiting import PortPicker, eventually

pytestmark = pytest.mark.anyio
WORKERS = {"workers": {"min": 1, "max": 1}, "gracePeriod": "5s"}
SCALED_OBJECT = next(kind for kind in SCALERS if kind.kind == "ScaledObject")
V1_WORK = Name("models", "iris-v1-work")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def api() -> AsyncIterator[KubernetesApi]:
    async with KubernetesApi(KINDS) as made:
        yield made


@asynccontextmanager
async def running(process: asyncio.subprocess.Process) -> AsyncIterator[asyncio.subprocess.Process]:
    """Told to end at the end, and out by itself."""
    try:
        yield process
        process.terminate()
        _, said = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, said.decode()
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def database(service: PostgresqlService) -> str:
    name = f"cluster_jobs_{secrets.token_hex(4)}"
    admin = await asyncpg.connect(service.address)
    await admin.execute(f"CREATE DATABASE {name}")
    await admin.close()
    return service.at(service.port, database=name)


async def worker(item: Mapping[str, Any], folder: Path, job_server: str, listen: str) -> asyncio.subprocess.Process:
    """What the pod of a rendered Deployment runs, at home on this machine."""
    (container,) = item["spec"]["template"]["spec"]["containers"]
    given = {one["name"]: one["value"].replace("$$", "$") for one in container["env"] if "value" in one}
    config = json.loads(given["HEADWAY_SERVER_CONFIG"])
    assert config["job_server"] == "tcp:headway-jobs:8431"
    config |= {"job_server": job_server, "listen": listen, "bundle_path": str(folder)}
    env = {
        **os.environ,
        **given,
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "HEADWAY_SERVER_CONFIG": json.dumps(config),
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "headway.server", env={**env, "HEADWAY_REPLICA": "iris-v1-work-x"},
        stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip


async def test_a_job_goes_from_its_caller_to_a_worker_and_back(
    api: KubernetesApi, scratch: Path, postgresql_service: PostgresqlService, free_port: PortPicker
) -> None:
    bundle = scratch / "bundle"
    bundle.mkdir()
    (bundle / "model.py").write_text("def predict(X, features_names=None):\n    return X * 2\n")
    put(api, model(jobs=WORKERS))
    put(api, model(name="plain"))
    async with operating(api):
        await eventually(lambda: bring_up(api) and serves(api, "traffic: v1 100 %"), 90)
        rendered = await eventually(lambda: api.cluster.find(DEPLOYMENT, V1_WORK))
    assert rendered is not None
    callers, workers = free_port(), free_port()
    env = {
        **environment(api, scratch),
        "HEADWAY_JOBS_DATABASE": await database(postgresql_service),
        "HEADWAY_JOBS_WEBHOOK_SECRET": "a secret of two dozen letters",
    }
    command = ("job-server", "--context", "prod", "-n", "models", "--port", str(callers), "--worker-port", str(workers))
    async with (
        running(await headway(*command, env=env)),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{callers}", trust_env=False, timeout=30) as client,
    ):

        async def healthy() -> bool:
            try:
                return (await client.get("/health")).status_code == 200
            except httpx.TransportError:
                return False

        await _eventually(healthy)
        refused = await client.post("/models/plain/jobs", json=[[1, 2]])
        assert (refused.status_code, refused.json()["error"]["code"]) == (404, "model_not_found")
        large = [[1.0] * 10] * 3_000
        jobs = [
            (await client.post("/models/iris/jobs", json=rows)).raise_for_status().json() for rows in ([[1, 2]], large)
        ]
        assert [job["version"] for job in jobs] == ["v1", "v1"]
        async with running(await worker(rendered, bundle, f"tcp:127.0.0.1:{workers}", f"tcp:127.0.0.1:{free_port()}")):
            for job, first in zip(jobs, (2, 2.0), strict=True):
                url = f"/models/iris/jobs/{job['id']}"

                async def done(url: str = url) -> bool:
                    return bool((await client.get(url)).json()["state"] == "succeeded")

                await _eventually(done)
                result = (await client.get(f"{url}/result")).raise_for_status().json()
                assert result["predictions"][0][0] == first
        put(api, model("iris:2", jobs=WORKERS))
        async with operating(api, "two"):
            await eventually(lambda: bring_up(api) and serves(api, "traffic: v2 100 %"), 90)

        async def later() -> bool:
            job = (await client.post("/models/iris/jobs", json=[[1, 2]])).raise_for_status().json()
            return bool(job["version"] == "v2")

        await _eventually(later)
        await api.cluster.delete(MODEL_DEPLOYMENT, IRIS, "")
    assert not (scratch / ".headway" / "jobs").exists(), "all of it lies in the database"


def serves(api: KubernetesApi, words: str) -> bool:
    return condition(api, "Ready") == ("True", "Serving", words)


async def _eventually(fact: Any) -> None:
    await eventually(fact, 60)


async def test_workers_come_and_go_with_what_the_document_says(api: KubernetesApi) -> None:
    def workers() -> dict[str, int | None]:
        found = {name_of(one).name: one["spec"].get("replicas") for one in api.cluster.every(DEPLOYMENT)}
        return {name: count for name, count in found.items() if name.endswith("-work")}

    def scaled() -> dict[str, int]:
        return {name_of(one).name: one["spec"]["minReplicaCount"] for one in api.cluster.every(SCALED_OBJECT)}

    put(api, model("iris:1", jobs=WORKERS))
    async with operating(api) as looking:
        await settled(api, looking)
        assert workers() == {"iris-v1-work": 1}
        put(api, model("iris:2", jobs=WORKERS))
        await settled(api, looking)
        assert workers() == {"iris-v2-work": 1}
        queued = {"workers": {"min": 1, "max": 5}}
        by_keda = {"image": "iris:2", "route": GATEWAY, "engine": "keda"}
        put(api, model("iris:2", jobs=queued, kubernetes=by_keda))
        await settled(api, looking)
        assert workers().keys() == {"iris-v1-work", "iris-v2-work"}
        assert scaled() == {"iris-v1-work": 0, "iris-v2-work": 1}
        on_trial = [{"version": "v1", "weight": 100}, {"version": "v2", "weight": 0}]
        put(api, model("iris:2", jobs=queued, kubernetes=by_keda, traffic=on_trial))
        await settled(api, looking)
        assert scaled() == {"iris-v1-work": 1, "iris-v2-work": 0}, "jobs that name no version never come to one at 0 %"
        put(api, model("iris:2"))
        await settled(api, looking)
        assert (workers(), scaled()) == ({}, {})


async def test_a_job_server_says_what_it_lacks(api: KubernetesApi, scratch: Path) -> None:
    env = {**environment(api, scratch), "HEADWAY_JOBS_DATABASE": "postgresql://db/jobs"}
    process = await headway("job-server", "--context", "prod", "-n", "models", env=env)
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    assert b"HEADWAY_JOBS_WEBHOOK_SECRET" in said


def test_the_rights_of_the_job_server_cover_what_it_asks_for() -> None:
    (role,) = [one for one in job_server("x", "models") if one["kind"] == "Role"]
    assert {resource for rule in role["rules"] for resource in rule["resources"]} == {"modeldeployments", "deployments"}
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}


async def test_told_to_end_while_the_api_server_does_not_answer_it_ends(
    api: KubernetesApi, scratch: Path, free_port: PortPicker
) -> None:
    asked = asyncio.Event()

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    port = free_port()
    env = {
        **environment(api, scratch),
        "HEADWAY_CONTEXT": "prod",
        "HEADWAY_JOBS_DATABASE": "postgresql://nobody:x@127.0.0.1:1/none",
        "HEADWAY_JOBS_WEBHOOK_SECRET": "s" * 32,
    }
    kubeconfig = scratch / "kubeconfig"
    kubeconfig.write_text(kubeconfig.read_text().replace(api.url, f"http://127.0.0.1:{port}"))
    async with await asyncio.start_server(deaf, "127.0.0.1", port):
        ports = ("--port", str(free_port()), "--worker-port", str(free_port()))
        async with running(await headway("job-server", "-n", "models", *ports, env=env)):
            await eventually(asked.is_set)
