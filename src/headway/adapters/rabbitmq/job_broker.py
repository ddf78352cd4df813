"""RabbitmqJobBroker: a quorum queue for each model, publisher confirms, acknowledgement by whoever has leased.

Queues are declared when they are first used on a connection, and again when a message could not be routed: a broker
that was wiped in between is none the wiser.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from headway.adapters.rabbitmq.consumer import ARGUMENTS, QueueConsumer, Ticket, queue_of
from headway.adapters.rabbitmq.link import Link
from headway.domain.errors import BrokerFailed
from headway.ports.job_broker import Wakeup

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractQueue

CONFIRM_S: Final = 5.0


class RabbitmqJobBroker:
    """The ``JobBroker`` port. ``address``: ``amqp(s)://USER:PASSWORD@HOST:PORT/VHOST``. Raises ``MissingExtra``."""

    def __init__(self, address: str) -> None:
        self._link = Link(address, "jobs", "jobs wait for polls", self._begin, self._end)
        self.on_wakeup: Callable[[Wakeup], None] | None = None
        """See the port."""
        self._wanted: dict[str, int] = {}
        self._consumers: dict[str, QueueConsumer] = {}
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._declared: set[str] = set()
        self._declaring = asyncio.Lock()

    @property
    def connected(self) -> bool:
        """See the port."""
        return self._link.connected

    async def start(self) -> None:
        """See the port."""
        await self._link.start()

    async def stop(self) -> None:
        """See the port."""
        await self._link.stop()
        self._wanted.clear()

    async def announce(self, jobs: Sequence[tuple[str, str]]) -> None:
        """See the port."""
        channel = self._channel
        if channel is None or not self.connected:
            raise BrokerFailed(f"RabbitMQ at {self._link.place} is not connected")
        try:
            async with asyncio.timeout(CONFIRM_S):
                for model in {model for model, _ in jobs} - self._declared:
                    await self._declare(channel, model)
                unroutable = [job for job, fine in zip(jobs, await _publish(channel, jobs), strict=True) if not fine]
                if unroutable:
                    for model in {model for model, _ in unroutable}:
                        await self._declare(channel, model)
                        if (consumer := self._consumers.get(model)) is not None:
                            consumer.renew()
                    if not all(await _publish(channel, unroutable)):
                        raise BrokerFailed(f"RabbitMQ at {self._link.place} has no queue for jobs")
        except BrokerFailed:
            raise
        except TimeoutError:
            raise BrokerFailed(f"RabbitMQ at {self._link.place} did not confirm within {CONFIRM_S:g} s") from None
        except Exception as error:  # aio-pika's errors and those of the sockets have no root in common
            if channel.is_closed:
                self._link.lose()  # a channel that the broker has closed: begin anew
            raise BrokerFailed(f"RabbitMQ at {self._link.place} refused: {error!r}") from error

    def expect(self, model: str, most: int) -> None:
        """See the port."""
        if self._wanted.get(model, 0) == most:
            return
        self._wanted[model] = most
        consumer = self._consumers.get(model)
        if consumer is None and most and self._connection is not None and self.connected:
            consumer = self._consumers[model] = QueueConsumer(self._connection, model, self._declare, self._tell)
        if consumer is not None:
            consumer.expect(most)

    async def settle(self, wakeups: Sequence[Wakeup], *, again: bool = False) -> None:
        """See the port."""
        for wakeup in wakeups:
            ticket: Ticket = wakeup.ticket
            if ticket.channel.is_closed:
                continue
            with contextlib.suppress(Exception):  # the connection broke: the broker hands it out again
                await (ticket.message.nack(requeue=True) if again else ticket.message.ack())

    def _tell(self, wakeup: Wakeup) -> None:
        if self.on_wakeup is not None:
            self.on_wakeup(wakeup)

    async def _declare(self, channel: AbstractChannel, model: str) -> AbstractQueue:
        # One after the other: RabbitMQ 3.10 ends the connection when a quorum queue is declared twice at the same time.
        async with self._declaring:
            queue = await channel.declare_queue(queue_of(model), durable=True, arguments=ARGUMENTS)
        self._declared.add(model)
        return queue

    async def _begin(self, connection: AbstractConnection) -> None:
        self._declared.clear()
        self._channel = await connection.channel(publisher_confirms=True, on_return_raises=False)
        self._connection = connection
        for model, most in self._wanted.items():
            if most:
                consumer = self._consumers[model] = QueueConsumer(connection, model, self._declare, self._tell)
                consumer.expect(most)

    async def _end(self) -> None:
        self._connection = self._channel = None
        consumers, self._consumers = self._consumers, {}
        for consumer in consumers.values():
            await consumer.stop()


async def _publish(channel: AbstractChannel, jobs: Sequence[tuple[str, str]]) -> list[bool]:
    """Publish all and await what the broker says; whether each came into a queue."""
    import aio_pika
    from aiormq.abc import DeliveredMessage

    def publish(model: str, job_id: str) -> object:
        message = aio_pika.Message(job_id.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        return channel.default_exchange.publish(message, queue_of(model), mandatory=True)

    told = await asyncio.gather(*(publish(model, job_id) for model, job_id in jobs))  # type: ignore[call-overload]
    return [not isinstance(one, DeliveredMessage) for one in told]
