"""One HTTP connection without a socket: hand-over, order of answers, back pressure, closing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from headway.server import limits
from headway.server.http import REQUEST_ID
from tests.unit.server.wire import GET, Client, post


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
        queued_ns = 0
        rows = 1

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
