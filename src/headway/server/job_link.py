"""JobLink: a worker's connection to the job server, kept alive, made anew when it is gone. One question at a time."""

from __future__ import annotations

import asyncio
from typing import Final, Protocol, TypeVar, cast

import httptools
import msgspec

from headway.domain.job_wire import MEDIA_TYPE

T = TypeVar("T")

CONNECT_WITHIN_S: Final = 5.0
_encode = msgspec.msgpack.Encoder().encode


class Link(Protocol):
    """Somebody who answers a worker's questions."""

    async def ask(self, path: str, question: msgspec.Struct, answer: type[T], within_s: float) -> T:
        """The answer. Raises ``OSError`` when there is none in that time, or none that can be understood."""
        ...

    def hush(self) -> None:
        """The question under way needs no answer any more; one that is on its way already still arrives."""
        ...

    def close(self) -> None:
        """Hang up. Idempotent."""
        ...


class JobLink:
    """The :class:`Link` to ``unix:/path`` or ``tcp:host:port``."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._exchange: _Exchange | None = None

    async def ask(self, path: str, question: msgspec.Struct, answer: type[T], within_s: float) -> T:
        """See :class:`Link`."""
        body = _encode(question)
        head = (
            f"POST {path} HTTP/1.1\r\nhost: jobs\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        try:
            async with asyncio.timeout(within_s):
                exchange = self._exchange
                if exchange is None or not exchange.reusable:
                    exchange = self._exchange = await self._connect()
                status, told = await exchange.send(head.encode() + body)
            if status != 200:
                raise ConnectionError(f"it answered {status}: {told[:300].decode('utf-8', 'replace')}")
            return msgspec.msgpack.decode(told, type=answer)
        except TimeoutError:
            self.close()
            raise ConnectionError(f"no answer within {within_s:g} s") from None
        except msgspec.MsgspecError as error:
            self.close()
            raise ConnectionError(f"it answered what cannot be understood: {error}") from error
        except BaseException:
            self.close()
            raise

    def hush(self) -> None:
        """See :class:`Link`: the sending half of the connection is closed, which the other side can see."""
        if self._exchange is not None:
            self._exchange.hush()

    def close(self) -> None:
        """See :class:`Link`."""
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.close()

    async def _connect(self) -> _Exchange:
        loop = asyncio.get_running_loop()
        kind, _, place = self._address.partition(":")
        async with asyncio.timeout(CONNECT_WITHIN_S):
            if kind == "unix":
                _, exchange = await loop.create_unix_connection(_Exchange, place)
            else:
                host, _, port = place.rpartition(":")
                _, exchange = await loop.create_connection(_Exchange, host.strip("[]"), int(port))
        return exchange


class _Exchange(asyncio.Protocol):
    """One connection."""

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[tuple[int, bytes]] | None = None
        self._body = bytearray()
        self.reusable = True

    async def send(self, data: bytes) -> tuple[int, bytes]:
        """Status and body of the answer. Raises ``OSError``."""
        assert self._transport is not None
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(data)
        return await self._answered

    def hush(self) -> None:
        self.reusable = False
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def close(self) -> None:
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio and httptools call these ----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        self._fail("the connection was closed")

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(f"it answered what is no HTTP: {error}")
            self.close()

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        body = bytes(self._body)
        self._body.clear()
        if not self._parser.should_keep_alive():
            self.reusable = False
        if self._answered is not None and not self._answered.done():
            self._answered.set_result((self._parser.get_status_code(), body))

    def _fail(self, why: str) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(ConnectionResetError(why))
