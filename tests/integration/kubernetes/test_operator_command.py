"""The commands that touch a cluster, as processes, with a kubeconfig that names the faked API server."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headway.cluster.install import INSTALLED, install
from headway.cluster.kinds import MODEL_DEPLOYMENT
from headway.domain.cluster_objects import DEPLOYMENT, Kind, Name, name_of
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


async def test_install_applies_what_a_dry_run_prints(api: KubernetesApi, scratch: Path) -> None:
    env = environment(api, scratch)
    process = await headway("kube", "install", "--image", "r/headway:1", "--context", "prod", env=env)
    _, said = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode == 0, said
    there = {(kind.kind, name_of(item).name) for kind in INSTALLED for item in api.cluster.every(kind)}
    assert there == {(one["kind"], one["metadata"]["name"]) for one in install("r/headway:1")}


async def test_a_context_that_is_not_there_is_named(api: KubernetesApi, scratch: Path) -> None:
    process = await headway("operator", "--context", "prodd", env=environment(api, scratch))
    _, said = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 2
    assert b"prodd" in said
