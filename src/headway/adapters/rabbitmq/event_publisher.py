"""RabbitmqEventPublisher: a topic exchange, publisher confirms, and one message of a lane on its way at a time.

A broker may refuse one message and take the next, so that messages sent in one go could arrive out of order; each lane
therefore waits for its confirm, while lanes go side by side. The exchange, and the queue if there is one, are declared
on each connection: a broker that was wiped has them again before it is told anything.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from headway.adapters.rabbitmq.link import Link
from headway.domain.errors import BrokerFailed
from headway.domain.event_messages import EventMessage

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange

CONFIRM_S: Final = 10.0
QUEUE_ARGUMENTS: Final[dict[str, Any]] = {"x-queue-type": "quorum"}


class RabbitmqEventPublisher:
    """The ``EventPublisher`` port. ``queue``: one that is declared too, and gets everything; None: none.

    Raises ``MissingExtra``.
    """

    def __init__(self, address: str, exchange: str, queue: str | None = None) -> None:
        self._link = Link(address, "events", "they wait in the log", self._begin, self._end)
        self._name = exchange
        self._queue = queue
        self._channel: AbstractChannel | None = None
        self._exchange: AbstractExchange | None = None
        self._declaring = asyncio.Lock()

    @property
    def connected(self) -> bool:
        """See the port."""
        return self._link.connected

    @property
    def problem(self) -> str | None:
        """See the port."""
        return self._link.problem

    async def start(self) -> None:
        """See the port."""
        await self._link.start()

    async def stop(self) -> None:
        """See the port."""
        await self._link.stop()

    async def publish(self, messages: Sequence[EventMessage]) -> None:
        """See the port."""
        channel, exchange = self._channel, self._exchange
        if channel is None or exchange is None or not self.connected:
            raise BrokerFailed(self.problem or f"RabbitMQ at {self._link.place} is not connected")
        lanes: dict[str, list[EventMessage]] = {}
        for message in messages:
            lanes.setdefault(message.lane, []).append(message)
        try:
            async with asyncio.TaskGroup() as group:
                for lane in lanes.values():
                    group.create_task(self._publish_lane(channel, exchange, lane))
        except ExceptionGroup as failures:
            if channel.is_closed:
                self._link.lose()  # a channel that the broker has closed, say because the exchange was removed
            error = failures.exceptions[0]
            how = (
                f"did not confirm within {CONFIRM_S:g} s" if isinstance(error, TimeoutError) else f"refused: {error!r}"
            )
            raise BrokerFailed(f"RabbitMQ at {self._link.place} {how}") from error

    async def _publish_lane(
        self, channel: AbstractChannel, exchange: AbstractExchange, lane: Sequence[EventMessage]
    ) -> None:
        for message in lane:
            if not await self._publish_one(exchange, message):
                await self._declare_queue(channel, exchange)
                if not await self._publish_one(exchange, message):
                    raise BrokerFailed(f"queue {self._queue} takes nothing")

    async def _publish_one(self, exchange: AbstractExchange, message: EventMessage) -> bool:
        """False when it came into no queue although there should be one."""
        import aio_pika
        from aiormq.abc import DeliveredMessage

        outgoing = aio_pika.Message(
            json.dumps(message.body).encode(),
            message_id=message.id,
            type=message.type,
            timestamp=message.at,
            app_id="headway",
            content_type="application/json",
            delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        )
        async with asyncio.timeout(CONFIRM_S):
            told = await exchange.publish(outgoing, message.topic, mandatory=self._queue is not None)
        return not isinstance(told, DeliveredMessage)

    async def _begin(self, connection: AbstractConnection) -> None:
        import aio_pika

        channel = await connection.channel(publisher_confirms=True, on_return_raises=False)
        exchange = await channel.declare_exchange(self._name, aio_pika.ExchangeType.TOPIC, durable=True)
        await self._declare_queue(channel, exchange)
        self._channel, self._exchange = channel, exchange

    async def _end(self) -> None:
        self._channel = self._exchange = None

    async def _declare_queue(self, channel: AbstractChannel, exchange: AbstractExchange) -> None:
        if self._queue is None:
            return
        # One after the other: RabbitMQ 3.10 ends the connection when a quorum queue is declared twice at the same time.
        async with self._declaring:
            queue = await channel.declare_queue(self._queue, durable=True, arguments=QUEUE_ARGUMENTS)
            await queue.bind(exchange, "#")
