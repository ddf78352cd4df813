"""``headway kube loadtest`` on an API server faked at the wire, its pods real processes that send to a real server."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from headway.cluster.kinds import MODEL_DEPLOYMENT
from headway.cluster.load_objects import JOB, LOAD_KINDS
from headway.cluster.names import LOAN_ANNOTATION, labels
from headway.control.load_targets import GATEWAY
from headway.domain.cluster_objects import DEPLOYMENT, Name
from headway.domain.errors import ClusterFailed, InvalidInput, PromiseBroken, StartTimeout, Unsupported, VerdictRefused
from tests.services.job_pods import JobPods, job_pods, names
from tests.services.kubernetes_api import KubernetesApi, refusal
from tests.services.model_world import IRIS, KINDS, bring_up, condition, model, operating, put, replicas
from tests.services.scripted_model import ScriptedModel
from tests.waiting import PortPicker, eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class World:
    api: KubernetesApi
    pods: JobPods
    model: ScriptedModel
    folder: Path

    async def start(self, *arguments: str, load: tuple[str, ...] = ("--rate", "40", "--duration", "2s")) -> Any:
        document = {
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": self.api.url}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "models"}}],
            "users": [{"name": "u", "user": {"token": "x"}}],
        }  # fmt: skip
        file = self.folder / "kubeconfig"
        file.write_text(json.dumps(document))
        (self.folder / "rows.json").write_text("[[1, 2], [3, 4]]")
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "headway.cli.main", "kube", "loadtest", "iris", "--image", "headway:1",
            "--report", str(self.folder / "report.html"), "--data", str(self.folder / "rows.json"), *load, *arguments,
            env={**os.environ, "KUBECONFIG": str(file), "HOME": str(self.folder)},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip

    def deployment(self, *, wished: int, ready: int) -> None:
        """Of the model's version v1."""
        held = self.api.cluster.find(DEPLOYMENT, Name("models", "iris-v1"))
        metadata = {"name": "iris-v1", "namespace": "models", "labels": labels("iris", "v1")}
        body = {"spec": {"replicas": wished}, "status": {"replicas": wished, "readyReplicas": ready}}
        self.api.cluster.update_as("test", DEPLOYMENT, {"metadata": held["metadata"] if held else metadata, **body})

    def decided(self, *, current: int, desired: int, message: str) -> None:
        """As the operator's loop tells it."""
        put(self.api, model())
        last = {"version": "v1", "at": "2026-05-01T12:00:00Z", "current": current, "desired": desired}
        item = self.api.cluster.find(MODEL_DEPLOYMENT, Name("models", "iris"))
        status = {"scaling": [{**last, "binding": "concurrency", "message": message}]}
        self.api.cluster.update_as("headway", MODEL_DEPLOYMENT, {**(item or {}), "status": status})

    async def run(self, *arguments: str, load: tuple[str, ...] = ("--rate", "40", "--duration", "2s")) -> Outcome:
        process = await self.start("--url", self.model.url, *arguments, load=load)
        out, said = await process.communicate()
        return Outcome(process.returncode, out.decode(), said.decode())


async def _line(stream: asyncio.StreamReader, *words: str) -> str:
    """All that is said until a line has all of ``words``."""
    said = ""
    async for line in stream:
        said += line.decode()
        if all(word in line.decode() for word in words):
            return said
    raise AssertionError(f"no line has {words}:\n{said}")


@dataclass
class Outcome:
    code: int | None
    out: str
    said: str


@pytest.fixture
async def world(tmp_path: Path, free_port: PortPicker) -> AsyncIterator[World]:
    scripted = ScriptedModel()
    await scripted.start()
    async with (
        KubernetesApi([*KINDS, GATEWAY, *LOAD_KINDS]) as api,
        job_pods(api, tmp_path, free_port) as pods,
    ):
        yield World(api, pods, scripted, tmp_path)
    await scripted.stop()


async def test_two_workers_send_what_one_would_and_the_report_comes_back(world: World) -> None:
    found = await world.run("--workers", "2", "--arrivals", "constant", "--sla", "errors<50%", "-o", "json")
    assert found.code in (0, VerdictRefused.exit_code), found.said  # a busy machine is late, and says so
    report = json.loads(found.out)
    assert report == json.loads((world.folder / "report.json").read_text())
    assert "<html" in (world.folder / "report.html").read_text()
    assert (report["total"]["count"], report["total"]["errors"]) == (80, 0)
    assert report["shape"]["loop"] == "open"
    assert [one["stage"] for one in report["points"]].count(0) >= 2
    # One is tried before the load begins.
    assert len(world.model.bodies) == 81
    assert set(world.model.bodies) == {b"[[1,2]]", b"[[3,4]]"}
    assert len(world.pods.commands) == 3
    assert names(world.api) == []


