"""Length of a RabbitMQ queue, or how fast it is published to.

amqp(s) addresses declare the queue passively, which answers with the messages that are ready to be delivered and
creates nothing. http(s) addresses ask the management plugin, which also knows of unacknowledged messages and of
rates; it collects them every five seconds by default, so what it says is that old.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from headway.adapters.signals.http_json import JsonClient, Place, place
from headway.adapters.signals.question import Question, bare, expect, reason, shown
from headway.domain.errors import MissingExtra
from headway.domain.scaling_spec import ExternalTriggerSpec, RabbitmqTrigger

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

LEAVE_S = 1.0
"""How long taking leave of a server may take, in the background."""


class RabbitmqSource:
    """Triggers with the same address share a connection."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._http = JsonClient()
        self._connections: dict[str, AbstractConnection] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    async def read(self, trigger: ExternalTriggerSpec) -> float:
        """As the port says. A queue that does not exist is no empty queue."""
        trigger = expect(trigger, RabbitmqTrigger)
        what = "message rate" if trigger.mode == "MessageRate" else "length"
        question = Question(f"the {what} of queue {trigger.queue_name}", "RabbitMQ", trigger.timeout)
        address = trigger.host
        if address is None:
            if trigger.host_from_env is None:
                raise question.lost("it has no address; give host or hostFromEnv")
            address = question.variable(self._env, trigger.host_from_env, "hostFromEnv").strip()
        before = address.partition("://")[2].rpartition("@")[0]
        question = question.of_whom(f"RabbitMQ at {bare(address)}", address, before.partition(":")[2])
        scheme = address.partition("://")[0]
        if scheme in {"http", "https"}:
            where = place(address, question)
            async with question.limited():
                return await self._managed(trigger, question, where)
        if scheme not in {"amqp", "amqps"}:
            raise question.lost("its address is neither amqp:// nor http://")
        if trigger.mode == "MessageRate":
            raise question.lost("amqp tells no rates; give the management plugin's http:// address")
        async with question.limited():
            return await self._declared(trigger, question, address)

    async def close(self) -> None:
        for address in list(self._connections):
            self._leave(self._connections.pop(address))
        await asyncio.gather(*self._leaving)
        await self._http.close()

    # -- amqp ----------------------------------------------------------------------------------

    async def _declared(self, trigger: RabbitmqTrigger, question: Question, address: str) -> float:
        try:
            from aio_pika.exceptions import AMQPError, ChannelClosed
        except ModuleNotFoundError:
            raise MissingExtra("scaling by RabbitMQ needs aio-pika", hint="pip install 'headway[rabbitmq]'") from None

        try:
            kept = self._connections.pop(address, None)
            try:
                return await self._count(trigger, question, address, kept)
            except ChannelClosed:
                raise
            except (AMQPError, OSError, RuntimeError):
                if kept is None:
                    raise
                # A kept connection may have died with the server's last restart: once more on a new one.
                return await self._count(trigger, question, address, None)
        except (AMQPError, OSError, ValueError, RuntimeError) as error:
            raise question.lost(reason(error)) from None

    async def _count(
        self, trigger: RabbitmqTrigger, question: Question, address: str, connection: AbstractConnection | None
    ) -> float:
        from aio_pika import connect
        from aio_pika.exceptions import ChannelClosed

        for library in ("aiormq", "aio_pika"):
            # It logs every failure with its traceback, at every poll. SignalLost tells the same, to whom it concerns.
            logging.getLogger(library).setLevel(logging.CRITICAL)
        if connection is None or connection.is_closed:
            connection = await connect(address, client_properties={"connection_name": "headway"})
        try:
            # A channel of its own: the server closes it when the queue does not exist, the connection stays.
            channel = connection.channel(publisher_confirms=False)
            await channel.initialize()
            try:
                queue = await channel.declare_queue(trigger.queue_name, passive=True)
                count = queue.declaration_result.message_count
                await channel.close()
            except ChannelClosed:
                self._keep(address, connection)
                raise
        except ChannelClosed:
            raise
        except BaseException:
            self._leave(connection)
            raise
        self._keep(address, connection)
        return question.number(count)

    def _keep(self, address: str, connection: AbstractConnection) -> None:
        if address in self._connections:
            self._leave(connection)
        else:
            self._connections[address] = connection

    def _leave(self, connection: AbstractConnection) -> None:
        """Close it without waiting: a server that hangs does not answer that either."""

        async def leave() -> None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(LEAVE_S):
                    await connection.close()

        task = asyncio.get_running_loop().create_task(leave())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    # -- http ----------------------------------------------------------------------------------

    async def _managed(self, trigger: RabbitmqTrigger, question: Question, where: Place) -> float:
        prefix, _, vhost = where.path.rpartition("/")
        api = f"{prefix}/api"
        names = f"{quote(unquote(vhost) or '/', safe='')}/{quote(trigger.queue_name, safe='')}"
        status, body = await self._http.get(question, where, f"{api}/queues/{names}")
        if status == 404:
            raise question.lost(f"HTTP 404: no such queue in virtual host {unquote(vhost) or '/'}")
        if status != 200 or not isinstance(body, dict):
            said = body.get("reason") if isinstance(body, dict) else None
            raise question.lost(f"HTTP {status}{': ' + str(said) if said else ''}")
        field = "messages_ready" if trigger.exclude_unacknowledged else "messages"
        if field not in body:
            raise question.lost(f"no {field}: the node has told no statistics yet, or is down")
        if trigger.mode == "QueueLength":
            return question.number(body[field])
        return await self._rate(question, where, api, body)

    async def _rate(self, question: Question, where: Place, api: str, queue: Mapping[str, object]) -> float:
        stats = queue.get("message_stats")
        if isinstance(stats, dict) and "publish" in stats:
            details = stats.get("publish_details")
            return question.number(details.get("rate") if isinstance(details, dict) else None)
        # Nothing was published to it lately; or the server was told to keep no rates.
        status, body = await self._http.get(question, where, f"{api}/overview")
        mode = body.get("rates_mode") if status == 200 and isinstance(body, dict) else None
        if mode not in {"basic", "detailed"}:
            raise question.lost(f"no rates: rates_mode is {shown(mode)} (HTTP {status})")
        return 0.0
