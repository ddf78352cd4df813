"""How the failure of a question is told, and what counts as a number."""

from __future__ import annotations

import asyncio
import builtins
import errno
import socket
import sys
from decimal import Decimal
from typing import Any

import pytest

from headway.adapters.signals import PostgresqlSource, RabbitmqSource, RedisSource
from headway.adapters.signals.question import Question, bare, reason
from headway.adapters.signals.redis import counts_of
from headway.domain.errors import MissingExtra, SignalLost
from headway.domain.scaling_spec import ExternalTriggerSpec, PostgresqlTrigger, RabbitmqTrigger, RedisTrigger
from headway.ports.metric_source import MetricSource

QUESTION = Question("LLEN jobs", "Redis at cache:6379/0", "3s", ("p@ss/word",))


@pytest.mark.parametrize(("value", "number"), [(0, 0.0), (3, 3.0), (-1.5, -1.5), (Decimal("2.5"), 2.5)])
def test_numbers(value: object, number: float) -> None:
    answer = QUESTION.number(value)
    assert (answer, type(answer)) == (number, float)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "null instead of a number"),
        ("3", "str '3' instead of a number"),
        (b"3", "bytes"),
        (True, "bool 'True'"),
        (float("nan"), "nan instead of a finite number"),
        (float("-inf"), "-inf instead of a finite number"),
        (Decimal("NaN"), "NaN instead of a finite number"),
        ([3], "list"),
    ],
)
def test_no_numbers(value: object, said: str) -> None:
    with pytest.raises(SignalLost, match=said):
        QUESTION.number(value)


def test_a_failure_names_what_was_asked_of_whom_and_what_came_back() -> None:
    lost = QUESTION.lost("WRONGTYPE\n  not a list")
    assert lost.message == "Redis at cache:6379/0, asked for LLEN jobs: WRONGTYPE not a list"
    assert lost.details == {
        "asked": "LLEN jobs",
        "of": "Redis at cache:6379/0",
        "came_back": "WRONGTYPE not a list",
    }
    assert QUESTION.lost("").details["came_back"] == "nothing"
    assert len(QUESTION.lost("long " * 1000).details["came_back"]) <= 200


@pytest.mark.parametrize("spelling", ["p@ss/word", "p%40ss%2Fword"])
def test_secrets_are_left_out_in_every_spelling(spelling: str) -> None:
    assert QUESTION.lost(f"no such user: {spelling}!").details["came_back"] == "no such user: ***!"
    encoded = Question("", "", "3s", ("p%40ss%2Fword",))
    assert encoded.lost(f"no such user: {spelling}!").details["came_back"] == "no such user: ***!"


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://user:secret@host:9090/prefix/?token=secret#secret", "http://host:9090/prefix"),
        ("amqp://user:se@cret@host/%2F", "amqp://host/%2F"),
        ("postgresql://user:secret@[::1]:5432/db?password=secret", "postgresql://[::1]:5432/db"),
        ("secret", "an address without a host"),
        ("http://[secret", "an address that cannot be read"),
    ],
)
def test_addresses_are_shown_bare(address: str, shown: str) -> None:
    assert bare(address) == shown


def test_the_reason_is_what_the_system_says() -> None:
    refused = OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)")
    wrapped = ValueError("")
    wrapped.__cause__ = ExceptionGroup("all attempts failed", [refused])
    assert reason(wrapped) == "Connection refused"
    assert reason(socket.gaierror(socket.EAI_NONAME, "Name or service not known")) == "Name or service not known"
    assert reason(KeyError("x")) == "KeyError: 'x'"
    assert reason(KeyError()) == "KeyError"


def test_time_runs_out_for_all_of_it() -> None:
    async def ask() -> None:
        async with Question("x", "y", "20ms").limited():
            await asyncio.Event().wait()

    with pytest.raises(SignalLost, match="no answer within 20ms"):
        asyncio.run(ask())


def test_somebody_elses_time_limit_is_told_as_it_is() -> None:
    async def ask() -> None:
        async with Question("x", "y", "30s").limited():
            raise TimeoutError(errno.ETIMEDOUT, "whatever")

    with pytest.raises(SignalLost, match="Connection timed out"):
        asyncio.run(ask())


REDIS = RedisTrigger(type="redis", address="127.0.0.1:1", list_name="jobs")
RABBITMQ = RabbitmqTrigger(type="rabbitmq", host="amqp://127.0.0.1:1/", queue_name="jobs", value=1)
POSTGRESQL = PostgresqlTrigger(
    type="postgresql", connection="postgresql://user@127.0.0.1:1/db", query="SELECT 1", target_query_value=1
)


@pytest.mark.parametrize(
    ("make", "trigger", "package", "extra"),
    [
        (RedisSource, REDIS, "redis", "redis"),
        (RabbitmqSource, RABBITMQ, "aio_pika", "rabbitmq"),
        (PostgresqlSource, POSTGRESQL, "asyncpg", "postgresql"),
    ],
)
def test_a_missing_library_is_named_with_its_extra(
    make: Any, trigger: ExternalTriggerSpec, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a source that is never asked needs no library."""
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *args, **kwargs)

    for name in [name for name in sys.modules if name.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)

    async def ask() -> None:
        source: MetricSource = make({})
        try:
            await source.read(trigger)
        finally:
            await source.close()

    with pytest.raises(MissingExtra) as caught:
        asyncio.run(ask())
    assert caught.value.hint == f"pip install 'headway[{extra}]'"


def test_what_of_redis_is_counted() -> None:
    def keys(library: str | None) -> list[tuple[str, str]]:
        return counts_of(REDIS.model_copy(update={"library": library}))

    assert keys(None) == [("LLEN", "jobs")]
    assert keys("rq") == [("LLEN", "rq:queue:jobs"), ("ZCARD", "rq:wip:jobs"), ("ZCARD", "rq:scheduled:jobs")]
    assert keys("celery") == [
        ("LLEN", "jobs"),
        ("LLEN", "jobs\x06\x163"),
        ("LLEN", "jobs\x06\x166"),
        ("LLEN", "jobs\x06\x169"),
        ("HLEN", "unacked"),
    ]