async def test_replicas_what_they_use_and_decisions_are_in_progress_and_report(world: World) -> None:
    world.pods.replicas = f"localhost:{world.model.port}"
    world.deployment(wished=1, ready=1)
    process = await world.start("--url", world.model.url, load=("--rate", "40", "--duration", "60s"))
    assert process.stderr is not None
    said = await _line(process.stderr, "replicas 1 ", "cpu 0.5", "memory 1.0 MiB")
    world.decided(current=1, desired=2, message="concurrency: 9 in flight, target 4")
    world.deployment(wished=2, ready=1)
    said += await _line(process.stderr, "replicas 1/2 ", "cpu 0.5")
    world.deployment(wished=2, ready=2)
    # One of the two is asked and the other is not: what they use is not known.
    said += await _line(process.stderr, "replicas 2")
    process.send_signal(signal.SIGINT)  # all was seen, however long it took
    _, rest = await process.communicate()
    assert process.returncode == 130, said + rest.decode()
    assert (world.folder / "report.json").exists(), said + rest.decode()
    report = json.loads((world.folder / "report.json").read_text())
    points = report["points"]
    assert [one["replicas"] for one in points] == sorted(one["replicas"] for one in points)
    assert {1, 2} == {one["replicas"] for one in points}
    assert {one["cpu_cores"] is None for one in points if one["replicas"] == 2} == {True}
    assert all(one["cpu_cores"] == pytest.approx(0.5, abs=0.1) for one in points if one["replicas"] == 1)
    assert (report["phases"][0]["replicas_least"], report["phases"][0]["replicas_most"]) == (1, 2)
    (mark,) = report["decisions"]
    assert (mark["version"], mark["current"], mark["desired"]) == ("v1", 1, 2)
    assert mark["summary"] == "concurrency: 9 in flight, target 4"
    assert 0 < mark["at_s"] < report["duration_s"] < 60
    assert any("in which not every ready replica had been asked" in note for note in report["notes"])
    page = (world.folder / "report.html").read_text()
    assert "v1 1 → 2: concurrency: 9 in flight, target 4" in page
    assert "cores used" in page


async def test_what_may_not_be_seen_is_not_known_and_no_zero(world: World) -> None:
    world.deployment(wished=1, ready=1)

    def forbid(request: Request) -> Response | None:
        forbidden = request.url.path.endswith("/deployments")
        return refusal(403, 'deployments.apps is forbidden: User "u" cannot list') if forbidden else None

    world.api.faults.request = forbid
    found = await world.run("-o", "json")
    report = json.loads(found.out)
    unknown = {"replicas": None, "wished": None, "cpu_cores": None, "memory_bytes": None}
    assert all(unknown.items() <= one.items() for one in report["points"])
    assert any("Replicas are not known" in note and "forbidden" in note for note in report["notes"])
    assert any("Processor use and memory are not known" in note for note in report["notes"])
    assert report["decisions"] == []


async def test_recorded_arrivals_of_a_file_are_sent_by_all_workers_together(world: World) -> None:
    file = world.folder / "requests.csv"
    lines = [
        "ts_ns,rows,arm",
        "1700000000000000000,1,split",
        "1700000000400000000,2,split",
        "1700000000400000000,1,job",
    ]
    lines += [f"170000000{44 + 2 * number}00000000,3,split" for number in range(8)]  # from 4.4 s on, one each 0.2 s
    file.write_text("\n".join(lines))
    found = await world.run("--workers", "2", "-o", "json", load=("--replay", str(file), "--speed", "2"))
    assert found.code == 0, found.said
    report = json.loads(found.out)
    assert (report["shape"]["arrivals"], report["total"]["count"], report["total"]["errors"]) == ("recorded", 10, 0)
    due = [(round(one["begin_s"]), one["figures"]["count"]) for one in report["points"]]
    assert due == [(0, 2), (1, 0), (2, 8)]
    rows = sorted(len(json.loads(body)) for body in world.model.bodies[1:])
    assert rows == [1, 2, *[3] * 8]
    assert "Arrivals are recorded ones." in (world.folder / "report.html").read_text()


