"""One HTTP connection without a socket: limits, order, back pressure, closing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from headway.server import limits
from headway.server.connections import Shared
from headway.server.http import REQUEST_ID, Renderer, Request, Response
from headway.server.protocol import HttpProtocol

GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"


class Wire(asyncio.Transport):
    """Keeps what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.out = b""
        self.closed = False
        self.half_closed = False
        self.paused = False

    def write(self, data: Any) -> None:
        assert not self.closed
        assert not self.half_closed
        self.out += data

    def write_eof(self) -> None:
        self.half_closed = True

    def can_write_eof(self) -> bool:
        return True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        self.paused = False


class Client:
    """A connection and the requests that reached the application; ``later`` keeps their answers back."""

    def __init__(self, *, later: bool = False, max_body_bytes: int = 1000) -> None:
        self.requests: list[Request] = []
        self.later = later
        renderer = Renderer(version="v3", replica_id="iris-v3-bcdfg", now=0.0)
        self.shared = Shared(self._handle, renderer, max_body_bytes=max_body_bytes)
        self.wire = Wire()
        self.connection = HttpProtocol(self.shared)
        self.connection.connection_made(self.wire)

    def _handle(self, request: Request) -> Response | None:
        self.requests.append(request)
        return None if self.later else Response(200, request.path)

    def send(self, *pieces: bytes) -> list[tuple[int, dict[str, str], bytes]]:
        for piece in pieces:
            self.connection.data_received(piece)
        return self.answers()

    def answer(self, index: int, body: bytes = b"ok") -> None:
        request = self.requests[index]
        request.peer.settle(request, Response(200, body))

    def tick(self, seconds: int) -> None:
        for _ in range(seconds):
            self.shared.tick += 1
            self.connection.check(self.shared.tick)

    def answers(self) -> list[tuple[int, dict[str, str], bytes]]:
        found, rest = [], self.wire.out
        while rest:
            head, _, rest = rest.partition(b"\r\n\r\n")
            line, *fields = head.decode().split("\r\n")
            headers = dict(field.split(": ", 1) for field in fields)
            length = int(headers.get("content-length", "0"))
            found.append((int(line.split()[1]), headers, rest[:length]))
            rest = rest[length:]
        return found

    def refused(self, *pieces: bytes) -> tuple[int, str]:
        """Status and code of the only answer; checks that the connection ends and nothing was handled after."""
        ((status, headers, body),) = self.send(*pieces)
        assert headers["connection"] == "close"
        assert self.wire.half_closed
        return status, json.loads(body)["error"]["code"]


