"""One HTTP/1.1 connection: httptools underneath, our own limits and ordering on top.

The parser (llhttp, strict) refuses what has two readings: repeated or malformed lengths, a length beside
chunks, bare line feeds, folded headers. This module adds what a parser does not know: sizes, counts,
time, order of pipelined answers, back pressure, and a close that does not destroy the answer
(RFC 9112 section 9.6).

Time is the server's tick, one a second: no timer per request. Memory per connection is bounded by the
header limit, the body limit (checked before anything is kept) and one read's worth of pipelined
requests; bodies of all connections together by a budget.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from time import perf_counter_ns
from typing import Final, cast

import httptools

from headway.domain.errors import (
    HeadersTooLarge,
    HeadwayError,
    MalformedHttp,
    Overloaded,
    PayloadTooLarge,
    RequestTimeout,
)
from headway.domain.query_segments import CLIENT_CLOSED
from headway.server.connections import Shared
from headway.server.http import Request, Response, error_response
from headway.server.limits import (
    BODY_BYTES_PER_TICK_SHIFT,
    BODY_TIMEOUT_TICKS,
    FRAMING_BYTES,
    FREE_BODY_BYTES,
    HEADER_TIMEOUT_TICKS,
    KEEP_ALIVE_TICKS,
    LINGER_TICKS,
    MAX_HEADER_BYTES,
    MAX_HEADER_FIELDS,
    MAX_PIPELINED,
    MAX_TARGET_BYTES,
    WRITE_TIMEOUT_TICKS,
)

log = logging.getLogger("headway.server")

_IDLE, _HEAD, _BODY = range(3)
_SINGLE: Final = frozenset({b"host", b"content-length", b"content-type", b"content-encoding", b"transfer-encoding"})


class _Refused(Exception):
    """Stops the parser; carries the answer."""

    def __init__(self, error: HeadwayError) -> None:
        super().__init__(error.message)
        self.error = error


class HttpProtocol(asyncio.Protocol):
    """Parses requests, hands each to ``shared.handle`` and writes the answers in the requests' order."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Request] = deque()
        """Requests whose answer is not written yet, oldest first."""
        self._parked: deque[Request] = deque()
        """Those of them that have not been handed to the application."""
        self._state = _IDLE
        self._since = shared.tick
        self._deaf = False
        """Nothing that arrives from now on is a request."""
        self._lingering = False
        self._writing_paused = False
        self._reading_paused = False
        self._continue_due = False
        self._refusal: _Refused | None = None
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._head_bytes = 0
        self._fields = 0
        self._body: bytes | bytearray = b""
        self._body_bytes = 0
        self._raw_bytes = 0
        self._reserved = 0
        self._keep_alive = False

    # -- the transport's side ----------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        shared = self._shared
        shared.connections.add(self)
        if len(shared.connections) > shared.max_connections:
            self._refuse(Overloaded("too many connections", details={"retry_after_s": 1}))

    def connection_lost(self, exc: Exception | None) -> None:
        self._shared.connections.discard(self)
        self._deaf = True
        self._drop_queue()

    def data_received(self, data: bytes) -> None:
        while data and not self._deaf:
            try:
                self._parser.feed_data(data)
            except httptools.HttpParserUpgrade as upgrade:
                # Asking for another protocol may be ignored (RFC 9110 section 7.8); the rest is HTTP still.
                data = data[upgrade.args[0] :]
                continue
            except httptools.HttpParserError as error:
                self._refuse(self._reason(error))
            else:
                if self._state != _IDLE:
                    self._count(len(data))
            return

    def _count(self, received: int) -> None:
        """Bound what the parser keeps for itself: an unfinished header, chunk extensions, trailers."""
        self._raw_bytes += received
        if self._state == _HEAD:
            # One read may end in the middle of the headers and hold earlier requests: allow for one such read.
            if self._raw_bytes - received > MAX_HEADER_BYTES:
                self._refuse(HeadersTooLarge(f"request line and headers above {MAX_HEADER_BYTES} bytes"))
        elif self._raw_bytes - self._body_bytes > FRAMING_BYTES + self._body_bytes // 8:
            self._refuse(PayloadTooLarge("more chunk framing than body", hint="send larger chunks"))

    def _reason(self, error: httptools.HttpParserError) -> HeadwayError:
        if self._refusal is not None:
            return self._refusal.error
        if isinstance(error, httptools.HttpParserCallbackError):
            log.error("a fault in the HTTP layer", exc_info=error)
            return HeadwayError("internal error")
        return MalformedHttp(f"not a valid HTTP/1.1 request: {str(error) or type(error).__name__}")

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._since = self._shared.tick
        self._pause_reading()

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._since = self._shared.tick
        self._resume_reading()

    def _pause_reading(self) -> None:
        if not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._reading_paused and not self._writing_paused and not self._parked and not self._transport.is_closing():
            self._reading_paused = False
            self._transport.resume_reading()

    # -- the parser's side ---------------------------------------------------------------------

    def _stop(self, error: HeadwayError) -> _Refused:
        self._refusal = _Refused(error)
        return self._refusal

    def on_url(self, url: bytes) -> None:
        if self._state == _IDLE:
            self._state = _HEAD
            self._since = self._shared.tick
            self._target = url
        else:
            self._target += url
        self._head_bytes += len(url)
        if self._head_bytes > MAX_TARGET_BYTES:
            raise self._stop(HeadersTooLarge(f"request target above {MAX_TARGET_BYTES} bytes"))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        self._fields += 1
        if self._head_bytes > MAX_HEADER_BYTES:
            raise self._stop(HeadersTooLarge(f"request line and headers above {MAX_HEADER_BYTES} bytes"))
        if self._fields > MAX_HEADER_FIELDS:
            raise self._stop(HeadersTooLarge(f"more than {MAX_HEADER_FIELDS} header fields"))
        if self._state == _BODY:
            return  # a trailer: nothing here reads them
        name = name.lower()
        headers = self._headers
        if name not in headers:
            headers[name] = value
        elif name in _SINGLE:
            raise self._stop(MalformedHttp(f"header {name.decode('latin-1')} given twice"))
        else:
            headers[name] += b", " + value

    def on_headers_complete(self) -> None:
        self._state = _BODY
        self._raw_bytes = 0
        headers = self._headers
        keep_alive = self._keep_alive = self._parser.should_keep_alive()
        if not keep_alive or b"host" not in headers or b"connection" in headers:
            self._check_version()
        length = headers.get(b"content-length")
        if length is not None:
            size = int(length)
            self._check_size(size)
            if size > FREE_BODY_BYTES:
                self._reserve(size)
        else:
            coding = headers.get(b"transfer-encoding")
            if coding is None:
                return
            if coding.strip().lower() != b"chunked":
                raise self._stop(MalformedHttp("transfer-encoding other than chunked"))
        if b"upgrade" in headers and length != b"0":
            # The parser takes the body for the other protocol; two readings of one message are one too many.
            raise self._stop(MalformedHttp("upgrade of a request with a body", hint="send it without Upgrade"))
        if b"expect" in headers and headers[b"expect"].lower() == b"100-continue":
            if self._queue:
                self._continue_due = True
            else:
                self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _check_version(self) -> None:
        version = self._parser.get_http_version()
        if version == "1.1":
            if b"host" not in self._headers:
                raise self._stop(MalformedHttp("no Host header"))
        elif version != "1.0":
            raise self._stop(MalformedHttp(f"HTTP version {version} is not spoken here"))
        elif b"transfer-encoding" in self._headers:
            raise self._stop(MalformedHttp("transfer-encoding in an HTTP/1.0 request"))

    def _check_size(self, size: int) -> None:
        limit = self._shared.max_body_bytes
        if size > limit:
            raise self._stop(PayloadTooLarge(f"body above {limit} bytes", hint="send fewer rows per request"))

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if not self._body:
            self._check_size(self._body_bytes)
            self._body = data
            return
        self._check_size(self._body_bytes)
        if self._body_bytes > max(self._reserved, FREE_BODY_BYTES):
            self._reserve(min(2 * self._body_bytes, self._shared.max_body_bytes))
        if isinstance(self._body, bytes):
            self._body = bytearray(self._body)
        self._body += data

    def _reserve(self, size: int) -> None:
        try:
            self._reserved = self._shared.reserve(size, self._reserved)
        except Overloaded as error:
            raise self._stop(error) from None

    def charge(self, request: Request, size: int) -> None:
        """See :class:`headway.server.http.Peer`; what was inflated counts as what came."""
        request.reserved = self._shared.reserve(size, request.reserved)

    def on_message_complete(self) -> None:
        path, _, query = self._target.partition(b"?")
        body = self._body if type(self._body) is bytes else bytes(self._body)
        method = self._parser.get_method()
        request = Request(
            method, path, body, self._headers, self, perf_counter_ns(), query=query, keep_alive=self._keep_alive
        )
        request.reserved = self._reserved
        self._deaf = not self._keep_alive
        self._state = _IDLE
        self._continue_due = False
        self._begin()
        self._queue.append(request)
        if len(self._queue) > MAX_PIPELINED:
            self._parked.append(request)
            self._pause_reading()
            return
        response = self._shared.handle(request)
        if response is not None:
            self.settle(request, response)

    # -- answers ---------------------------------------------------------------------------------

    def settle(self, request: Request, response: Response) -> None:
        """Write the answer, or keep it until those before it are written."""
        if request.cancelled:
            return
        shared = self._shared
        if request.reserved:
            shared.body_budget += request.reserved
            request.reserved = 0
        request.work = None
        if response.close or shared.draining:
            request.keep_alive = False
        request.wire = shared.renderer.render(request, response, close=not request.keep_alive)
        queue = self._queue
        while queue and queue[0].wire is not None:
            first = queue.popleft()
            self._transport.write(cast(bytes, first.wire))
            if not first.keep_alive:
                self._end()
                return
        self._since = shared.tick
        if self._parked:
            self._unpark()
        elif self._continue_due and not queue:
            self._continue_due = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _unpark(self) -> None:
        # Not from within settle: a thousand parked requests answered at once would nest as deep.
        asyncio.get_running_loop().call_soon(self._start_parked)

    def _start_parked(self) -> None:
        while self._parked and len(self._queue) - len(self._parked) < MAX_PIPELINED:
            request = self._parked.popleft()
            response = self._shared.handle(request)
            if response is not None:
                self.settle(request, response)
        self._resume_reading()

    def _refuse(self, error: HeadwayError) -> None:
        """Answer ``error`` after the requests before it, then close."""
        if self._deaf:
            return
        self._deaf = True
        self._release_own()
        request = Request(b"", b"", b"", {}, self, perf_counter_ns(), keep_alive=False)
        self._queue.append(request)
        response = error_response(error, close=True)
        self._shared.unhandled(request, response.status, len(response.body))
        self.settle(request, response)

    def _end(self) -> None:
        """Close so that the client still gets the answer: a reset would destroy it (RFC 9112 section 9.6)."""
        self._deaf = True
        self._drop_queue()
        self._lingering = True
        self._since = self._shared.tick
        if self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
            self._resume_reading()
        else:
            self._transport.close()

    def _drop_queue(self) -> None:
        """Nobody reads further answers."""
        self._release_own()
        for request in self._parked:
            self._shared.unhandled(request, CLIENT_CLOSED, 0)
        self._parked.clear()
        for request in self._queue:
            request.cancelled = True
            self._shared.body_budget += request.reserved
            request.reserved = 0
            if request.work is not None:
                request.work.abandon()
        self._queue.clear()

    def _release_own(self) -> None:
        """Give back what the body that was arriving had taken of the budget."""
        self._shared.body_budget += self._reserved
        self._reserved = 0

    # -- the server's side -----------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether a request has begun to arrive or waits for its answer."""
        return not self._lingering and (bool(self._queue) or self._state != _IDLE)

    def close_if_idle(self) -> None:
        """Close unless :attr:`busy`."""
        if not self.busy:
            self._transport.close()

    def check(self, tick: int) -> None:
        """End what takes too long; called once a second."""
        age = tick - self._since
        if self._lingering:
            if age >= LINGER_TICKS:
                self._transport.abort()
        elif self._writing_paused:
            if age >= WRITE_TIMEOUT_TICKS:
                self._transport.abort()
        elif self._queue:
            return
        elif self._state == _IDLE:
            if age >= KEEP_ALIVE_TICKS:
                self._transport.close()
        elif self._state == _HEAD:
            if age >= HEADER_TIMEOUT_TICKS:
                self._refuse(RequestTimeout(f"headers not complete after {HEADER_TIMEOUT_TICKS} s"))
        elif age >= BODY_TIMEOUT_TICKS + (self._body_bytes >> BODY_BYTES_PER_TICK_SHIFT):
            self._refuse(RequestTimeout("the body comes too slowly"))
