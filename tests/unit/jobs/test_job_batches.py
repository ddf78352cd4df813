"""Batches of jobs, at the callers' API, on memory adapters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.unit.jobs.world import JobWorld, deployment

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world() -> AsyncIterator[JobWorld]:
    async with JobWorld(deployment("iris", "v2", "v1")) as world:
        yield world


async def test_a_batch_is_stored_whole_and_carried_out_in_order(world: JobWorld) -> None:
    lines = b'[[1]]\n\n {"rows": 2} \r\n[[3]]'
    answer = await world.submit(lines, path="/models/iris/jobs/batch?priority=7", content_type="application/x-ndjson")
    batch = answer.json()
    assert (answer.status_code, len(batch["jobs"])) == (202, 3)
    assert answer.headers["location"] == f"/models/iris/jobs?batch={batch['batch']}"
    work = await world.claim(most=10)
    assert [one.job_id for one in work] == batch["jobs"]
    assert [one.body for one in work] == [b"[[1]]", b'{"rows": 2}', b"[[3]]"]
    listed = (await world.http.get(answer.headers["location"])).json()["jobs"]
    assert {(job["batch"], job["priority"]) for job in listed} == {(batch["batch"], 7)}

    document = {"jobs": [{"body": [[1]]}, {"body": [[2]], "priority": 9, "notBefore": "1h", "deadline": "2h"}]}
    answer = await world.submit(document, path="/models/iris/jobs/batch", content_type="application/json")
    (first, second) = [(await world.http.get(f"/models/iris/jobs/{i}")).json() for i in answer.json()["jobs"]]
    assert (first["priority"], first["notBefore"], second["priority"]) == (5, None, 9)
    assert second["deadline"] > second["notBefore"]


async def test_what_a_line_of_a_batch_says_goes_before_what_the_call_says(world: JobWorld) -> None:
    document = {"jobs": [{"body": 1}, {"body": 2, "priority": 5}]}
    answer = await world.submit(document, path="/models/iris/jobs/batch?priority=9", content_type="application/json")
    found = [(await world.http.get(f"/models/iris/jobs/{i}")).json()["priority"] for i in answer.json()["jobs"]]
    assert found == [9, 5]
    document = {"jobs": [{"body": 1}, {"body": 2, "priority": 10}]}
    answer = await world.submit(document, path="/models/iris/jobs/batch", content_type="application/json")
    assert (answer.status_code, answer.json()["error"]["where"]) == (400, "jobs[1].priority")


async def test_an_idempotency_key_stands_for_the_whole_batch(world: JobWorld) -> None:
    async def send(lines: bytes) -> Any:
        more = {"content_type": "application/x-ndjson", "idempotency_key": "k"}
        return await world.submit(lines, path="/models/iris/jobs/batch", **more)

    first = await send(b"1\n2")
    assert (await send(b"1\n2")).json() == first.json()
    for other in (b"1\n2\n3", b"1", b"1\n3"):
        answer = await send(other)
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "idempotency_conflict"), other
    assert len((await world.http.get("/models/iris/jobs")).json()["jobs"]) == 2


async def test_a_batch_with_a_bad_line_stores_nothing(world: JobWorld) -> None:
    answer = await world.submit(b"[1]\n[2", path="/models/iris/jobs/batch", content_type="application/jsonl")
    assert (answer.status_code, answer.json()["error"]["where"]) == (400, "line 2")
    assert (await world.http.get("/models/iris/jobs")).json()["jobs"] == []
