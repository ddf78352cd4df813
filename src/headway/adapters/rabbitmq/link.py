"""One connection to RabbitMQ, made, and made again, by itself. That the broker is away is logged once, that it is back
once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from headway.domain.errors import MissingExtra

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

log = logging.getLogger(__name__)

CONNECT_S: Final = 5.0
PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)


class Link:
    """Keeps a connection while it is started. ``address``: ``amqp(s)://USER:PASSWORD@HOST:PORT/VHOST``."""

    def __init__(
        self,
        address: str,
        what: str,
        meanwhile: str,
        begin: Callable[[AbstractConnection], Awaitable[None]],
        end: Callable[[], Awaitable[None]],
    ) -> None:
        """``begin`` puts a new connection to use, ``end`` lets go of it, also when ``begin`` came half way.

        ``what`` it is for, as the broker shows it; ``meanwhile``: what happens while it is away, for the log. Raises
        ``MissingExtra``.
        """
        try:
            import aio_pika  # noqa: F401
        except ImportError:
            raise MissingExtra(f"a broker for {what} needs aio-pika", hint="pip install 'headway[rabbitmq]'") from None
        parts = urlsplit(address)
        self.place = f"{parts.hostname}:{parts.port or 5672}"
        """Without its password."""
        self.problem: str | None = None
        """Why there is no connection, where that is known."""
        self._address = address
        self._what = what
        self._meanwhile = meanwhile
        self._begin = begin
        self._end = end
        self._connection: AbstractConnection | None = None
        self._begun = False
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """As last seen."""
        return self._begun and not self._lost.is_set()

    def lose(self) -> None:
        """It is no good any more: begin anew."""
        self._lost.set()

    async def start(self) -> None:
        """Begin to connect; returns at once. Again: nothing."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep_connected(), name=f"broker of {self._what}")

    async def stop(self) -> None:
        """Let go. Again: nothing."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._disconnect()

    async def _keep_connected(self) -> None:
        failures = 0
        while True:
            try:
                await self._connect()
            except Exception as error:
                await self._disconnect()
                self.problem = f"RabbitMQ at {self.place} cannot be used: {str(error) or repr(error)}"
                if failures == 0:
                    log.error("%s; %s", self.problem, self._meanwhile)
                await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S) - 1)])
                failures += 1
                continue
            log.info("connected to RabbitMQ at %s", self.place)
            failures, self.problem = 0, None
            await self._lost.wait()
            self.problem = f"the connection to RabbitMQ at {self.place} was lost"
            log.error("%s; %s until it is back", self.problem, self._meanwhile)
            await self._disconnect()

    async def _connect(self) -> None:
        import aio_pika

        self._lost.clear()
        async with asyncio.timeout(CONNECT_S):
            self._connection = connection = await aio_pika.connect(
                self._address, client_properties={"connection_name": f"headway {self._what}"}
            )
            connection.close_callbacks.add(self._on_close)
            await self._begin(connection)
        self._begun = True

    def _on_close(self, *_: object) -> None:
        self._lost.set()

    async def _disconnect(self) -> None:
        connection, self._connection, self._begun = self._connection, None, False
        await self._end()
        if connection is not None:
            connection.close_callbacks.discard(self._on_close)
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CONNECT_S):
                    await connection.close()
