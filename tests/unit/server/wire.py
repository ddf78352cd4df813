"""A connection without a socket, and a client that speaks to it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from headway.server.connections import Shared
from headway.server.http import Renderer, Request, Response
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
