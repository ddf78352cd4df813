"""The gateway's own lines: one for what it answered or retried, none for anything else."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

import pytest

from headway.adapters.haproxy import HaproxyGateway
from headway.adapters.haproxy.config import Listen, render
from headway.adapters.haproxy.places import Places
from headway.adapters.haproxy.process import end_orphans, spawn
from tests.integration.haproxy.backends import Connection, Replica, call, until
from tests.integration.haproxy.conftest import model, table, version
from tests.integration.haproxy.gateway_log import Log
from tests.waiting import eventually

pytestmark = pytest.mark.anyio
PREDICT = "/models/iris/predict"


@pytest.mark.parametrize(
    ("path", "secret", "expected"),
    [
        ("/models/iris/predict", "hw_nobody", {"status": 401, "model": "iris"}),
        ("/models/iris/predict", "hw_narrow", {"status": 403, "model": "iris"}),
        ("/models/nobody/predict?key=hidden", "hw_app", {"status": 404, "model": "nobody", "client": "app"}),
        ("/models/iris/versions/v9/a", None, {"status": 404, "model": "iris", "version": "v9", "arm": "pinned"}),
        ("/models/iris/versions/v3/a", None, {"status": 503, "model": "iris", "version": "v3", "arm": "pinned"}),
        ("/models/IRIS/a", None, {"status": 404}),
        ("/models/-iris/a", None, {"status": 404}),
        ("/models/iris-/a", None, {"status": 404}),
        (f"/models/{'n' * 40}/", None, {"status": 404, "model": "n" * 40}),
        (f"/models/{'n' * 41}/", None, {"status": 404}),
        ("/models/", None, {"status": 404}),
        ("/models//predict", None, {"status": 404}),
        ("/models/iris/versions/", None, {"status": 404, "model": "iris", "arm": "pinned"}),
        ("/models/iris/versions/v01/", None, {"status": 404, "model": "iris", "arm": "pinned"}),
        ("/models/iris/versions/v1234567890/", None, {"status": 404, "model": "iris", "arm": "pinned"}),
        ("/models/iris/../wine", None, {"status": 400}),
        ('/models/a"b%0a,\\u0022]/x', None, {"status": 400}),
        ('/models/a"],[0,"/predict', None, {"status": 404}),
        ("/models/iris/versions/\"'{}[]%00", None, {"status": 400}),
        ("/models/iris/versions/v1\"'", None, {"status": 404, "model": "iris", "arm": "pinned"}),
        ("/models/iris/" + "p" * 500, "hw_nobody", {"status": 401, "model": "iris"}),
        ("/models/" + '"' * 500, None, {"status": 404}),
    ],
)
async def test_a_refusal_is_one_line(
    iris: object, log: Log, port: int, path: str, secret: str | None, expected: dict[str, object]
) -> None:
    before_ms = time.time() * 1000
    headers = {"authorization": f"Bearer {secret}"} if secret else {}
    answer = await call(port, path, headers=headers)
    [line] = await log.wait_for(1)
    same = {
        "line": 1,
        "status": answer.status,
        "retries": 0,
        "server": "<NOSRV>",
        "ends": "LR",
        "request_id": answer.headers["x-request-id"],
        "model": "",
        "version": "",
        "client": "",
        "arm": "split",
        "path": path.partition("?")[0][:200],
    }
    assert {name: line[name] for name in same} == {**same, **expected}
    assert before_ms - 1000 < line["at_ms"] < time.time() * 1000 + 1000
    assert 0 <= line["total_ms"] < 10_000
    assert line["bytes_in"] > len(path.partition("?")[0]) - 20
    assert line["bytes_out"] > len(answer.body)
    assert "hw_" not in log.text()
    assert "hidden" not in log.text()


async def test_what_a_replica_answers_is_no_line(iris: tuple[Replica, Replica], log: Log, port: int) -> None:
    async with Connection(port) as connection:
        for status in (200, 201, 400, 404, 429, 500, 502, 503, 504):
            answer = await connection.call(PREDICT, headers={"x-do": str(status)})
            assert (answer.status, answer.replica) == (status, "a")
        assert (await connection.call("/models/iris/versions/v2/predict")).replica == "b"
        for path in ("/healthz", "/", "/nowhere", "/models", "/Models/iris/", "/x/models/iris"):
            await connection.call(path)
        assert (await connection.call("/../x")).status == 400
    async with Connection(port) as silent:  # connects, sends nothing
        await silent._open()
    assert await log.until_last(port) == []


async def test_a_full_queue_a_long_wait_and_a_slow_replica(
    gateway: HaproxyGateway, iris: tuple[Replica, Replica], log: Log, port: int
) -> None:
    a, b = iris

    async def queued() -> bool:
        return any(backend.queued for backend in (await gateway._api.backends()).values())

    a.hold()
    held = asyncio.create_task(call(port, PREDICT))
    await eventually(lambda: a.seen)
    waiting = asyncio.create_task(call(port, PREDICT, headers={"authorization": "Bearer hw_app"}))
    await until(queued)
    refused = await call(port, PREDICT)
    late = await waiting
    a.let_go()
    assert (await held).status == 200
    b.hold()
    slow = await call(port, "/models/iris/versions/v2/predict")
    b.let_go()
    large = await call(port, PREDICT, body=b"x" * 2000)
    lines = await log.wait_for(4)
    ids = [answer.headers["x-request-id"] for answer in (refused, late, slow, large)]
    assert [line["request_id"] for line in lines] == ids
    assert [line["status"] for line in lines] == [429, 503, 504, 413]
    assert [line["ends"] for line in lines] == ["LR", "sQ", "sH", "LR"]
    assert [line["server"].partition(".")[0] for line in lines] == ["<NOSRV>", "<NOSRV>", "b", "<NOSRV>"]
    assert [line["version"] for line in lines] == ["v1", "v1", "v2", "v1"]
    assert [line["client"] for line in lines] == ["", "app", "", ""]
    assert 2000 <= lines[1]["total_ms"] < 20_000
    assert 2100 <= lines[2]["total_ms"] < 20_000


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET /models/iris/pre\x01dict HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET /models/\xff\xfe HTTP/1.1\r\nhost: x\r\n\r\n",
        b"POST /models/iris/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"GET /models/iris/predict HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 200_000 + b"\r\n\r\n",
    ],
    ids=["words", "control", "bytes", "two lengths", "huge head"],
)
async def test_what_is_not_http_is_a_line_that_knows_nothing(iris: object, log: Log, port: int, raw: bytes) -> None:
    async with Connection(port) as connection:
        assert (await connection.send(raw)).status == 400
    [line] = await log.wait_for(1)
    told = {name: line[name] for name in ("status", "retries", "server", "request_id", "model", "version", "path")}
    assert list(told.values()) == [400, 0, "<NOSRV>", "", "", "", ""]


async def test_a_body_that_comes_too_slowly(home: Path, port: int, haproxy: str, log: Log) -> None:
    places = Places(home, home / "run")
    places.folder.mkdir()
    places.run_dir.mkdir()
    async with Replica(home / "a") as a, Connection(port) as connection, Connection(port) as other:
        routes = table(model("iris", {"v1": 100}, version("v1", a)))
        listen = Listen("127.0.0.1", port, places.internal_socket, places.stats_socket, request_timeout_s=1.0)
        for name, text in render(routes, listen).files().items():
            (places.folder / name).write_text(text, newline="")
        process = await spawn(haproxy, places, "127.0.0.1", port)
        try:
            head = b"POST /models/iris/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n"
            assert (await connection.send(head + b"half")).status == 408
            assert (await other.send(head[:-2])).status == 408
        finally:
            process.send(signal.SIGTERM)
            await process.wait()
            await end_orphans(places)
    lines = await log.wait_for(2)
    assert [(line["status"], line["model"], line["ends"]) for line in lines] == [(408, "iris", "cR"), (408, "", "cR")]


@pytest.mark.parametrize("status", [200, 500])
async def test_a_retry_is_a_line_whatever_its_end(
    gateway: HaproxyGateway, replicas: tuple[Replica, Replica], log: Log, port: int, status: int
) -> None:
    await gateway.apply(table(model("iris", {"v1": 100}, version("v1", *replicas))))
    for replica in replicas:
        replica.hold()
    request = asyncio.create_task(call(port, PREDICT, headers={"x-do": str(status)}))
    await eventually(lambda: any(replica.seen for replica in replicas))
    victim, other = replicas if replicas[0].seen else reversed(replicas)
    other.let_go()
    victim.die()
    answer = await request
    assert (answer.status, answer.replica) == (status, other.name)
    [line] = await log.wait_for(1)
    assert (line["status"], line["retries"], line["ends"]) == (status, 1, "--")
    assert line["server"].startswith(f"{other.name}.")
    assert (line["model"], line["version"], line["path"]) == ("iris", "v1", PREDICT)


async def test_a_replica_that_always_breaks_off_is_a_503_as_the_client_saw_it(
    iris: object, log: Log, port: int
) -> None:
    answer = await call(port, PREDICT, headers={"x-do": "die"})
    [line] = await log.wait_for(1)
    assert (answer.status, line["status"], line["retries"], line["ends"]) == (503, 503, 3, "SH")


async def test_all_replicas_dead(
    gateway: HaproxyGateway, replicas: tuple[Replica, Replica], log: Log, port: int
) -> None:
    await gateway.apply(table(model("iris", {"v1": 100}, version("v1", *replicas))))
    for replica in replicas:
        replica.die()
    first = await call(port, PREDICT)
    assert first.status == 503

    async def none_left() -> bool:
        answers = [s.status for b in (await gateway._api.backends()).values() for s in b.servers.values()]
        return all(status.startswith("DOWN") for status in answers)

    await until(none_left)
    second = await call(port, PREDICT)
    lines = await log.wait_for(2)
    assert [line["request_id"] for line in lines] == [a.headers["x-request-id"] for a in (first, second)]
    assert [line["status"] for line in lines] == [503, 503]
    assert lines[1]["ends"].startswith("LR")


async def test_the_only_replica_dies_after_its_connection_was_used(
    gateway: HaproxyGateway, replicas: tuple[Replica, Replica], log: Log, port: int
) -> None:
    a, _ = replicas
    await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a))))
    await call(port, PREDICT)
    a.hold()
    request = asyncio.create_task(call(port, PREDICT))
    await eventually(lambda: len(a.seen) == 2)
    a.die()
    answer = await request
    assert (answer.status, answer.code) == (503, "not_ready")
    [line] = await log.wait_for(1)
    assert (line["status"], line["ends"][:2], line["server"]) == (503, "LR", "gateway waiting")
    assert line["retries"] >= 1


@pytest.mark.parametrize("first", [b"", b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"], ids=["fresh", "kept"])
async def test_a_client_that_goes_away(
    gateway: HaproxyGateway, iris: tuple[Replica, Replica], log: Log, port: int, first: bytes
) -> None:
    a, _ = iris
    await gateway.apply(table(model("iris", {"v1": 100}, version("v1", a, max_concurrency=1))))
    a.hold()
    request = b"POST /models/iris/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nx-request-id: %b\r\n\r\n[]"

    async def start(name: bytes) -> asyncio.StreamWriter:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(first + request % name)
        return writer

    async def queued() -> bool:
        return any(backend.queued for backend in (await gateway._api.backends()).values())

    served = await start(b"served")
    await eventually(lambda: a.seen)
    waits = await start(b"waits")
    await until(queued)
    waits.close()
    [line] = await log.wait_for(1)
    assert (line["request_id"], line["status"], line["ends"], line["server"]) == ("waits", -1, "CQ", "<NOSRV>")
    served.close()
    _, line = await log.wait_for(2)
    assert (line["request_id"], line["ends"][0]) == ("served", "C")
    assert line["server"].startswith("a.")
    a.let_go()
    assert len(a.seen) == 1, "who left the queue is not served"
