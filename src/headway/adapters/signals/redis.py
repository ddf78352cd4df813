"""Length of a queue kept in Redis: a plain list, a queue of RQ, a queue of Celery.

A key that does not exist is an empty list: Redis removes a list with its last element, so it is 0. What RQ and
Celery keep, and where:

- RQ: jobs queued in the list ``rq:queue:NAME``; started and scheduled ones in the sorted sets ``rq:wip:NAME`` and
  ``rq:scheduled:NAME``.
- Celery (kombu's Redis transport): the list ``NAME`` for the default priority, ``NAME\\x06\\x163`` and so on for the
  others, and the hash ``unacked`` for what workers hold. That hash is shared by all queues of the database.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from headway.adapters.signals.question import Question, expect, reason
from headway.domain.errors import MissingExtra
from headway.domain.scaling_spec import ExternalTriggerSpec, RedisTrigger

if TYPE_CHECKING:
    from redis.asyncio import Redis

PORT = 6379
ADDRESS = re.compile(r"(?:\[(?P<six>[0-9a-fA-F:.]+)\]|(?P<host>[^\s:/@\[\]]+))(?::(?P<port>\d{1,5}))?")
CELERY_PRIORITIES = ("", "\x06\x163", "\x06\x166", "\x06\x169")


@dataclass(frozen=True, slots=True)
class _Server:
    host: str
    port: int
    database: int
    tls: bool
    username: str | None
    password: str | None


class RedisSource:
    """Triggers with the same server, database and user share connections."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._clients: dict[_Server, Redis] = {}

    async def read(self, trigger: ExternalTriggerSpec) -> float:
        """As the port says."""
        trigger = expect(trigger, RedisTrigger)
        counts = counts_of(trigger)
        asked = " + ".join(f"{command} {key!r}" if "\x06" in key else f"{command} {key}" for command, key in counts)
        server, question = self._server(trigger, Question(asked, "Redis", trigger.timeout))
        client = self._client(server)
        from redis.exceptions import RedisError

        async with question.limited():
            try:
                if len(counts) == 1:
                    answers = [await client.execute_command(*counts[0])]  # type: ignore[no-untyped-call]
                else:
                    # One transaction: a job that moves on between two counts would be seen twice, or not at all.
                    async with client.pipeline(transaction=True) as together:
                        for count in counts:
                            together.execute_command(*count)
                        answers = await together.execute()
            except (RedisError, OSError, ValueError) as error:
                raise question.lost(_told(error)) from None
        return sum(question.number(answer) for answer in answers)

    async def close(self) -> None:
        clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            with contextlib.suppress(Exception):  # a server that is gone cannot be taken leave of
                await client.aclose()

    def _server(self, trigger: RedisTrigger, question: Question) -> tuple[_Server, Question]:
        address = trigger.address
        if address is None:
            if trigger.address_from_env is None:
                raise question.lost("it has no address; give address or addressFromEnv")
            address = question.variable(self._env, trigger.address_from_env, "addressFromEnv").strip()
        user_from, password_from = trigger.username_from_env, trigger.password_from_env
        username = question.variable(self._env, user_from, "usernameFromEnv") if user_from else None
        password = question.variable(self._env, password_from, "passwordFromEnv") if password_from else None
        found = ADDRESS.fullmatch(address)
        if found is None or int(found["port"] or PORT) > 65535:
            raise question.lost("its address is not host:port")
        server = _Server(
            found["six"] or found["host"],
            int(found["port"] or PORT),
            trigger.database_index,
            trigger.enable_tls,
            username,
            password,
        )
        return server, question.of_whom(f"Redis at {server.host}:{server.port}/{server.database}", password)

    def _client(self, server: _Server) -> Redis:
        client = self._clients.get(server)
        if client is None:
            try:
                from redis.asyncio import Redis
                from redis.asyncio.retry import Retry
                from redis.backoff import NoBackoff
            except ModuleNotFoundError:
                raise MissingExtra("scaling by Redis needs redis", hint="pip install 'headway[redis]'") from None
            client = self._clients[server] = Redis(
                host=server.host,
                port=server.port,
                db=server.database,
                username=server.username,
                password=server.password,
                ssl=server.tls,
                socket_timeout=None,  # the question's own limit holds for all of it
                socket_connect_timeout=None,
                retry=Retry(NoBackoff(), 1),  # a kept connection may have died with the server's last restart
                client_name="headway",
                protocol=2,  # without HELLO: servers before 6 have none, and its refusals tell less than NOAUTH
            )
        return client


def counts_of(trigger: RedisTrigger) -> list[tuple[str, str]]:
    """The commands whose answers add up to the length."""
    name = trigger.list_name
    match trigger.library:
        case "rq":
            return [("LLEN", f"rq:queue:{name}"), ("ZCARD", f"rq:wip:{name}"), ("ZCARD", f"rq:scheduled:{name}")]
        case "celery":
            return [*(("LLEN", f"{name}{step}") for step in CELERY_PRIORITIES), ("HLEN", "unacked")]
    return [("LLEN", name)]


def _told(error: BaseException) -> str:
    """The library keeps of a refused connection only its number."""
    number = re.match(r"Error (\d+) connecting to ", str(error))
    return os.strerror(int(number[1])) if number else reason(error)
