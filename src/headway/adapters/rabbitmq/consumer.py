"""One model's queue on one connection: declared, and taken from while somebody wants messages.

A consumer has a channel of its own, since its prefetch is fixed when it begins: when more is wanted it begins anew. It
ends a moment after nobody wants anything; what is not settled by then the broker hands to others, as its channel
closes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from headway.ports.job_broker import Wakeup

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue

log = logging.getLogger(__name__)

PREFIX: Final = "headway.jobs."
ARGUMENTS: Final[dict[str, Any]] = {
    "x-queue-type": "quorum",
    # Messages are wake-ups: of very many the oldest may go, since every one means the same.
    "x-max-length": 100_000,
    "x-overflow": "drop-head",
    "x-expires": 7 * 86_400_000,  # milliseconds without a consumer: the model is gone, or idle
}
LINGER_S: Final = 1.0
"""How long a consumer stays when nobody waits: a worker that has just got a job is back soon."""
RETRY_S: Final = 1.0
MOST: Final = 250
"""Of a consumer's prefetch."""


Declare = Callable[["AbstractChannel", str], Awaitable["AbstractQueue"]]
"""Makes sure that the model's queue is there."""


def queue_of(model: str) -> str:
    """Name of the model's queue."""
    return PREFIX + model


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a wake-up is settled by: the message, and the channel that it came through."""

    message: AbstractIncomingMessage
    channel: AbstractChannel


class QueueConsumer:
    """Keeps the wish of :meth:`expect` true until it is stopped; for one connection."""

    def __init__(
        self, connection: AbstractConnection, model: str, declare: Declare, on_wakeup: Callable[[Wakeup], None]
    ) -> None:
        self._connection = connection
        self._model = model
        self._declare = declare
        self._on_wakeup = on_wakeup
        self._wanted = 0
        self._changed = asyncio.Event()
        self._channel: AbstractChannel | None = None
        self._prefetch = 0
        self._task = asyncio.create_task(self._run(), name=f"messages of {model}")

    def expect(self, most: int) -> None:
        """How many messages may be in hand."""
        self._wanted = min(most, MOST)
        if self._wanted > self._prefetch or not self._wanted:
            self._changed.set()

    async def stop(self) -> None:
        """End; the connection may be gone already."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._close()

    async def _run(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                if self._wanted > self._prefetch:
                    await self._begin(self._wanted)
                elif not self._wanted and self._channel is not None:
                    await asyncio.sleep(LINGER_S)
                    if not self._wanted:
                        await self._close()
            except Exception as error:
                log.warning("messages of %s cannot be taken: %s", self._model, error)
                await self._close()
                await asyncio.sleep(RETRY_S)
                self._changed.set()

    async def _begin(self, prefetch: int) -> None:
        await self._close()
        channel = await self._connection.channel(publisher_confirms=False)
        self._channel, self._prefetch = channel, prefetch
        await channel.set_qos(prefetch_count=prefetch)
        queue = await self._declare(channel, self._model)
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda *_: self.renew())

        async def take(message: AbstractIncomingMessage) -> None:
            job_id = message.body[:64].decode("ascii", "replace")
            self._on_wakeup(Wakeup(self._model, job_id, Ticket(message, channel)))

        await queue.consume(take)

    def renew(self) -> None:
        """The queue was removed under the consumer: it is declared anew.

        The broker says so, but not when the queue is there again by the time that it would.
        """
        self._prefetch = 0
        self._changed.set()

    async def _close(self) -> None:
        channel, self._channel, self._prefetch = self._channel, None, 0
        if channel is not None:
            with contextlib.suppress(Exception):
                await channel.close()
