"""What a layer on a library has to add around :class:`~headway.server.app.Application`, whichever library it is.

The application answers at once or through ``request.peer.settle``; libraries want an awaitable, so each request gets a
future. A client that went away must be noticed while its request waits: libraries tell it to whoever awaits it, and
a task per request for that would double the cost. So one tick looks for requests older than ``WATCH_AFTER_NS`` and
watches those alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Final

from headway.domain.errors import HeadersTooLarge, HeadwayError, MalformedHttp, Overloaded, PayloadTooLarge
from headway.domain.query_segments import CLIENT_CLOSED
from headway.server.app import Application
from headway.server.config import ServerConfig, read_config
from headway.server.execution import Execution
from headway.server.http import Request, Response, error_response
from headway.server.limits import FREE_BODY_BYTES, MAX_HEADER_BYTES, MAX_HEADER_FIELDS, MAX_TARGET_BYTES
from headway.server.query_log import writer_of
from headway.server.startup import freeze, load

WATCH_AFTER_NS: Final = 50_000_000
TICK_S: Final = 0.05
_SINGLE: Final = frozenset({b"host", b"content-length", b"content-type", b"content-encoding", b"transfer-encoding"})

Gone = Callable[[], Coroutine[Any, Any, None]]
"""Returns when the client has gone."""


class Exchange:
    """One request that waits for its answer; the application's peer."""

    __slots__ = ("answer", "charged", "gone", "host", "request", "since_ns", "watch")

    def __init__(self, host: Host, loop: asyncio.AbstractEventLoop, gone: Gone) -> None:
        self.host = host
        self.charged = 0
        """Bytes of the budget that its inflated body takes."""
        self.answer: asyncio.Future[Response] = loop.create_future()
        self.gone = gone
        self.request: Request | None = None
        self.since_ns = perf_counter_ns()
        self.watch: asyncio.Task[None] | None = None

    def settle(self, request: Request, response: Response) -> None:
        """See :class:`headway.server.http.Peer`."""
        if not self.answer.done():
            self.answer.set_result(response)

    def charge(self, request: Request, size: int) -> None:
        """See :class:`headway.server.http.Peer`."""
        self.charged = self.host.reserve(size)

    async def give_up_when_gone(self) -> None:
        """Abandon the work of a client that went away."""
        await self.gone()
        assert self.request is not None
        self.request.cancelled = True
        if self.request.work is not None:
            self.request.work.abandon()
        self.answer.cancel()


def load_model(config_file: Path) -> tuple[ServerConfig, Execution]:
    """Config and loaded model, as ``python -m headway.server`` has them before it listens."""
    config = read_config(config_file)
    execution = Execution(load(config, []))
    freeze(execution.model)
    return config, execution


class Host:
    """The application, and the limits that no library has, for one event loop."""

    def __init__(self, config: ServerConfig, execution: Execution, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._log = writer_of(config, execution.model.columns())
        if self._log is not None:
            self._log.start(loop)
        self.app = Application(config, execution, loop, None, self._log)
        self.max_body_bytes = config.options.max_body_bytes
        self._body_budget = max(256 * 1024 * 1024, 2 * self.max_body_bytes)
        self._waiting: set[Exchange] = set()
        self.draining = False
        self.identity = ((b"x-headway-version", config.version), (b"x-headway-replica", config.replica_id))
        self._tick()

    def _tick(self) -> None:
        now_ns = perf_counter_ns()
        for exchange in self._waiting:
            if exchange.watch is None and now_ns - exchange.since_ns > WATCH_AFTER_NS:
                exchange.watch = self._loop.create_task(exchange.give_up_when_gone())
        self._loop.call_later(TICK_S, self._tick)

    def headers(self, target_bytes: int, fields: Iterable[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
        """The fields by name, within the limits. Raises what to answer. They are in memory already by then."""
        headers: dict[bytes, bytes] = {}
        size = count = 0
        for name, value in fields:
            size += len(name) + len(value) + 4
            count += 1
            if name not in headers:
                headers[name] = value
            elif name in _SINGLE:
                raise MalformedHttp(f"header {name.decode('latin-1')} given twice")
            else:
                headers[name] += b", " + value
        if target_bytes > MAX_TARGET_BYTES or size > MAX_HEADER_BYTES or count > MAX_HEADER_FIELDS:
            raise HeadersTooLarge(f"request line and headers above {MAX_HEADER_BYTES} bytes")
        length = headers.get(b"content-length")
        if length is not None:
            self.check_size(int(length))
        return headers

    def check_size(self, size: int) -> None:
        """Raises ``PayloadTooLarge`` for a body that is or will be too long."""
        if size > self.max_body_bytes:
            raise PayloadTooLarge(f"body above {self.max_body_bytes} bytes", hint="send fewer rows per request")

    def reserve(self, size: int) -> int:
        """Take a body's bytes from the budget of all bodies; what to give back."""
        if size <= FREE_BODY_BYTES:
            return 0
        if size > self._body_budget:
            raise Overloaded("too many large bodies at once", details={"retry_after_s": 1})
        self._body_budget -= size
        return size

    def release(self, reserved: int) -> None:
        """Give back what :meth:`reserve` took."""
        self._body_budget += reserved

    def refuse(self, error: HeadwayError) -> Response:
        """The answer to a request that the application never saw."""
        exchange = Exchange(self, self._loop, _never)
        request = Request(b"", b"", b"", {}, exchange, perf_counter_ns())
        response = error_response(error, request, close=True)
        self.app.unhandled(request, response.status, len(response.body))
        return response

    async def answer(
        self, method: bytes, path: bytes, query: bytes, headers: dict[bytes, bytes], body: bytes, gone: Gone
    ) -> tuple[Request, Response | None]:
        """The request and its answer; None when nobody waits for it any more."""
        exchange = Exchange(self, self._loop, gone)
        request = Request(method, path, body, headers, exchange, perf_counter_ns(), query=query)
        exchange.request = request
        self._waiting.add(exchange)
        try:
            return request, self.app.handle(request) or await exchange.answer
        except asyncio.CancelledError:
            if not request.cancelled:
                raise
            return request, None
        finally:
            self._waiting.discard(exchange)
            self.release(exchange.charged)
            if exchange.watch is not None:
                exchange.watch.cancel()

    def lost(self, headers: dict[bytes, bytes]) -> None:
        """A client went away before its request was whole."""
        request = Request(b"", b"", b"", headers, Exchange(self, self._loop, _never), perf_counter_ns())
        self.app.unhandled(request, CLIENT_CLOSED, 0)

    def fields(self, request: Request | None, response: Response) -> list[tuple[bytes, bytes]]:
        """The answer's header fields, but for ``date``."""
        fields = [(b"content-type", response.content_type), (b"content-length", b"%d" % len(response.body))]
        if request is not None:
            fields.append((b"x-request-id", request.request_id))
        fields += [(name, value.encode()) for name, value in self.identity]
        fields += response.headers
        if response.close or self.draining:
            fields.append((b"connection", b"close"))
        return fields

    def drain(self) -> None:
        """Not ready from here on; answers close their connections."""
        self.draining = True
        self.app.drain()

    def stop(self) -> None:
        """End the log and the worker's thread."""
        self.app.predictor.stop()
        if self._log is not None:
            self._log.stop()


async def _never() -> None:
    await asyncio.Event().wait()


"""A client of which nobody asks."""
