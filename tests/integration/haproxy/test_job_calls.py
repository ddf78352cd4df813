"""Calls for jobs: they go to the job server, whole, whatever the model's replicas do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from headway.adapters.haproxy import HaproxyGateway
from headway.adapters.haproxy.job_calls import MOST_BODY
from headway.domain.routing_table import GatewayToken, RoutingTable
from headway.domain.tokens import digest
from tests.integration.haproxy.backends import Connection, Replica, call
from tests.integration.haproxy.conftest import model, version
from tests.integration.haproxy.gateway_log import Log
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
async def jobs(home: Path) -> AsyncIterator[Replica]:
    async with Replica(home / "jobs.sock") as jobs:
        yield jobs


@pytest.fixture
async def table(gateway: HaproxyGateway, jobs: Replica) -> RoutingTable:
    """Model iris without any replica, at zero; wine without a split; the tokens app and narrow (wine only)."""
    tokens = (
        GatewayToken("app", digest("hw_app"), None, None),
        GatewayToken("narrow", digest("hw_narrow"), ("wine",), None),
    )
    models = (model("iris", {"v1": 100}, version("v1"), version("v2", hold_s=20.0)), model("wine", {}))
    applied = RoutingTable(models, tokens, jobs=jobs.address)
    await gateway.apply(applied)
    return applied


@pytest.mark.usefixtures("table")
@pytest.mark.parametrize(
    ("path", "drawn"),
    [
        ("/models/iris/jobs", "v1"),
        ("/models/iris/jobs?wait=3&x=%2F", "v1"),
        ("/models/iris/jobs/01h/result", "v1"),
        ("/models/iris/versions/v2/jobs", None),
        ("/models/iris/versions/v9/jobs/01h", None),
        ("/models/wine/jobs", None),
    ],
)
async def test_a_job_call_keeps_its_path_and_tells_the_version_that_was_drawn(
    jobs: Replica, port: int, path: str, drawn: str | None
) -> None:
    answer = await call(port, path, headers={"authorization": "Bearer hw_app"})
    assert (answer.status, answer.replica, answer.json()["path"]) == (200, jobs.name, path)
    told = answer.json()["headers"]
    assert told.get("x-headway-version") == drawn
    assert (told["x-headway-client"], told["x-headway-model"]) == ("app", path.split("/")[2])
    assert answer.headers["x-request-id"] == told["x-request-id"]
    assert "authorization" not in told


@pytest.mark.usefixtures("table", "jobs")
async def test_tokens_and_unknown_models_are_looked_at_as_for_predictions(port: int) -> None:
    refused = await call(port, "/models/iris/jobs", headers={"authorization": "Bearer hw_narrow"})
    assert (refused.status, refused.code) == (403, "forbidden")
    assert (await call(port, "/models/nobody/jobs")).code == "model_not_found"
    assert (await call(port, "/models/iris/predict")).code == "not_ready"
    huge = await call(port, "/models/iris/jobs", headers={"content-length": str(MOST_BODY + 1)}, body=b"")
    assert (huge.status, huge.code) == (413, "payload_too_large")


async def test_where_jobs_are_off_that_is_said(gateway: HaproxyGateway, table: RoutingTable, port: int) -> None:
    await gateway.apply(replace(table, jobs=None))
    answer = await call(port, "/models/iris/jobs")
    assert (answer.status, answer.code) == (422, "unsupported")
    await gateway.apply(table)
    assert (await call(port, "/models/iris/jobs")).status == 200


@pytest.mark.usefixtures("table")
async def test_a_call_that_breaks_off_is_sent_again_as_the_same(jobs: Replica, home: Path, port: int) -> None:
    jobs.hold()
    sent = asyncio.create_task(call(port, "/models/iris/jobs", headers={"x-headway-key": "forged"}))
    await eventually(lambda: jobs.seen, what="it has the call")
    jobs.die()
    await asyncio.sleep(0)
    async with Replica(home / "next.sock", "next") as another:
        (home / "next.sock").replace(home / "jobs.sock")
        answer = await sent
        assert (answer.status, answer.replica) == (200, "next")
        first, second = jobs.seen[0]["headers"], another.seen[0]["headers"]
        for name in ("x-headway-key", "x-headway-at", "x-request-id"):
            assert first[name] == second[name]
        assert len(first["x-headway-key"]) == 36
        other = await call(port, "/models/iris/jobs")
        assert other.json()["headers"]["x-headway-key"] != first["x-headway-key"]
        assert "x-headway-key" not in (await call(port, "/models/iris/jobs", method="GET", body=b"")).json()["headers"]


@pytest.mark.usefixtures("table")
async def test_calls_wait_while_the_job_server_is_started_again(jobs: Replica, home: Path, port: int) -> None:
    jobs.die()
    sent = [asyncio.create_task(call(port, "/models/iris/jobs")) for _ in range(5)]
    done, _ = await asyncio.wait(sent, timeout=1)
    assert not done
    async with Replica(home / "next.sock", "next") as another:
        (home / "next.sock").replace(home / "jobs.sock")
        answers = await asyncio.gather(*sent)
        assert [(answer.status, answer.replica) for answer in answers] == [(200, "next")] * 5
        assert len({seen["headers"]["x-headway-key"] for seen in another.seen}) == 5


@pytest.mark.usefixtures("table", "jobs")
async def test_job_calls_are_not_in_the_log_of_predictions(log: Log, port: int) -> None:
    for path, token in (
        ("/models/iris/jobs", "hw_app"),
        ("/models/iris/jobs", "hw_wrong"),
        ("/models/nobody/jobs", ""),
    ):
        await call(port, path, headers={"authorization": f"Bearer {token}"} if token else {})
    await call(port, "/models/iris/predict")
    lines = await log.wait_for(1)
    assert [line["path"] for line in lines] == ["/models/iris/predict"]


async def test_the_job_server_stays_in_rotation_when_routes_change(
    gateway: HaproxyGateway, table: RoutingTable, jobs: Replica, port: int
) -> None:
    async with Connection(port) as connection:
        for tokens in (table.tokens[:1], table.tokens):
            await gateway.apply(replace(table, tokens=tokens))
            await gateway.drained(["nobody"])
            assert (await connection.call("/models/iris/jobs")).status == 200
