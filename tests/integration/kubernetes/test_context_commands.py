"""The command line with a context, as processes, on a faked API server whose operator runs."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from headway.cluster.kinds import MODEL_DEPLOYMENT
from headway.domain.cluster_objects import DEPLOYMENT, Name, Object
from tests.services.context_world import ContextWorld, contexts
from tests.services.kubernetes_api import refusal
from tests.services.model_world import GATEWAY, IRIS, condition, put, weights
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
HOST = {**GATEWAY, "hosts": ["models.example.com"]}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world(scratch: Path) -> AsyncIterator[ContextWorld]:
    async with contexts(scratch) as made:
        yield made


def document(image: str = "r.example.com/iris:1", name: str = "iris", **spec: Any) -> Object:
    kubernetes = {"image": image, "route": HOST}
    return {
        "apiVersion": "headway.dev/v1alpha1",
        "kind": "ModelDeployment",
        "metadata": {"name": name},
        "spec": {"kubernetes": kubernetes, **spec},
    }


def live(world: ContextWorld) -> Any:
    found = world.api.cluster.find(MODEL_DEPLOYMENT, IRIS)
    assert found is not None
    return found


async def test_a_model_from_its_first_version_to_its_end(world: ContextWorld) -> None:
    first = world.file("one.yaml", document(scaling={"minReplicas": 2}))
    said = await world.prod("apply", "-f", str(first))
    assert said.code == 0, said.err
    assert "iris v1 serves" in said.out
    assert "models.example.com/models/iris" in said.out
    assert "2 of 2 replicas ready" in said.err

    said = await world.prod("apply", "-f", str(first), "-o", "json")
    assert said.json["unchanged"]

    said = await world.prod("list")
    assert [line.split() for line in said.out.splitlines()[1:]] == [
        ["iris", "ready", "v1", "100", "%", "2/2", "models.example.com/models/iris"]
    ]

    # A second version as a canary; the replicas that the document does not state stay.
    folder = world.file("iris/headway.yaml", document("r.example.com/iris:2")).parent
    said = await world.prod("diff", "-f", str(folder / "headway.yaml"))
    assert "apply would make a new version" in said.out
    assert "spec.kubernetes.image   r.example.com/iris:1   r.example.com/iris:2" in said.out
    said = await world.prod("deploy", str(folder), "--canary", "10%", "-o", "json")
    assert said.code == 0, said.err
    assert (said.json["version"], said.json["image"]) == ("v2", "r.example.com/iris:2")
    assert weights(world.api) == {"iris-v1": 90, "iris-v2": 10}

    said = await world.prod("status", "iris", "-o", "json")
    view = said.json
    assert (view["state"], view["ready_replicas"], view["namespace"]) == ("ready", 4, "models")
    assert view["live"] == [{"version": "v1", "weight": 90}, {"version": "v2", "weight": 10}]
    assert view["previous"] == [{"version": "v1", "weight": 100}]
    assert [one["state"] for one in view["versions"]] == ["live", "live"]
    assert {one["phase"] for one in view["replica_list"]} == {"ready"}
    assert {one["type"]: one["status"] for one in view["conditions"]}["Ready"] == "True"

    assert (await world.prod("promote", "iris")).out == "iris: now v2 100 %, 2 replicas each\n"
    assert weights(world.api) == {"iris-v2": 100}
    assert (await world.prod("rollback", "iris")).code == 0
    assert weights(world.api) == {"iris-v1": 90, "iris-v2": 10}
    said = await world.prod("traffic", "iris", "v1=100")
    assert said.code == 0, said.err
    assert live(world)["spec"]["kubernetes"]["image"] == "r.example.com/iris:1"
    assert "traffic" not in live(world)["spec"]
    said = await world.prod("scale", "iris", "3", "-o", "json")
    assert (said.code, said.json["replicas"]) == (0, 3)
    assert "cursor" not in said.json
    deployment = world.api.cluster.find(DEPLOYMENT, Name("models", "iris-v1"))
    assert deployment is not None
    assert deployment["spec"]["replicas"] == 3
    said = await world.prod("versions", "iris")
    assert ["v2", "retired"] in [line.split()[:2] for line in said.out.splitlines()]

    assert (await world.prod("delete", "iris")).code == 2  # nobody could be asked
    assert (await world.prod("delete", "iris", "--yes")).out == "iris is gone\n"
    assert world.api.cluster.every(DEPLOYMENT) == []
    said = await world.prod("status", "iris", "-o", "json")
    assert (said.code, said.error["code"]) == (3, "model_not_found")


async def test_a_version_that_does_not_come_up_is_told_and_the_old_one_serves_on(world: ContextWorld) -> None:
    assert (await world.prod("apply", "-f", str(world.file("1.yaml", document())))).code == 0
    ended = {"terminated": {"exitCode": 1, "message": "ValueError: no weights"}}
    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
    world.stuck["iris-v2"] = {
        "containerStatuses": [{"restartCount": 3, "ready": False, "state": waiting, "lastState": ended}]
    }
    second = world.file("2.yaml", document("r.example.com/iris:2"))
    said = await world.prod("apply", "-f", str(second), "--timeout", "6")
    assert said.code == 7
    for words in ("CrashLoop", "ended with exit code 1", "ValueError: no weights", "v1 100 % serves on"):
        assert words in said.err
    assert weights(world.api) == {"iris-v1": 100}

    said = await world.prod("status", "iris")
    assert "deploying" in said.out
    assert "v2 does not come up" in said.out
    assert "ValueError: no weights" in said.out
    assert "CrashLoopBackOff" in said.out

    # Not waiting any longer.
    process = await world.start("--context", "prod", "apply", "-f", str(second))
    assert process.stderr is not None
    try:
        assert b"CrashLoop" in await asyncio.wait_for(process.stderr.readline(), 90)
        process.send_signal(signal.SIGINT)
        left = await asyncio.wait_for(process.stderr.read(), 90)
        assert await asyncio.wait_for(process.wait(), 90) == 130
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert b"what was asked for goes on" in left
    assert b"Traceback" not in left

    # Calling it off.
    said = await world.prod("rollback", "iris")
    assert said.code == 0, said.err
    assert live(world)["spec"]["kubernetes"]["image"] == "r.example.com/iris:1"


async def test_what_others_have_put_there_stays(world: ContextWorld) -> None:
    theirs = document()
    put(world.api, {**theirs, "metadata": {**IRIS._asdict(), "labels": {"team": "a"}, "annotations": {"note": "x"}}})
    without_route = document("r.example.com/iris:2")
    without_route["spec"]["kubernetes"].pop("route")
    said = await world.prod("apply", "-f", str(world.file("2.yaml", without_route)))
    assert said.code == 0, said.err
    found = live(world)
    assert found["metadata"]["labels"] == {"team": "a"}
    assert found["metadata"]["annotations"]["note"] == "x"
    assert found["spec"]["kubernetes"] == {"image": "r.example.com/iris:2", "route": HOST}


async def test_policies_are_applied_too(world: ContextWorld) -> None:
    trigger = {"type": "redis", "address": "redis:6379", "listName": "work", "listLength": 5}
    scaling = {"minReplicas": 5, "maxReplicas": 30, "triggers": [trigger]}
    policy = {
        "apiVersion": "headway.dev/v1alpha1",
        "kind": "ScalingPolicy",
        "metadata": {"name": "workers"},
        "spec": {"targetRef": {"name": "rq-workers"}, "engine": "keda", "scaling": scaling},
    }
    file = world.file("policy.yaml", policy)
    said = await world.prod("apply", "-f", str(file), "-o", "json")
    assert (said.code, said.json) == (0, {"policy": "workers", "namespace": "models", "unchanged": False})
    assert (await world.prod("apply", "-f", str(file), "-o", "json")).json["unchanged"]


async def test_a_namespace_and_a_context_from_the_environment(world: ContextWorld) -> None:
    file = world.file("1.yaml", document())
    chosen = {"HEADWAY_CONTEXT": "prod", "HEADWAY_NAMESPACE": "elsewhere"}
    said = await world.run("apply", "-f", str(file), "-o", "json", **chosen)
    assert (said.code, said.json["namespace"]) == (0, "elsewhere"), said.err
    assert (await world.prod("list", "-o", "json")).json == []
    assert [one["name"] for one in (await world.run("list", "-o", "json", **chosen)).json] == ["iris"]
    stated = world.file("2.yaml", {**document(), "metadata": {"name": "iris", "namespace": "models"}})
    said = await world.run("apply", "-f", str(stated), "-o", "json", **chosen)
    assert (said.code, said.error["where"]) == (2, "metadata.namespace")


async def test_a_document_that_the_operator_refuses_says_why(world: ContextWorld) -> None:
    put(world.api, {**document(), "metadata": IRIS._asdict()})
    # As by an operator of another release: this command line would not have sent it.
    found = live(world)
    put(world.api, {"metadata": found["metadata"], "spec": {**document()["spec"], "jobs": {"maxAttempts": 2}}})

    await eventually(lambda: condition(world.api, "Accepted")[0] == "False", 90)
    said = await world.prod("status", "iris")
    assert "spec.jobs.workers: on Kubernetes their number is fixed" in said.out
    assert said.out.startswith("iris")


async def test_surroundings_that_are_not_as_they_should_be(world: ContextWorld) -> None:
    file = world.file("1.yaml", document())
    said = await world.run("--context", "prodd", "list", "-o", "json")
    assert (said.code, "prodd" in said.err) == (2, True)
    said = await world.run("--context", "prod", "list", "-o", "json", KUBECONFIG=str(world.folder / "none"))
    assert (said.code, "none" in said.error["message"]) == (2, True)
    said = await world.run("--context", "gone", "list", "-o", "json")
    assert (said.code, said.error["code"]) == (9, "cluster_failed")
    assert "http://127.0.0.1:1" in said.error["hint"]
    world.api.faults.request = lambda request: (
        refusal(403, "iris may not") if "/apis/headway" in request.url.path else None
    )
    said = await world.prod("list", "-o", "json")
    assert (said.code, said.error["code"]) == (4, "cluster_forbidden")
    assert "modeldeployments" in said.error["hint"]
    world.api.faults.request = lambda _: None
    world.api.cluster.missing.add(MODEL_DEPLOYMENT)
    folder = world.folder / "code"
    folder.mkdir()
    (folder / "model.py").write_text("def predict(X):\n    return X\n")
    # Before an image is made.
    push = ["deploy", str(folder), "--name", "iris", "--push", "127.0.0.1:1/iris"]
    for command in (["list"], ["status", "iris"], ["apply", "-f", str(file)], push):
        said = await world.prod(*command, "-o", "json")
        assert (said.code, said.error["code"]) == (9, "kind_missing")
        assert "headway --context prod kube install" in said.error["hint"]


async def test_what_pods_print_is_shown_and_followed(world: ContextWorld) -> None:
    assert (await world.prod("apply", "-f", str(world.file("1.yaml", document())))).code == 0
    world.api.logs.write("iris-v1-abc12", b"one\ntwo\n")
    assert (await world.prod("logs", "iris")).out == "one\ntwo\n"
    assert (await world.prod("logs", "iris", "--tail", "1", "-o", "json")).json == {"line": "two"}
    said = await world.prod("logs", "iris", "--replica", "none", "-o", "json")
    assert (said.code, said.error["code"]) == (3, "replica_not_found")
    said = await world.prod("logs", "iris", "--version", "v9", "-o", "json")
    assert (said.code, said.error["code"]) == (3, "version_not_found")

    process = await world.start("--context", "prod", "logs", "iris", "-f")
    assert process.stdout is not None
    try:
        assert [await process.stdout.readline() for _ in range(2)] == [b"one\n", b"two\n"]
        # Another version begins; from then on lines say whose they are.
        second = world.file("2.yaml", document("r.example.com/iris:2"))
        world.api.logs.write("iris-v2-abc12", b"three\n")
        assert (await world.prod("apply", "-f", str(second))).code == 0
        assert await asyncio.wait_for(process.stdout.readline(), 90) == b"iris-v2-abc12 | three\n"
        assert (await world.prod("delete", "iris", "--yes", "--no-wait")).code == 0
        for name in ("iris-v1-abc12", "iris-v2-abc12"):
            world.api.logs.end(name)
        assert await asyncio.wait_for(process.wait(), 90) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_commands_that_know_no_cluster_refuse_and_do_nothing_here(world: ContextWorld) -> None:
    for command in (["loadtest", "iris"], ["up"], ["down"], ["job", "list", "iris"], ["token", "list"]):
        said = await world.prod(*command, "-o", "json")
        assert (said.code, said.error["code"]) == (6, "unsupported"), command
    assert not list((world.folder / "home").iterdir())
    said = await world.prod("version")
    assert said.code == 0


async def test_without_an_operator_it_says_so(scratch: Path) -> None:
    async with contexts(scratch, operator=False) as world:
        file = world.file("1.yaml", document())
        said = await world.prod("apply", "-f", str(file), "--timeout", "2")
        assert said.code == 7
        assert "the operator has not looked at it yet" in said.err
        said = await world.prod("status", "iris")
        assert "no operator has seen it" in said.out
