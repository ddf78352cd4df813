"""Copies of requests for a shadow version: sent after the answer, through the gateway, answers thrown away.

Off the hot path and bounded in number and bytes: what does not fit is dropped and counted. A copy goes to the
shadow's pinned path, which carries no shadow header, so copies are not copied again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Final, cast

import httptools

from headway.domain.names import VERSION_NAME
from headway.server.http import Request

log = logging.getLogger("headway.server")

MAX_COPIES: Final = 256
MAX_COPY_BYTES: Final = 64 * 1024 * 1024
SENDERS: Final = 4
TIMEOUT_S: Final = 30.0

_PASSED_ON: Final = (
    b"content-type",
    b"accept",
    b"x-request-timeout-ms",
    b"inference-header-content-length",
)


class _Exchange(asyncio.Protocol):
    """One keep-alive connection to the gateway; reads one answer at a time and forgets its body."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[int] | None = None
        self.reusable = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionResetError("the gateway closed the connection"))

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_message_complete(self) -> None:
        if not self._parser.should_keep_alive():
            self.reusable = False
        if self._answered is not None and not self._answered.done():
            self._answered.set_result(self._parser.get_status_code())

    def close(self) -> None:
        self.reusable = False
        if self._transport is not None:
            self._transport.close()

    async def send(self, data: bytes) -> int:
        """The status of the answer to ``data``. Raises ``OSError``."""
        assert self._transport is not None
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await self._answered


class ShadowSender:
    """``start`` and ``stop`` are idempotent."""

    def __init__(self, gateway_path: str, model: str) -> None:
        self._gateway_path = gateway_path
        self._model = model.encode()
        self._copies: asyncio.Queue[bytes] = asyncio.Queue(MAX_COPIES)
        self._bytes = 0
        self._tasks: list[asyncio.Task[None]] = []
        self.sent = 0
        """Copies that got an answer, whatever it was."""
        self.dropped = 0
        self.failed = 0
        """Copies that got none."""

    def start(self) -> None:
        """Begin to send."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._send_all()) for _ in range(SENDERS)]

    async def stop(self) -> None:
        """Send nothing more; copies that wait are dropped."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        self.dropped += self._copies.qsize()

    def offer(self, request: Request, version: bytes) -> bool:
        """Copy ``request`` to ``version`` if there is room; whether there was. Never blocks, never raises."""
        if VERSION_NAME.fullmatch(version.decode("latin-1")) is None:
            self.dropped += 1
            return False
        if self._copies.full() or self._bytes + len(request.body) > MAX_COPY_BYTES:
            self.dropped += 1
            return False
        copy = self._render(request, version)
        self._bytes += len(copy)
        self._copies.put_nowait(copy)
        return True

    def _render(self, request: Request, version: bytes) -> bytes:
        query = b"?" + request.query if request.query else b""
        fields = b"".join(b"%b: %b\r\n" % (n, request.headers[n]) for n in _PASSED_ON if n in request.headers)
        line = b"%b /models/%b/versions/%b%b%b HTTP/1.1\r\nhost: gateway\r\n" % (
            request.method,
            self._model,
            version,
            request.path,
            query,
        )
        return b"%b%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (
            line,
            fields,
            request.request_id,
            len(request.body),
            request.body,
        )

    async def _send_all(self) -> None:
        exchange: _Exchange | None = None
        try:
            while True:
                copy = await self._copies.get()
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        if exchange is None or not exchange.reusable:
                            exchange = await self._connect()
                        await exchange.send(copy)
                    self.sent += 1
                except (OSError, TimeoutError) as error:
                    if self.failed == 0:
                        log.warning("shadow copy failed (reported once): %s", str(error) or type(error).__name__)
                    self.failed += 1
                    if exchange is not None:
                        exchange.close()
                finally:
                    self._bytes -= len(copy)
        finally:
            if exchange is not None:
                exchange.close()

    async def _connect(self) -> _Exchange:
        loop = asyncio.get_running_loop()
        _, exchange = await loop.create_unix_connection(_Exchange, self._gateway_path)
        return exchange
