"""What one HTTP connection refuses, and what it will not wait for."""

from __future__ import annotations

import pytest

from headway.domain.errors import Overloaded
from headway.server import limits
from headway.server.protocol import HttpProtocol
from tests.unit.server.wire import GET, Client, Wire, post


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


def test_an_upgrade_with_a_body_is_refused_for_it_can_be_read_in_two_ways() -> None:
    client = Client()
    assert client.refused(post(b"ab", b"Connection: upgrade", b"Upgrade: h2c") + GET) == (400, "malformed_http")
    assert client.requests == []


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


def test_connections_beyond_the_bound_are_turned_away() -> None:
    client = Client()
    client.shared.max_connections = 1
    wire = Wire()
    HttpProtocol(client.shared).connection_made(wire)
    assert wire.out.startswith(b"HTTP/1.1 429")
    assert wire.half_closed


def test_what_a_body_grows_to_is_charged_until_it_is_answered() -> None:
    client = Client(later=True)
    client.shared.body_budget = 100_000
    client.send(post(b"ab"), post(b"cd"))
    first, second = client.requests
    first.peer.charge(first, 80_000)
    assert client.shared.body_budget == 20_000
    with pytest.raises(Overloaded):
        second.peer.charge(second, 80_000)
    client.answer(0)
    assert client.shared.body_budget == 100_000
    second.peer.charge(second, 80_000)
    client.connection.connection_lost(None)
    assert client.shared.body_budget == 100_000