def post(body: bytes, *fields: bytes) -> bytes:
    lines = [b"POST /p HTTP/1.1", b"Host: a", b"Content-Length: %d" % len(body), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def test_a_request_is_handed_over_whole_and_answered_in_one_piece() -> None:
    client = Client()
    ((status, headers, body),) = client.send(b"GET /a/b%20c?q=1&r HTTP/1.1\r\nHost: a\r\nX-Two: 1\r\nx-two: 2\r\n\r\n")
    request = client.requests[0]
    assert (request.method, request.path, request.query) == (b"GET", b"/a/b%20c", b"q=1&r")
    assert request.headers == {b"host": b"a", b"x-two": b"1, 2"}
    assert (status, body) == (200, b"/a/b%20c")
    assert headers["x-headway-version"] == "v3"
    assert headers["x-headway-replica"] == "iris-v3-bcdfg"
    assert headers["date"] == "Thu, 01 Jan 1970 00:00:00 GMT"
    assert "connection" not in headers


def test_a_request_may_come_byte_by_byte() -> None:
    client = Client()
    data = post(b"12345", b"Transfer: x")
    client.send(*(data[i : i + 1] for i in range(len(data))))
    assert client.requests[0].body == b"12345"
    assert len(client.answers()) == 1


def test_chunks_are_joined_and_trailers_ignored() -> None:
    client = Client()
    client.send(
        b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n",
        b"2\r\nde\r\n0\r\nX-Evil: 1\r\n\r\n",
    )
    assert client.requests[0].body == b"abcde"
    assert b"x-evil" not in client.requests[0].headers


@pytest.mark.parametrize(
    ("given", "echoed"),
    [(b"abc-1.2_3", True), (b"x" * 128, True), (b"x" * 129, False), (b"a b", False), (b"a;b", False)],
)
def test_a_sane_request_id_is_echoed_and_any_other_replaced(given: bytes, echoed: bool) -> None:
    ((_, headers, _),) = Client().send(b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: " + given + b"\r\n\r\n")
    assert (headers["x-request-id"] == given.decode()) is echoed
    assert REQUEST_ID.fullmatch(headers["x-request-id"].encode())


def test_head_gets_the_length_and_no_body() -> None:
    client = Client()
    client.send(b"HEAD /path HTTP/1.1\r\nHost: a\r\n\r\n")
    assert b"content-length: 5\r\n" in client.wire.out
    assert client.wire.out.endswith(b"\r\n\r\n")


def test_pipelined_answers_keep_the_order_of_their_requests() -> None:
    client = Client(later=True)
    client.send(GET * 3)
    client.answer(2, b"third")
    client.answer(1, b"second")
    assert client.answers() == []
    client.answer(0, b"first")
    assert [body for _, _, body in client.answers()] == [b"first", b"second", b"third"]


def test_pipelining_beyond_the_bound_pauses_reading_until_answers_are_out() -> None:
    async def main() -> None:
        client = Client(later=True)
        total = limits.MAX_PIPELINED + 40
        client.send(GET * total)
        assert len(client.requests) == limits.MAX_PIPELINED
        assert client.wire.paused
        for index in range(total):
            if index >= len(client.requests):
                await asyncio.sleep(0)
            client.answer(index)
        await asyncio.sleep(0)
        assert len(client.answers()) == total
        assert not client.wire.paused

    asyncio.run(main())


def test_a_client_that_does_not_read_is_not_read_from_and_in_the_end_cut_off() -> None:
    client = Client()
    client.connection.pause_writing()
    paused = [client.wire.paused]
    client.connection.resume_writing()
    paused.append(client.wire.paused)
    client.connection.pause_writing()
    assert paused == [True, False]
    client.tick(limits.WRITE_TIMEOUT_TICKS)
    assert client.wire.closed


@pytest.mark.parametrize(
    "data",
    [
        b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na",
        b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na",
        b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na",
        b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\na",
        b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 1e2\r\n\r\na",
        b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /p HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
        b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"GET /x HTTP/1.1\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /x HTTP/2.0\r\nHost: a\r\n\r\n",
        b"GET /x HTTP/2.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
        b"GET /x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost : a\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        b"GET /x HTTP/1.1\nHost: a\n\n",
        b"GET /\xff\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\x00\r\n\r\n",
        b"BREW /x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01",
    ],
)
def test_what_is_not_plain_http_is_refused_and_the_connection_closed(data: bytes) -> None:
    client = Client()
    assert client.refused(data) == (400, "malformed_http")
    assert client.requests == []


@pytest.mark.parametrize(
    "data",
    [
        b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 101 + b"\r\n",
    ],
)
def test_headers_have_limits(data: bytes) -> None:
    assert Client().refused(data) == (431, "headers_too_large")


def test_a_header_without_end_is_not_gathered_for_ever() -> None:
    client = Client()
    client.send(b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
    sent = 0
    while not client.wire.out:
        client.send(b"x" * 4096)
        sent += 4096
        assert sent < 100_000
    assert client.answers()[0][0] == 431


def test_a_declared_body_above_the_limit_is_refused_before_it_comes() -> None:
    client = Client(max_body_bytes=1000)
    head = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\nExpect: 100-continue\r\n\r\n"
    assert client.refused(head) == (413, "payload_too_large")
    assert b"100 Continue" not in client.wire.out


def test_a_chunked_body_is_refused_as_soon_as_it_is_above_the_limit() -> None:
    client = Client(max_body_bytes=1000)
    head = b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"190\r\n" + b"x" * 400 + b"\r\n"
    assert client.refused(head, chunk, chunk, chunk) == (413, "payload_too_large")


def test_a_body_at_the_limit_passes() -> None:
    client = Client(max_body_bytes=1000)
    assert client.send(post(b"x" * 1000))[0][0] == 200


def test_chunk_framing_cannot_grow_without_body() -> None:
    client = Client(max_body_bytes=10_000_000)
    client.send(b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    client.send(b"0\r\nX: ")
    sent = 0
    while not client.wire.out:
        client.send(b"x" * 65536)
        sent += 65536
        assert sent < 2_000_000
    assert client.answers()[0][0] in (413, 431)


def test_large_bodies_share_a_budget_that_is_given_back() -> None:
    client = Client(later=True, max_body_bytes=200_000)
    client.shared.body_budget = 250_000
    client.send(post(b"x" * 150_000))
    assert client.shared.body_budget == 100_000
    other = HttpProtocol(client.shared)
    wire = Wire()
    other.connection_made(wire)
    other.data_received(post(b"x" * 150_000))
    assert wire.out.startswith(b"HTTP/1.1 429")
    client.answer(0)
    assert client.shared.body_budget == 250_000
    client.send(b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 150000\r\n\r\n", b"x" * 100_000)
    assert client.shared.body_budget == 100_000
    client.connection.connection_lost(None)
    assert client.shared.body_budget == 250_000


def test_a_growing_chunked_body_takes_from_the_budget() -> None:
    client = Client(max_body_bytes=10_000_000)
    client.shared.body_budget = 1_000_000
    head = b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    client.send(head)
    for _ in range(30):
        client.send(chunk)
    assert client.answers()[0][0] == 429
    assert client.shared.body_budget == 1_000_000


def test_expect_continue_is_answered_before_the_body() -> None:
    client = Client()
    head = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    client.send(head)
    assert client.wire.out == b"HTTP/1.1 100 Continue\r\n\r\n"
    client.send(b"ab")
    assert client.requests[0].body == b"ab"


def test_expect_continue_waits_for_the_answers_before_it() -> None:
    client = Client(later=True)
    client.send(GET, b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert client.wire.out == b""
    client.answer(0, b"first")
    assert client.wire.out.endswith(b"firstHTTP/1.1 100 Continue\r\n\r\n")


@pytest.mark.parametrize(
    ("head", "stays"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", True),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
def test_the_connection_stays_or_ends_as_asked(head: bytes, stays: bool) -> None:
    client = Client()
    ((_, headers, _),) = client.send(head)
    assert client.wire.half_closed is not stays
    if not stays:
        assert headers["connection"] == "close"
        client.send(GET)
        assert len(client.requests) == 1
    elif b"1.0" in head:
        assert headers["connection"] == "keep-alive"


def test_asking_for_another_protocol_is_ignored() -> None:
    client = Client()
    fields = b"Connection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAM\r\n\r\n"
    client.send(b"HEAD /x HTTP/1.1\r\nHost: a\r\n" + fields + GET)
    assert [r.method for r in client.requests] == [b"HEAD", b"GET"]
    assert len(client.requests) == 2


def test_an_upgrade_with_a_body_is_refused_for_it_can_be_read_in_two_ways() -> None:
    client = Client()
    assert client.refused(post(b"ab", b"Connection: upgrade", b"Upgrade: h2c") + GET) == (400, "malformed_http")
    assert client.requests == []


def test_after_a_refusal_earlier_answers_come_first() -> None:
    client = Client(later=True)
    client.send(GET + b"nonsense\r\n\r\n")
    assert client.answers() == []
    client.answer(0)
    assert [status for status, _, _ in client.answers()] == [200, 400]
    assert client.wire.half_closed


def test_a_closing_connection_is_given_time_to_read_then_cut() -> None:
    client = Client()
    client.refused(b"nonsense\r\n\r\n")
    client.send(b"more of it")
    client.tick(limits.LINGER_TICKS - 1)
    assert not client.wire.closed
    client.tick(1)
    assert client.wire.closed


def test_slow_headers_and_bodies_are_ended_with_408() -> None:
    client = Client()
    client.send(b"GET / HTTP/1.1\r\n")
    client.tick(limits.HEADER_TIMEOUT_TICKS - 1)
    client.send(b"Host: a\r\n")
    assert client.wire.out == b""
    client.tick(1)
    assert client.answers()[0][0] == 408
    client = Client()
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
    client.tick(limits.BODY_TIMEOUT_TICKS - 1)
    client.send(b"x")
    assert client.wire.out == b""
    client.tick(1)
    assert client.answers()[0][0] == 408


def test_a_large_body_that_keeps_coming_has_more_time() -> None:
    client = Client(max_body_bytes=10_000_000)
    client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n")
    for _ in range(2 * limits.BODY_TIMEOUT_TICKS):
        client.send(b"x" * 20_000)
        client.tick(1)
    assert client.wire.out == b""


def test_an_idle_connection_is_closed_a_waiting_one_is_not() -> None:
    client = Client()
    client.tick(limits.KEEP_ALIVE_TICKS)
    assert client.wire.closed
    client = Client(later=True)
    client.send(GET)
    client.tick(10 * limits.KEEP_ALIVE_TICKS)
    assert not client.wire.closed
    assert client.connection.busy


def test_while_draining_every_answer_closes_and_idle_connections_go() -> None:
    client = Client(later=True)
    client.send(GET)
    client.shared.draining = True
    client.connection.close_if_idle()
    assert not client.wire.closed
    client.answer(0)
    assert client.answers()[0][1]["connection"] == "close"
    assert client.wire.half_closed
    assert not client.connection.busy
    idle = Client()
    idle.connection.close_if_idle()
    assert idle.wire.closed


def test_a_lost_connection_abandons_its_work() -> None:
    abandoned: list[Callable[[], None]] = []

    class Work:
        def abandon(self) -> None:
            abandoned.append(self.abandon)

    client = Client(later=True)
    client.send(GET * 2)
    for request in client.requests:
        request.work = Work()
    client.connection.connection_lost(None)
    assert len(abandoned) == 2
    client.answer(0)
    assert client.wire.out == b""


def test_connections_beyond_the_bound_are_turned_away() -> None:
    client = Client()
    client.shared.max_connections = 1
    wire = Wire()
    HttpProtocol(client.shared).connection_made(wire)
    assert wire.out.startswith(b"HTTP/1.1 429")
    assert wire.half_closed
