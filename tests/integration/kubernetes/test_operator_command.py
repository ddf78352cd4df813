"""The commands that touch a cluster, as processes, with a kubeconfig that names the faked API server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headway.adapters.sql import SqlDatabase, SqlDecisionLog
from headway.bootstrap_operator import DATABASE
from headway.cluster.install import INSTALLED, install
from headway.cluster.kinds import MODEL_DEPLOYMENT, SCALING_POLICY
from headway.domain.cluster_objects import DEPLOYMENT, POD, Kind, Name, name_of
from tests.services.kubernetes_api import PATH, KubernetesApi
from tests.services.model_world import IRIS, KINDS, bring_up, condition, model, put, weights
from tests.services.operator_command import environment, headway
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
VERBS = {
    "LIST": ["list"],
    "WATCH": ["watch"],
    "GET": ["get"],
    "PATCH": ["patch", "create"],
    "PUT": ["update"],
    "POST": ["create"],
    "DELETE": ["delete"],
}
"""What each request needs a right for; an apply may create."""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def api() -> AsyncIterator[KubernetesApi]:
    kinds: dict[tuple[str, str], Kind] = {(kind.api_version, kind.plural): kind for kind in (*KINDS, *INSTALLED)}
    async with KubernetesApi(list(kinds.values())) as made:
        yield made


class Stats:
    """A model server with three requests in flight all the time, as far as ``GET /stats`` tells."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                at = time.monotonic()
                said = {"at": at, "epoch": "a", "in_flight": 3, "in_flight_s": 3 * (at - self._began), "finished": 0}
                body = json.dumps(said).encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        writer.close()


def forbidden(api: KubernetesApi) -> set[str]:
    """What was asked for that the rights of the installation do not cover."""
    granted = {
        (group, resource, verb)
        for one in install("x")
        for rule in one.get("rules", [])
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    found: set[str] = set()
    for method, path in api.requests:
        match = PATH.fullmatch(path.partition("?")[0])
        assert match is not None, path
        group = (match["group"] or "").partition("/")[0]
        resource = "/".join(filter(None, (match["plural"], match["sub"])))
        verbs = ["patch"] if match["sub"] else VERBS[method]
        found |= {f"{verb} {resource}.{group}" for verb in verbs if (group, resource, verb) not in granted}
    return found


async def test_the_operator_runs_as_a_command_and_ends_when_it_is_told_to(api: KubernetesApi, scratch: Path) -> None:
    put(api, model())
    env = {**environment(api, scratch), "HEADWAY_CONTEXT": "prod"}
    process = await headway("operator", env=env)
    try:

        def serves() -> bool:
            bring_up(api)
            return condition(api, "Ready")[0] == "True"

        await eventually(serves, 90)
        assert weights(api) == {"iris-v1": 100}
        process.send_signal(signal.SIGTERM)
        _, said = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said
    assert not forbidden(api)
    assert api.cluster.find(DEPLOYMENT, Name("models", "iris-v1")) is not None
    assert api.cluster.find(MODEL_DEPLOYMENT, IRIS) is not None


async def test_a_model_is_scaled_by_what_its_pods_say(api: KubernetesApi, scratch: Path) -> None:
    """The whole way: pods are asked over HTTP, the Deployment is written, the decision is recorded and told."""
    triggers = [{"type": "concurrency", "target": 1, "window": "2s", "panicWindow": "0s"}]
    put(api, model(scaling={"minReplicas": 1, "maxReplicas": 5, "triggers": triggers}))
    stats = Stats()
    server = await asyncio.start_server(stats.answer, "127.77.1.1", 8080)
    process = await headway("operator", env={**environment(api, scratch), "HEADWAY_CONTEXT": "prod"})
    name = Name("models", "iris-v1")
    try:

        def scaled() -> bool:
            bring_up(api)
            deployment = api.cluster.find(DEPLOYMENT, name)
            if deployment is None:
                return False
            if api.cluster.find(POD, Name("models", "iris-v1-x")) is None:
                labels = deployment["spec"]["template"]["metadata"]["labels"]
                ready = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
                status = {"phase": "Running", "podIP": "127.77.1.1", "conditions": [ready]}
                metadata = {"name": "iris-v1-x", "namespace": "models", "labels": labels}
                api.cluster.update_as("kubelet", POD, {"metadata": metadata, "status": status})
            return int(deployment["spec"]["replicas"]) == 3 and condition(api, "ScalingActive")[1] == "Decided"

        await eventually(scaled, 90, what="three requests in flight make three replicas")
        process.send_signal(signal.SIGTERM)
        _, said = await asyncio.wait_for(process.communicate(), 60)
    finally:
        server.close()
        await server.wait_closed()
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said
    assert not forbidden(api)
    database = SqlDatabase(Path(os.environ["HEADWAY_HOME"]) / DATABASE)
    await database.open()
    try:
        records = await SqlDecisionLog(database).read("models/iris", changed=True)
    finally:
        await database.close()
    assert [record.desired for record in records][-1] == 3


async def test_a_policy_scales_a_deployment_of_somebody_elses_through_its_scale(
    api: KubernetesApi, scratch: Path
) -> None:
    spec = {"replicas": 5, "selector": {"matchLabels": {"app": "w"}}}
    target = Name("models", "w")
    api.cluster.apply_as("helm", DEPLOYMENT, {"metadata": {"name": "w", "namespace": "models"}, "spec": spec})
    cron = {"type": "cron", "start": "0 0 1 1 *", "end": "59 23 31 12 *", "desiredReplicas": 9}
    scaling = {"minReplicas": 5, "maxReplicas": 30, "triggers": [cron]}
    policy = {"targetRef": {"name": "w"}, "scaling": scaling}
    put(api, {"metadata": {"name": "w", "namespace": "models"}, "spec": policy}, SCALING_POLICY)
    process = await headway("operator", env={**environment(api, scratch), "HEADWAY_CONTEXT": "prod"})
    try:
        await eventually(lambda: (api.cluster.find(DEPLOYMENT, target) or {})["spec"]["replicas"] == 9, 90)
        process.send_signal(signal.SIGTERM)
        _, said = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, said
    assert not forbidden(api)


@pytest.mark.parametrize("first", [(), ("--context", "prod")])
async def test_install_applies_what_a_dry_run_prints(api: KubernetesApi, scratch: Path, first: tuple[str, ...]) -> None:
    env = environment(api, scratch)
    own = () if first else ("--context", "prod")
    process = await headway(*first, "kube", "install", "--image", "r/headway:1", *own, env=env)
    _, said = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, said
    there = {(kind.kind, name_of(item).name) for kind in INSTALLED for item in api.cluster.every(kind)}
    assert there == {(one["kind"], one["metadata"]["name"]) for one in install("r/headway:1")}


async def test_a_context_that_is_not_there_is_named(api: KubernetesApi, scratch: Path) -> None:
    process = await headway("operator", "--context", "prodd", env=environment(api, scratch))
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    assert b"prodd" in said
