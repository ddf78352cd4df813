"""What the gateway makes of a single request: routes, headers, refusals."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from headway.adapters.haproxy import HaproxyGateway
from headway.adapters.haproxy.config import Listen, render
from headway.adapters.haproxy.places import Places
from headway.adapters.haproxy.process import end_orphans, spawn
from tests.integration.haproxy.backends import Connection, Replica, call, until
from tests.integration.haproxy.conftest import model, table, version
from tests.waiting import PATIENCE_S, eventually

pytestmark = pytest.mark.anyio
LIMIT = 200_000


@pytest.fixture
async def iris(gateway: HaproxyGateway, home: Path) -> AsyncIterator[dict[str, Replica]]:
    """Model iris: all traffic to v1, v2 pinned only, v3 without a replica."""
    async with Replica(home / "one.sock") as one, Replica(home / "two.sock") as two:
        routes = [
            version("v1", one, max_body_bytes=LIMIT),
            version("v2", two, timeout_s=0.2),
            version("v3"),
        ]
        await gateway.apply(table(model("iris", {"v1": 100, "v2": 0}, *routes)))
        yield {"v1": one, "v2": two}


@pytest.mark.parametrize(
    ("path", "replica", "forwarded"),
    [
        ("/models/iris/predict", "one", "/predict"),
        ("/models/iris", "one", "/"),
        ("/models/iris/", "one", "/"),
        ("/models/iris/v2/models/iris/infer?a=1&b=%2F", "one", "/v2/models/iris/infer?a=1&b=%2F"),
        ("/models/iris/versions/v2/predict", "two", "/predict"),
        ("/models/iris/versions/v2", "two", "/"),
        ("/models/iris/versions/v2/models/iris/versions/v1/predict", "two", "/models/iris/versions/v1/predict"),
        ("http://test/models/iris/predict", "one", "/predict"),
        ("/seldon/prod/iris/api/v1.0/predictions?a=1", "one", "/api/v1.0/predictions?a=1"),
        ("/seldon/prod-2/iris/v2/models/iris/infer", "one", "/v2/models/iris/infer"),
    ],
)
async def test_a_path_leads_to_its_version(
    iris: dict[str, Replica], port: int, path: str, replica: str, forwarded: str
) -> None:
    answer = await call(port, path)
    assert (answer.status, answer.replica) == (200, replica)
    assert answer.json()["path"].removeprefix("http://test") == forwarded
    assert answer.headers["x-headway-version"] == {"one": "v1", "two": "v2"}[replica]


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/", 404, "not_found"),
        ("/models", 404, "not_found"),
        ("/Models/iris/predict", 404, "not_found"),
        ("/v1/models", 404, "not_found"),
        ("/models/", 404, "model_not_found"),
        ("/models/nobody/predict", 404, "model_not_found"),
        ("/models/IRIS/predict", 404, "model_not_found"),
        ("/models/" + "n" * 3000 + "/predict", 404, "model_not_found"),
        ('/models/a"b%0a/predict', 404, "model_not_found"),
        ("/models//predict", 404, "model_not_found"),
        ("/models/iris/versions", 404, "version_not_found"),
        ("/models/iris/versions/", 404, "version_not_found"),
        ("/models/iris/versions/v9/predict", 404, "version_not_found"),
        ("/models/iris/versions/v3/predict", 503, "not_ready"),
        ("/models/..%2firis/predict", 400, "malformed_http"),
        ("/models/iris%2fversions%2fv2/predict", 400, "malformed_http"),
        ("/models/iris%5c..%5cother/predict", 400, "malformed_http"),
        ("/models/iris\\predict", 400, "malformed_http"),
        ("/models/iris/../other/predict", 400, "malformed_http"),
        ("/models/iris/%2e%2E/other/predict", 400, "malformed_http"),
        ("/models/iris/.%2e", 400, "malformed_http"),
        ("/models/./iris/predict", 400, "malformed_http"),
        ("/models/iris/predict%00", 400, "malformed_http"),
        ("/seldon/prod/nobody/api/v1.0/predictions", 404, "model_not_found"),
        ("/seldon/prod/iris/predict", 404, "not_found"),
        ("/seldon/prod/iris/api/../v1.0", 400, "malformed_http"),
        ("/seldon/../models/iris/api/x", 400, "malformed_http"),
    ],
)
async def test_a_wrong_path_is_refused_in_json(
    iris: dict[str, Replica], port: int, path: str, status: int, code: str
) -> None:
    answer = await call(port, path)
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["content-type"] == "application/json"
    assert ("retry-after" in answer.headers) == (status == 503)
    assert "x-request-id" in answer.headers
    assert not iris["v1"].seen
    assert not iris["v2"].seen


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET /models/iris/predict XTTP/1.1\r\n\r\n",
        b"POST /models/iris/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
        b"POST /models/iris/predict HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n",
        b"POST /models/iris/predict HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET /models/iris/pre\x01dict HTTP/1.1\r\nhost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nx: " + b"a" * 200_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\n" + b"a: b\r\n" * 300 + b"\r\n",
    ],
    ids=["words", "version", "two lengths", "negative", "chunk", "control", "huge head", "many fields"],
)
async def test_what_is_not_http_is_refused(iris: dict[str, Replica], port: int, raw: bytes) -> None:
    async with Connection(port) as connection:
        answer = await connection.send(raw)
    assert answer.status == 400
    assert not iris["v1"].seen


async def test_a_body_over_the_limit_never_reaches_the_replica(iris: dict[str, Replica], port: int) -> None:
    async with Connection(port) as connection:
        head = f"POST /models/iris/predict HTTP/1.1\r\nhost: x\r\ncontent-length: {LIMIT + 1}\r\n\r\n"
        answer = await connection.send(head.encode())
    assert (answer.status, answer.code) == (413, "payload_too_large")
    assert (await call(port, "/models/iris/predict", body=b"x" * LIMIT)).json()["size"] == LIMIT
    assert len(iris["v1"].seen) == 1


async def test_a_body_larger_than_the_buffer_passes_through(iris: dict[str, Replica], port: int) -> None:
    body = b"x" * 5_000_000
    assert (await call(port, "/models/iris/versions/v2/predict", body=body)).json()["size"] == len(body)


async def test_a_replica_that_takes_too_long_is_a_504(iris: dict[str, Replica], port: int) -> None:
    answer = await call(port, "/models/iris/versions/v2/predict", headers={"x-do": "never"})
    assert (answer.status, answer.code) == (504, "deadline_exceeded")
    assert len(iris["v2"].seen) == 1  # a slow answer is no reason to ask again


async def test_a_replica_that_breaks_off_every_time_is_a_503(iris: dict[str, Replica], port: int) -> None:
    answer = await call(port, "/models/iris/predict", headers={"x-do": "die"})
    assert (answer.status, answer.code) == (503, "not_ready")
    assert len(iris["v1"].seen) == 1 + 3  # with three retries


@pytest.mark.parametrize("status", [200, 400, 404, 422, 429, 500, 503, 504])
async def test_an_answer_of_the_model_is_passed_on_and_never_retried(
    iris: dict[str, Replica], port: int, status: int
) -> None:
    for _ in range(5):
        answer = await call(port, "/models/iris/predict", headers={"x-do": str(status)})
        assert (answer.status, answer.replica) == (status, "one")
    assert len(iris["v1"].seen) == 5


async def test_headers_tell_the_replica_whose_request_it_is(iris: dict[str, Replica], port: int) -> None:
    forged = {"x-headway-model": "x", "X-Headway-Version": "v9", "x-headway-shadow": "v2", "x-headway-client": "root"}
    forged["X-Headway-Arm"] = "shadow"
    sent = await call(port, "/models/iris/predict", headers={**forged, "x-request-id": "abc.1-2_3", "x-mine": "kept"})
    seen = sent.json()["headers"]
    assert {k: v for k, v in seen.items() if k.startswith("x-")} == {
        "x-headway-model": "iris",
        "x-headway-version": "v1",
        "x-headway-arm": "split",
        "x-request-id": "abc.1-2_3",
        "x-forwarded-for": "127.0.0.1",
        "x-mine": "kept",
    }
    assert sent.headers["x-request-id"] == "abc.1-2_3"
    assert sent.headers["x-headway-replica"] == "one"


@pytest.mark.parametrize("bad", ["", " ", "a b", "x" * 129, 'a"b', "ä", "a,b"])
async def test_a_request_id_that_is_not_sane_is_replaced(iris: dict[str, Replica], port: int, bad: str) -> None:
    answer = await call(port, "/models/iris/predict", headers={"x-request-id": bad})
    given = answer.headers["x-request-id"]
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", given)
    assert answer.json()["headers"]["x-request-id"] == given


async def test_a_connection_is_kept_over_answers_and_refusals(iris: dict[str, Replica], port: int) -> None:
    async with Connection(port) as connection:
        for path, status in [("/healthz", 200), ("/models/iris/predict", 200), ("/nowhere", 404)] * 3:
            assert (await connection.call(path)).status == status
            assert connection.open


async def test_healthz_asks_no_replica(gateway: HaproxyGateway, port: int) -> None:
    answer = await call(port, "/healthz", method="GET", body=b"")
    assert (answer.status, answer.json()) == (200, {"status": "ok"})


async def test_before_the_first_table_a_model_is_not_ready_rather_than_unknown(
    gateway: HaproxyGateway, port: int
) -> None:
    assert (await call(port, "/models/iris/predict")).code == "not_ready"
    await gateway.apply(table())
    assert (await call(port, "/models/iris/predict")).code == "model_not_found"


async def test_more_than_the_queue_holds_is_refused_at_once(gateway: HaproxyGateway, home: Path, port: int) -> None:
    async def queued() -> bool:
        return any(backend.queued for backend in (await gateway._api.backends()).values())

    async with Replica(home / "slow") as slow, Connection(port) as one, Connection(port) as two:
        await gateway.apply(table(model("iris", {"v1": 100}, version("v1", slow, max_concurrency=1))))
        slow.hold()
        first = asyncio.create_task(one.call("/models/iris/predict"))
        await eventually(lambda: slow.seen)
        second = asyncio.create_task(two.call("/models/iris/predict"))
        await until(queued)
        refused = await call(port, "/models/iris/predict")
        assert (refused.status, refused.code) == (429, "overloaded")
        assert refused.headers["retry-after"] == "1"
        slow.let_go()
        assert [(await first).status, (await second).status] == [200, 200]


async def test_waiting_too_long_in_the_queue_is_a_503(gateway: HaproxyGateway, home: Path, port: int) -> None:
    async with Replica(home / "slow") as slow, Connection(port) as one:
        route = version("v1", slow, max_concurrency=1, timeout_s=0.3)
        await gateway.apply(table(model("iris", {"v1": 100}, route)))
        slow.hold()
        first = asyncio.create_task(one.call("/models/iris/predict"))
        await eventually(lambda: slow.seen)
        refused = await call(port, "/models/iris/predict")
        assert (refused.status, refused.code) == (503, "not_ready")
        slow.let_go()
        assert (await first).status == 200


async def test_a_body_that_comes_too_slowly_is_a_408(home: Path, port: int, haproxy: str) -> None:
    places = Places(home, home / "run")
    places.folder.mkdir()
    places.run_dir.mkdir()
    async with Replica(home / "a") as a, Connection(port) as connection:
        routes = table(model("iris", {"v1": 100}, version("v1", a)))
        listen = Listen("127.0.0.1", port, places.internal_socket, places.stats_socket, request_timeout_s=1.0)
        for name, text in render(routes, listen).files().items():
            (places.folder / name).write_text(text, newline="")
        process = await spawn(haproxy, places, "127.0.0.1", port)
        try:
            head = b"POST /models/iris/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n"
            answer = await connection.send(head + b"half")
            assert (answer.status, answer.code) == (408, "request_timeout")
            assert not a.seen
        finally:
            process.send(signal.SIGTERM)
            await process.wait()
            await end_orphans(places)


async def test_a_large_body_is_refused_without_being_taken_in(iris: dict[str, Replica], port: int) -> None:
    """The client sends all it can before it reads, as most do; the answer reaches it all the same."""

    def post(path: str) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
            connection.sendall(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 20000000\r\n\r\n".encode())
            with contextlib.suppress(OSError):
                connection.sendall(b"x" * 20_000_000)
            return connection.recv(100_000)

    assert b" 413 " in await asyncio.to_thread(post, "/models/iris/predict")
    assert b" 404 " in await asyncio.to_thread(post, "/models/nobody/predict")
    assert not iris["v1"].seen
