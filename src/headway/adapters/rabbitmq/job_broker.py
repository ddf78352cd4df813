"""RabbitmqJobBroker: a quorum queue for each model, publisher confirms, acknowledgement by whoever has leased.

It connects, and connects again, by itself; that the broker is away is logged once, and that it is back once. Queues are
declared when they are first used on a connection, and again when a message could not be routed: a broker that was wiped
in between is none the wiser.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from headway.adapters.rabbitmq.consumer import ARGUMENTS, QueueConsumer, Ticket, queue_of
from headway.domain.errors import BrokerFailed, MissingExtra
from headway.ports.job_broker import Wakeup

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractQueue

log = logging.getLogger(__name__)

CONNECT_S: Final = 5.0
CONFIRM_S: Final = 5.0
PAUSES_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0)


class RabbitmqJobBroker:
    """The ``JobBroker`` port. ``address``: ``amqp(s)://USER:PASSWORD@HOST:PORT/VHOST``. Raises ``MissingExtra``."""

    def __init__(self, address: str) -> None:
        try:
            import aio_pika  # noqa: F401
        except ImportError:
            raise MissingExtra("a broker for jobs needs aio-pika", hint="pip install 'headway[rabbitmq]'") from None
        self.on_wakeup: Callable[[Wakeup], None] | None = None
        """See the port."""
        self._address = address
        parts = urlsplit(address)
        self._place = f"{parts.hostname}:{parts.port or 5672}"  # without its password
        self._wanted: dict[str, int] = {}
        self._consumers: dict[str, QueueConsumer] = {}
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self._declared: set[str] = set()
        self._declaring = asyncio.Lock()
        self._lost = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        """See the port."""
        return self._channel is not None and not self._lost.is_set()

    async def start(self) -> None:
        """See the port."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep_connected(), name="broker of jobs")

    async def stop(self) -> None:
        """See the port."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self._disconnect()
        self._wanted.clear()

    async def announce(self, jobs: Sequence[tuple[str, str]]) -> None:
        """See the port."""
        channel = self._channel
        if channel is None or not self.connected:
            raise BrokerFailed(f"RabbitMQ at {self._place} is not connected")
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
                        raise BrokerFailed(f"RabbitMQ at {self._place} has no queue for jobs")
        except BrokerFailed:
            raise
        except TimeoutError:
            raise BrokerFailed(f"RabbitMQ at {self._place} did not confirm within {CONFIRM_S:g} s") from None
        except Exception as error:  # aio-pika's errors and those of the sockets have no root in common
            if channel.is_closed:
                self._lost.set()  # a channel that the broker has closed: begin anew
            raise BrokerFailed(f"RabbitMQ at {self._place} refused: {error!r}") from error

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

    # -- the connection --------------------------------------------------------------------------

    async def _keep_connected(self) -> None:
        failures = 0
        while True:
            try:
                await self._connect()
            except Exception as error:
                await self._disconnect()
                if failures == 0:
                    log.error("RabbitMQ at %s cannot be reached: %s; jobs wait for polls", self._place, error)
                await asyncio.sleep(PAUSES_S[min(failures, len(PAUSES_S) - 1)])
                failures += 1
                continue
            log.info("connected to RabbitMQ at %s", self._place)
            failures = 0
            await self._lost.wait()
            log.error("the connection to RabbitMQ at %s was lost; jobs wait for polls until it is back", self._place)
            await self._disconnect()

    async def _connect(self) -> None:
        import aio_pika

        self._lost.clear()
        self._declared.clear()
        async with asyncio.timeout(CONNECT_S):
            connection = await aio_pika.connect(self._address, client_properties={"connection_name": "headway jobs"})
            self._connection = connection
            connection.close_callbacks.add(self._on_close)
            self._channel = await connection.channel(publisher_confirms=True, on_return_raises=False)
        for model, most in self._wanted.items():
            if most:
                consumer = self._consumers[model] = QueueConsumer(connection, model, self._declare, self._tell)
                consumer.expect(most)

    def _on_close(self, *_: object) -> None:
        self._lost.set()

    async def _disconnect(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        consumers, self._consumers = self._consumers, {}
        for consumer in consumers.values():
            await consumer.stop()
        if connection is not None:
            connection.close_callbacks.discard(self._on_close)
            with contextlib.suppress(Exception):
                async with asyncio.timeout(CONNECT_S):
                    await connection.close()


async def _publish(channel: AbstractChannel, jobs: Sequence[tuple[str, str]]) -> list[bool]:
    """Publish all and await what the broker says; whether each came into a queue."""
    import aio_pika
    from aiormq.abc import DeliveredMessage

    def publish(model: str, job_id: str) -> object:
        message = aio_pika.Message(job_id.encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        return channel.default_exchange.publish(message, queue_of(model), mandatory=True)

    told = await asyncio.gather(*(publish(model, job_id) for model, job_id in jobs))  # type: ignore[call-overload]
    return [not isinstance(one, DeliveredMessage) for one in told]