async def test_of_a_model_that_takes_objects_each_record_is_a_request(world: World) -> None:
    (world.folder / "rows.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    world.model.refuses = b"["
    found = await world.run("--data", str(world.folder / "rows.jsonl"), "--arrivals", "constant")
    assert found.code == 0, found.said
    assert "each record is a request of its own: iris takes no list of rows" in found.said
    assert set(world.model.bodies[2:]) == {b'{"a":1}', b'{"a":2}'}


async def test_more_arrivals_than_a_config_map_has_room_for_are_refused_before_anything_is_made(world: World) -> None:
    chance, at_s, lines = Random(1), 0.0, ["time"]
    for _ in range(400_000):
        at_s += chance.expovariate(100)
        lines.append(f"{at_s:.6f}")
    file = world.folder / "requests.csv"
    file.write_text("\n".join(lines))
    found = await world.run(load=("--replay", str(file)))
    assert found.code == InvalidInput.exit_code
    assert "MiB packed, and a ConfigMap has room for 0.7" in found.said
    assert "replay a shorter time" in found.said
    assert names(world.api) == []


@pytest.fixture
async def operated(world: World) -> AsyncIterator[World]:
    """With an operator, controllers that bring pods up, and a model of one replica."""
    put(world.api, model(scaling={"minReplicas": 1}))
    acting = asyncio.create_task(_bringing_up(world.api))
    async with operating(world.api):
        await eventually(lambda: replicas(world.api) == {"iris-v1": 1} and is_served(world.api), 60, what="it serves")
        yield world
    acting.cancel()
    await asyncio.gather(acting, return_exceptions=True)


async def _bringing_up(api: KubernetesApi) -> None:
    async for _ in api.cluster.watch(DEPLOYMENT, {}, "0"):
        bring_up(api)


def is_served(api: KubernetesApi) -> bool:
    return condition(api, "Ready")[0] == "True"


def scaling_of(api: KubernetesApi) -> tuple[Any, bool]:
    """``spec.scaling``, and whether a load test has borrowed it."""
    item = api.cluster.find(MODEL_DEPLOYMENT, IRIS)
    assert item is not None
    return item["spec"].get("scaling"), LOAN_ANNOTATION in (item["metadata"].get("annotations") or {})


def stages_file(world: World, *stages: dict[str, Any]) -> str:
    file = world.folder / "stages.yaml"
    file.write_text(json.dumps({"stages": stages}))
    return str(file)


async def test_stages_scale_the_model_and_leave_it_as_it_was(operated: World) -> None:
    stages = stages_file(
        operated,
        {"duration": "4s", "rate": 20, "replicas": 2},
        {"name": "more", "duration": "6s", "rate": 20, "replicas": 3},
    )
    found = await operated.run("-o", "json", load=("--stages", stages))
    assert found.code == 0, found.said
    report = json.loads(found.out)
    counts = [one["replicas"] for one in report["points"]]
    assert (counts[0], counts[-1], counts == sorted(counts)) == (2, 3, True)
    assert [one["summary"] for one in report["decisions"]] == [
        "set to 2 by the load test, triggers off",
        "set to 3 by the load test, triggers off",
    ]
    assert report["decisions"][0]["at_s"] < 0 < 3.9 < report["decisions"][1]["at_s"] < 7
    assert [one["replicas"] for one in report["shape"]["stages"]] == [2, 3]
    assert len(report["notes"]) == 2  # how to read it, and that what replicas use is not known here
    assert scaling_of(operated.api) == ({"minReplicas": 1}, False)
    await eventually(lambda: replicas(operated.api) == {"iris-v1": 1}, 30, what="one replica again")
    assert operated.api.cluster.every(JOB) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
async def test_a_test_that_is_stopped_puts_the_scaling_back(operated: World, number: signal.Signals) -> None:
    stages = stages_file(operated, {"duration": "10m", "rate": 20, "replicas": 2})
    process = await operated.start("--url", operated.model.url, load=("--stages", stages))
    await _line(process.stderr, "offered 20.0/s", "replicas 2")
    assert scaling_of(operated.api) == ({"minReplicas": 2}, True)
    process.send_signal(number)
    process.send_signal(signal.SIGINT)
    _, said = await process.communicate()
    assert process.returncode == 130, said.decode()
    assert scaling_of(operated.api) == ({"minReplicas": 1}, False)


async def test_a_test_that_fails_puts_the_scaling_back(operated: World) -> None:
    stages = stages_file(operated, {"duration": "10m", "rate": 20, "replicas": 2})
    operated.pods.start_nothing = True
    found = await operated.run("--start-timeout", "2s", load=("--stages", stages))
    assert found.code == StartTimeout.exit_code, found.said
    assert scaling_of(operated.api) == ({"minReplicas": 1}, False)


async def test_scaling_that_a_cluster_refuses_is_refused_before_anything_is_made(operated: World) -> None:
    policy = {"maxReplicas": 3, "triggers": [{"type": "python"}]}
    stages = stages_file(operated, {"duration": "9s", "rate": 20}, {"duration": "9s", "rate": 20, "scaling": policy})
    found = await operated.run(load=("--stages", stages))
    assert found.code == Unsupported.exit_code, found.said
    assert scaling_of(operated.api) == ({"minReplicas": 1}, False)
    assert operated.api.cluster.every(JOB) == []


async def test_a_model_that_could_not_be_scaled_back_is_told(operated: World) -> None:
    stages = stages_file(operated, {"duration": "10m", "rate": 20, "replicas": 2})
    process = await operated.start("--url", operated.model.url, load=("--stages", stages))
    await _line(process.stderr, "offered 20.0/s")

    def forbid(request: Request) -> Response | None:
        return refusal(403, "modeldeployments is forbidden") if request.method == "PUT" else None

    operated.api.faults.request = forbid
    process.send_signal(signal.SIGINT)
    _, said = await process.communicate()
    assert process.returncode == ClusterFailed.exit_code, said.decode()
    assert f"the annotation {LOAN_ANNOTATION}" in said.decode()
    assert json.loads((operated.folder / "report.json").read_text())["ending"] == "interrupted"
    assert operated.api.cluster.every(JOB) == []


async def test_a_broken_promise_has_the_exit_code_that_it_has_on_this_machine(world: World) -> None:
    world.model.status = 503
    found = await world.run("--sla", "errors<1%")
    assert (found.code, names(world.api)) == (1, [])
    assert "answered 503" in found.said  # the first request, before the load began
    assert PromiseBroken.exit_code == 1


async def test_ctrl_c_ends_the_load_reports_what_there_is_and_leaves_nothing(world: World) -> None:
    process = await world.start("--url", world.model.url, load=("--rate", "40", "--duration", "10m"))
    assert process.stderr is not None
    assert b"offered 40.0/s" in await process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, said = await process.communicate()
    assert process.returncode == 130, said.decode()
    assert "interrupted" in out.decode()
    assert json.loads((world.folder / "report.json").read_text())["total"]["count"] > 20
    assert names(world.api) == []


async def test_pods_that_do_not_start_are_told_with_the_cause(world: World) -> None:
    world.pods.start_nothing = True
    found = await world.run("--start-timeout", "2s")
    assert found.code == StartTimeout.exit_code
    assert "did not start within 2 s: headway:1: no such tag" in found.said
    assert names(world.api) == []


async def test_a_worker_that_is_lost_leaves_no_verdict(world: World) -> None:
    world.pods.kill_workers = True
    found = await world.run("--workers", "2", "--sla", "p95<9s", load=("--rate", "40", "--duration", "1m"))
    assert found.code == VerdictRefused.exit_code, found.said
    assert "1 of 2 workers of the load generator ended before their part was sent" in found.said
    assert names(world.api) == []


async def test_a_master_that_is_killed_leaves_no_report_and_no_objects(world: World) -> None:
    process = await world.start("--url", world.model.url, load=("--rate", "40", "--duration", "10m"))
    assert b"offered 40.0/s" in await process.stderr.readline()
    world.pods.kill_master()
    _, said = await process.communicate()
    assert process.returncode == 1
    assert "the master ended without a report: exit code -9" in said.decode()
    assert names(world.api) == []


async def test_the_route_of_a_model_is_where_its_gateway_answers(world: World) -> None:
    put(world.api, model())
    gateway = {
        "metadata": {"name": "public", "namespace": "models"},
        "spec": {"listeners": [{"name": "web", "protocol": "HTTP", "port": world.model.port}]},
        "status": {"addresses": [{"value": "127.0.0.1"}]},
    }
    world.api.cluster.update_as("gateway-controller", GATEWAY, gateway)
    process = await world.start("--keep", load=("--rate", "20", "--duration", "1s"))
    _, said = await process.communicate()
    assert json.loads((world.folder / "report.json").read_text())["url"] == world.model.url, said.decode()
    assert len(world.api.cluster.every(JOB)) == 2
