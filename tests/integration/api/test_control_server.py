"""The control listener over TCP: it always stops, tells what it refuses, and bounds what it takes."""

from __future__ import annotations

import asyncio
import json
import socket

import httpx
import pytest

from headway.api.bodies import MAX_JSON_BYTES
from headway.api.server import bind
from headway.domain.events import EventType, NewEvent
from tests.integration.api.conftest import Served
from tests.unit.api.world import ADMIN
from tests.waiting import PATIENCE_S, wait_until

AUTH = {"authorization": f"Bearer {ADMIN}"}
SSE = {**AUTH, "accept": "text/event-stream"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def record(served: Served, count: int, size: int = 0) -> None:
    async def append() -> int:
        data = {"text": "x" * size}
        return await served.world.event_log.append([NewEvent(0.0, EventType.ROUTE_APPLIED, data=data)] * count)

    served.run(append)


def raw(served: Served, request: bytes) -> bytes:
    """The whole answer to a request that is sent byte for byte."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S) as connection:
        connection.sendall(request)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


def test_a_stream_that_was_cut_off_is_resumed_without_gap_or_repetition(served: Served) -> None:
    record(served, 20)
    seen: list[int] = []
    with httpx.Client(base_url=served.url, timeout=PATIENCE_S) as client:
        while len(seen) < 40:
            resume = {"last-event-id": str(seen[-1])} if seen else {}
            taken = 0
            with client.stream("GET", "/v1/events", headers={**SSE, **resume}) as answer:
                for line in answer.iter_lines():
                    if line.startswith("id: "):
                        seen.append(int(line.removeprefix("id: ")))
                        taken += 1
                        if len(seen) == 10:
                            record(served, 30)
                        if taken == 7:
                            break
    assert seen == list(range(1, len(seen) + 1))


def test_streams_do_not_keep_the_server_from_stopping(served: Served) -> None:
    with (
        httpx.Client(base_url=served.url, timeout=PATIENCE_S) as client,
        client.stream("GET", "/v1/events", headers=SSE) as events,
        client.stream("GET", "/v1/models/iris/logs?follow=true", headers=AUTH) as logs,
    ):
        lines = events.iter_lines()
        next(lines)
        served.stop()
        # Both bodies come to their proper end: cut off when the server's grace was over, httpx would raise.
        assert list(lines)[-1] == ""
        assert list(logs.iter_lines()) == []


def test_a_client_that_has_stopped_reading_does_not_keep_the_server(served: Served) -> None:
    record(served, 5_000, size=10_000)
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        head = f"GET /v1/events HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\n"
        connection.sendall(f"{head}Accept: text/event-stream\r\n\r\n".encode())
        assert connection.recv(10)
        served.stop()  # within its own limit


def test_an_idle_connection_does_not_keep_the_server(served: Served) -> None:
    with (
        socket.create_connection(("127.0.0.1", served.port)) as idle,
        httpx.Client(base_url=served.url, timeout=PATIENCE_S) as kept_alive,
    ):
        assert kept_alive.get("/healthz").status_code == 200
        served.stop()
        assert idle.recv(1) == b""


@pytest.mark.parametrize("size", [MAX_JSON_BYTES + 1, 8 * MAX_JSON_BYTES])
def test_a_client_that_sends_too_much_gets_to_read_why(served: Served, size: int) -> None:
    head = f"POST /v1/tokens HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\nConnection: close\r\n"
    kind = "Content-Type: application/json\r\n"
    announced = f"{head}{kind}Content-Length: {size}\r\n\r\n".encode() + b" " * size
    chunked = f"{head}{kind}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n".encode() + b" " * size + b"\r\n0\r\n\r\n"
    for request in (announced, chunked):
        answer = raw(served, request)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "payload_too_large"


def test_a_refused_body_is_not_invited(served: Served) -> None:
    """A client that waits for ``100 Continue`` is told no before it sends anything."""
    head = f"PUT /v1/bundles/{'0' * 64} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\n"
    answer = raw(served, f"{head}Content-Length: 1000000\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"100 Continue" not in answer


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /v1/models HTTP/1.1\r\n" + b"X: " + b"x" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\n\r\n",
        b"GET /v1/models\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/tokens HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET http://evil.example/v1/models HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    ],
    ids=lambda line: str(line[:30]),
)
def test_what_is_not_proper_http_is_refused_and_harms_nobody(served: Served, request_line: bytes) -> None:
    with socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_S) as connection:
        connection.sendall(request_line)
        connection.shutdown(socket.SHUT_WR)
        answer = connection.recv(65536)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert httpx.get(f"{served.url}/v1/models", headers=AUTH, timeout=PATIENCE_S).status_code == 200


def test_a_client_that_leaves_in_the_middle_of_a_body_leaves_nothing_behind(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    head = f"PUT /v1/bundles/{'0' * 64} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ADMIN}\r\n"
    with socket.create_connection(("127.0.0.1", served.port)) as connection:
        connection.sendall(f"{head}Content-Type: application/gzip\r\nContent-Length: 900000\r\n\r\nhalf".encode())
        wait_until(lambda: served.world.bundles.received == 4, what="the first bytes of the upload")
    wait_until(lambda: not served.server.server_state.tasks, what="the end of the request")
    assert "0" * 64 not in served.world.bundles.stored
    assert "Exception" not in caplog.text


def test_neither_the_server_nor_the_token_is_told(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    answer = httpx.get(f"{served.url}/v1/models?token={ADMIN}", headers=AUTH, timeout=PATIENCE_S)
    assert answer.status_code == 400
    assert "server" not in answer.headers
    served.stop()
    logged = [record.getMessage() for record in caplog.records if not record.name.startswith("http")]
    assert logged
    assert ADMIN not in "\n".join(logged)


@pytest.mark.anyio
async def test_the_body_of_an_answer_does_not_wait_for_the_acknowledgement_of_its_head() -> None:
    """With asyncio's own loop; uvloop sets it in any case."""
    accepted: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def look(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.set_result(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async with await asyncio.start_server(look, sock=bind("127.0.0.1", 0)) as server:
        _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        assert await accepted
        writer.close()
        await writer.wait_closed()
