"""Callers' API of jobs, on memory adapters."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headway.api.jobs import openapi
from headway.domain.job_wire import WireError, WireOutcome
from tests.unit.jobs.world import JobWorld, deployment

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def world() -> AsyncIterator[JobWorld]:
    async with JobWorld(deployment("iris", "v2", "v1")) as world:
        yield world


async def test_a_job_from_submission_to_result(world: JobWorld) -> None:
    answer = await world.submit("[[5.1, 3.5]]", x_request_id="r-1")
    job = answer.json()
    assert (answer.status_code, job["state"], job["version"], job["client"]) == (202, "queued", "v1", "ann")
    assert answer.headers["location"] == f"/models/iris/jobs/{job['id']}" == job["links"]["self"]
    assert (await world.http.get(job["links"]["self"])).json()["place"] == 0

    (work,) = await world.claim()
    assert (work.job_id, work.body, work.route, work.client, work.request_id) == (
        job["id"],
        b"[[5.1, 3.5]]",
        "/predict",
        "ann",
        "r-1",
    )
    running = (await world.http.get(job["links"]["self"])).json()
    assert (running["state"], running["attempts"], running["place"]) == ("running", 1, None)
    early = await world.http.get(job["links"]["result"])
    assert (early.status_code, early.json()["error"]["code"]) == (409, "job_not_finished")

    world.clock.advance(2.5)
    assert await world.finish(work, b"a,b\n", content_type="text/csv")
    done = (await world.http.get(job["links"]["self"])).json()
    assert (done["state"], done["runMs"], done["ranVersion"]) == ("succeeded", 2500, "v1")
    assert done["expiresAt"] > done["finishedAt"] > done["submittedAt"]
    result = await world.http.get(job["links"]["result"])
    assert (result.status_code, result.headers["content-type"], result.content) == (200, "text/csv", b"a,b\n")
    given = await world.http.get(job["links"]["self"] + "/input")
    assert given.content == b"[[5.1, 3.5]]"


async def test_a_failed_job_has_an_error_and_no_result(world: JobWorld) -> None:
    job = (await world.submit()).json()
    (work,) = await world.claim()
    error = WireError(code="invalid_request", message="column 3 is missing", where="body")
    await world.report(WireOutcome(job_id=work.job_id, token=work.token, error=error))
    found = (await world.http.get(job["links"]["self"])).json()
    assert (found["state"], found["error"]["code"], found["error"]["where"]) == ("failed", "invalid_request", "body")
    refused = await world.http.get(job["links"]["result"])
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "job_not_succeeded")
    assert refused.json()["error"]["details"]["error"]["message"] == "column 3 is missing"


async def test_a_worker_is_told_which_attempt_is_the_last() -> None:
    async with JobWorld(deployment(jobs={"maxAttempts": 2})) as world:
        await world.submit()
        (work,) = await world.claim()
        assert (work.attempt, work.last) == (1, False)
        error = WireError(code="worker_lost", message="gone")
        await world.report(WireOutcome(job_id=work.job_id, token=work.token, error=error))
        await world.clock.elapse(5)
        (work,) = await world.claim()
        assert (work.attempt, work.last) == (2, True)


async def test_who_prefers_to_wait_is_answered_at_the_end(world: JobWorld) -> None:
    submitting = world.soon(world.submit(prefer="respond-async, wait=20"))
    (work,) = await world.claim(wait_s=10)
    await world.clock.settle()
    assert not submitting.done()
    await world.finish(work)
    answer = await submitting
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=20")
    assert answer.json()["state"] == "succeeded"


async def test_who_waits_in_vain_gets_the_job_as_it_is(world: JobWorld) -> None:
    submitting = world.soon(world.submit(prefer="wait=20"))
    await world.clock.elapse(19)
    assert not submitting.done()
    await world.clock.elapse(2)
    answer = await submitting
    assert (answer.status_code, answer.json()["state"]) == (202, "queued")
    assert "preference-applied" not in answer.headers


async def test_a_long_poll_ends_with_the_job_or_with_the_server(world: JobWorld) -> None:
    jobs = [(await world.submit()).json() for _ in range(2)]
    polls = [world.soon(world.http.get(job["links"]["self"] + "?wait=30")) for job in jobs]
    (work,) = await world.claim()
    await world.clock.settle()
    assert not any(poll.done() for poll in polls)
    await world.finish(work)
    ended = {(await poll).json()["id"] for poll in polls[:1]} if work.job_id == jobs[0]["id"] else set()
    assert ended == {jobs[0]["id"]}, "the first submitted is the first claimed"
    world.closing.set()
    assert (await polls[1]).json()["state"] == "queued"


async def test_an_idempotency_key_stands_for_one_job(world: JobWorld) -> None:
    path = "/models/iris/jobs?deadline=10m"
    first = await world.submit(path=path, idempotency_key="k")
    world.clock.advance(3)
    again = await world.submit(path=path, idempotency_key="k", x_headway_version="v2")
    assert again.json()["id"] == first.json()["id"]
    other = await world.submit("[[2]]", path=path, idempotency_key="k")
    assert (other.status_code, other.json()["error"]["code"]) == (409, "idempotency_conflict")
    anothers = await world.submit("[[2]]", path=path, idempotency_key="k", x_headway_client="bob")
    assert anothers.status_code == 202


async def test_what_the_gateway_sends_twice_is_stored_once(world: JobWorld) -> None:
    sent = {"x_headway_key": "9f0c", "x_headway_at": "1750000000500"}
    path = "/models/iris/jobs?notBefore=10s"
    ids = {(await world.submit(path=path, **sent)).json()["id"] for _ in range(2)}
    assert len(ids) == 1
    found = (await world.http.get("/models/iris/jobs")).json()["jobs"]
    assert [job["notBefore"] for job in found] == ["2025-06-15T15:06:50.500Z"]
    assert len({(await world.submit(x_headway_key=key)).json()["id"] for key in ("a", "b")}) == 2


async def test_cancel_while_queued_and_while_running(world: JobWorld) -> None:
    queued, running = [(await world.submit()).json()["links"]["self"] for _ in range(2)]
    (work,) = await world.claim()
    assert queued.endswith(work.job_id)
    queued, running = running, queued
    answer = await world.http.delete(queued)
    assert (answer.status_code, answer.json()["state"]) == (200, "canceled")
    answer = await world.http.delete(running)
    assert (answer.status_code, answer.json()["state"]) == (202, "running")
    assert (await world.http.delete(queued)).status_code == 200


async def test_a_list_is_filtered_and_paged(world: JobWorld) -> None:
    ids = [(await world.submit(x_headway_client=client)).json()["id"] for client in "aabab"]
    found = (await world.http.get("/models/iris/jobs?client=a&limit=2")).json()
    assert [job["id"] for job in found["jobs"]] == [ids[3], ids[1]]
    rest = (await world.http.get(f"/models/iris/jobs?client=a&limit=2&before={found['next']}")).json()
    assert ([job["id"] for job in rest["jobs"]], rest["next"]) == ([ids[0]], None)
    assert len((await world.http.get("/models/iris/jobs?state=queued,running")).json()["jobs"]) == 5
    assert (await world.http.get("/models/iris/jobs?state=failed")).json() == {"jobs": [], "next": None}
    assert (await world.http.get("/models/iris/versions/v2/jobs")).json()["jobs"] == []


async def test_a_full_queue_says_when_to_come_back() -> None:
    async with JobWorld(deployment(jobs={"maxQueued": 2})) as world:
        for _ in range(2):
            assert (await world.submit()).status_code == 202
        answer = await world.submit()
        assert (answer.status_code, answer.json()["error"]["code"]) == (429, "overloaded")
        assert int(answer.headers["retry-after"]) > 0


async def test_a_job_is_pinned_or_follows_production() -> None:
    async with JobWorld(deployment("iris", "v1", "v2", jobs={"version": "production"})) as world:
        assert (await world.submit()).json()["version"] is None
        pinned = await world.submit(path="/models/iris/versions/v1/jobs")
        assert pinned.json()["version"] == "v1"
        assert (await world.http.get(pinned.headers["location"])).status_code == 200
        elsewhere = f"/models/iris/versions/v2/jobs/{pinned.json()['id']}"
        assert (await world.http.get(elsewhere)).json()["error"]["code"] == "job_not_found"
        (work,) = await world.claim("v2")
        assert work.job_id != pinned.json()["id"]
        assert await world.claim("v2") == []
        (work,) = await world.claim("v1")
        assert work.job_id == pinned.json()["id"]


async def test_a_version_that_is_not_known_yet_is_looked_up(world: JobWorld) -> None:
    await world.deploy(deployment("wine", "v1"))
    world.clock.advance(0.2)
    assert (await world.submit(path="/models/wine/jobs")).status_code == 202
    await world.deploy(deployment("wine", "v1", "v2"))
    world.clock.advance(0.2)
    answer = await world.submit(path="/models/wine/jobs", x_headway_version="v2")
    assert answer.json()["version"] == "v2"


def events_of(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line and not line.startswith(":"))
        if "data" in fields:
            found.append((fields["event"], json.loads(fields["data"])))
    return found


async def test_events_of_a_job_with_its_progress_to_its_end(world: JobWorld) -> None:
    job = (await world.submit()).json()
    streaming = world.soon(world.http.get(job["links"]["events"]))
    (work,) = await world.claim()
    await world.clock.elapse(2)
    beat = {"job_id": work.job_id, "token": work.token, "fraction": 0.5, "note": "half", "told": True}
    await world.report(beats=[beat])
    await world.clock.elapse(2)
    await world.finish(work)
    answer = await streaming
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = events_of(answer.text)
    names = [name for name, _ in told]
    assert names == ["job_submitted.v1", "job_started.v1", "progress", "job_succeeded.v1", "job"]
    assert told[2][1] == {"fraction": 0.5, "note": "half"}
    assert told[-1][1]["state"] == "succeeded"

    started = told[1][1]["cursor"]
    again = await world.http.get(
        job["links"]["self"], headers={"accept": "text/event-stream", "last-event-id": str(started)}
    )
    assert [name for name, _ in events_of(again.text)] == ["job_succeeded.v1", "job"]
    last = told[3][1]["cursor"]
    assert (await world.http.get(f"{job['links']['events']}?after={last}")).status_code == 204


async def test_events_of_a_model_from_now_or_from_a_cursor(world: JobWorld) -> None:
    await world.submit()
    streams = [world.soon(world.http.get(f"/models/iris/jobs/events{query}")) for query in ("", "?after=0")]
    await world.clock.settle()
    later = (await world.submit()).json()["id"]
    await world.clock.settle()
    world.closing.set()
    now, past = [events_of((await stream).text) for stream in streams]
    assert [event["id"] for _, event in now] == [later]
    assert len(past) == 2


BAD: list[tuple[str, str, dict[str, str], int, str]] = [
    ("POST", "/models/iris/jobs?prority=3", {}, 400, "?prority"),
    ("POST", "/models/iris/jobs?priority=10", {}, 400, "priority"),
    ("POST", "/models/iris/jobs?priority=-1", {}, 400, "priority"),
    ("POST", "/models/iris/jobs?priority=%C2%B2", {}, 400, "priority"),
    ("POST", "/models/iris/jobs?priority=1&priority=2", {}, 400, "?priority"),
    ("POST", "/models/iris/jobs?notBefore=tomorrow", {}, 400, "notBefore"),
    ("POST", "/models/iris/jobs?notBefore=2030-01-01T00:00:00", {}, 400, "notBefore"),
    ("POST", "/models/iris/jobs?notBefore=4000d", {}, 400, "notBefore"),
    ("POST", "/models/iris/jobs?deadline=2020-01-01T00:00:00Z", {}, 400, "deadline"),
    ("POST", "/models/iris/jobs?deadline=1m&notBefore=2m", {}, 400, "deadline"),
    ("POST", "/models/iris/jobs?webhook=ftp://x/y", {}, 400, "webhook"),
    ("POST", "/models/iris/jobs?webhook=http://127.0.0.1/", {}, 400, "webhook"),
    ("POST", "/models/iris/jobs?webhook=http://%5B::1%5D/", {}, 400, "webhook"),
    ("POST", "/models/iris/jobs?webhook=http://u:p@example.com/", {}, 400, "webhook"),
    ("POST", "/models/iris/jobs?route=/metrics", {}, 400, "route"),
    ("POST", "/models/iris/jobs?route=/v2/models/../infer", {}, 400, "route"),
    ("POST", "/models/iris/jobs?route=/v2/models/other/infer", {}, 400, "route"),
    ("POST", "/models/iris/jobs", {"idempotency-key": "k" * 201}, 400, "Idempotency-Key"),
    ("POST", "/models/iris/jobs", {"idempotency-key": "headway:1"}, 400, "Idempotency-Key"),
    ("POST", "/models/iris/jobs", {"idempotency-key": ""}, 400, "Idempotency-Key"),
    ("POST", "/models/iris/jobs", {"prefer": "wait=soon"}, 400, "Prefer"),
    ("POST", "/models/iris/jobs", {"content-type": "x" * 201}, 400, "Content-Type"),
    ("POST", "/models/iris/jobs", {"content-encoding": "br"}, 415, ""),
    ("POST", "/models/iris/jobs", {"inference-header-content-length": "5"}, 422, "Inference-Header-Content-Length"),
    ("POST", "/models/nobody/jobs", {}, 404, ""),
    ("POST", "/models/iris/versions/v9/jobs", {}, 404, ""),
    ("POST", "/models/iris/jobs/batch", {"content-type": "text/csv"}, 415, ""),
    ("POST", "/models/iris/jobs/batch", {"content-type": "application/json"}, 400, "body"),
    (
        "POST",
        "/models/iris/jobs/batch",
        {"content-type": "application/json", "content-encoding": "gzip"},
        415,
        "Content-Encoding",
    ),
    ("GET", "/models/iris/jobs?state=done", {}, 400, "?state"),
    ("GET", "/models/iris/jobs?limit=0", {}, 400, "?limit"),
    ("GET", "/models/iris/jobs?limit=1001", {}, 400, "?limit"),
    ("GET", "/models/iris/jobs?before=x", {}, 400, "?before"),
    ("GET", "/models/iris/jobs?batch=x", {}, 400, "?batch"),
    ("GET", "/models/iris/jobs?version=latest", {}, 400, "?version"),
    ("GET", "/models/iris/jobs?client=%00", {}, 400, "?client"),
    ("GET", "/models/nobody/jobs", {}, 404, ""),
    ("GET", "/models/iris/jobs/UPPERCASE", {}, 400, "ID"),
    ("GET", "/models/iris/jobs/01jxzzzzzzzzzzzzzzzzzzzzzz", {}, 404, ""),
    ("GET", "/models/iris/jobs/01jxzzzzzzzzzzzzzzzzzzzzzz?wait=-1", {}, 400, "?wait"),
    ("GET", "/models/iris/jobs/01jxzzzzzzzzzzzzzzzzzzzzzz?wait=61", {}, 400, "?wait"),
    ("GET", "/models/iris/jobs/01jxzzzzzzzzzzzzzzzzzzzzzz?wait=nan", {}, 400, "?wait"),
    ("GET", "/models/iris/jobs/01jxzzzzzzzzzzzzzzzzzzzzzz/nothing", {}, 404, ""),
    ("GET", "/models/iris/jobs/events?after=x", {}, 400, "?after"),
    ("GET", "/models/iris/jobs/events", {"last-event-id": "99999999999999999999"}, 400, "Last-Event-ID"),
    ("PUT", "/models/iris/jobs", {}, 405, ""),
    ("DELETE", "/models/iris/jobs/batch", {}, 405, ""),
    ("GET", "/elsewhere", {}, 404, ""),
]


@pytest.mark.parametrize(("method", "path", "headers", "status", "where"), BAD)
async def test_bad_input_is_told_and_stores_nothing(
    world: JobWorld, method: str, path: str, headers: dict[str, str], status: int, where: str
) -> None:
    content = b"{}" if method == "POST" else None
    answer = await world.http.request(method, path, content=content, headers={"x-headway-version": "v1", **headers})
    error = answer.json()["error"]
    assert (answer.status_code, error.get("where", "")) == (status, where), error
    assert error["message"]
    assert await world.jobs.counts() == []


async def test_an_input_beyond_the_versions_limit_is_not_read() -> None:
    from dataclasses import replace

    from tests.unit.jobs.world import version

    small = replace(deployment(), versions=(version("v1", server={"maxBodySize": "100"}),))
    async with JobWorld(small) as world:
        assert (await world.submit("x" * 100)).status_code == 202
        assert (await world.submit("x" * 101)).status_code == 413
        lines = b"[1]\n[" + b"1" * 100 + b"]"
        answer = await world.submit(lines, path="/models/iris/jobs/batch", content_type="application/jsonl")
        assert (answer.status_code, answer.json()["error"]["where"]) == (413, "line 2")


async def test_an_endless_body_is_cut_off(world: JobWorld) -> None:
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1000):
            sent += 1
            yield b" " * (1024 * 1024)

    answer = await world.http.post("/models/iris/jobs", content=endless(), headers={"x-headway-version": "v1"})
    assert answer.status_code == 413
    assert sent < 60


async def test_the_document_describes_every_route_and_no_other(world: JobWorld) -> None:
    told = {template: set(methods) for template, methods in openapi.OPERATIONS.items()}
    assert told == {template: set(methods) for template, methods in world.api.routes.items()}
    answer = await world.http.get("/models/iris/jobs/openapi.json")
    document = answer.json()
    assert set(document["paths"]) == {p + t for p in (openapi.PREFIX, openapi.PINNED) for t in told}
    job = (await world.submit()).json()
    assert set(document["components"]["schemas"]["JobView"]["properties"]) == set(job)


async def test_many_at_once(world: JobWorld) -> None:
    answers = await asyncio.gather(*(world.submit() for _ in range(50)))
    assert len({answer.json()["id"] for answer in answers}) == 50
