"""Queues as RQ and Celery keep them, on a real Redis that refuses, fails and crashes."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import redis

from headway.adapters.signals import RedisSource
from headway.domain.errors import SignalLost
from headway.domain.scaling_spec import RedisTrigger
from tests.integration.sources import rq_jobs
from tests.services.documented import documented
from tests.services.fixtures import PASSWORD, RedisService
from tests.waiting import PortPicker

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def direct(redis_service: RedisService) -> Iterator[redis.Redis]:
    with redis.Redis(port=redis_service.port, password=PASSWORD) as direct:
        direct.flushall()
        yield direct


@pytest.fixture
async def source() -> AsyncIterator[RedisSource]:
    source = RedisSource({"PASSWORD": PASSWORD, "WRONG": "guessed-password", "USER": "app"})
    yield source
    await source.close()


def trigger(port: int, name: str = "jobs", **more: Any) -> RedisTrigger:
    fields = {"address": f"127.0.0.1:{port}", "password_from_env": "PASSWORD", "timeout": "30s", **more}
    return RedisTrigger(type="redis", list_name=name, **fields)


async def test_a_list_that_is_not_there_is_empty(
    source: RedisSource, redis_service: RedisService, direct: redis.Redis
) -> None:
    assert await source.read(trigger(redis_service.port)) == 0
    direct.rpush("jobs", "a", "b")
    assert await source.read(trigger(redis_service.port)) == 2
    assert await source.read(trigger(redis_service.port, database_index=1)) == 0


def test_rq_counts_jobs_that_are_queued_started_and_scheduled(redis_service: RedisService, direct: redis.Redis) -> None:
    """RQ itself fills its queue; the number read within a job holds that job as started."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import rq
    queue = rq.Queue("thumbnails", connection=direct)
    rq_jobs.seen.clear()
    for _ in range(3):
        queue.enqueue(rq_jobs.measure, redis_service.port, PASSWORD, "thumbnails")
    queue.enqueue_in(datetime.timedelta(hours=1), rq_jobs.measure, 0, "", "")
    queue.enqueue_in(datetime.timedelta(hours=2), rq_jobs.measure, 0, "", "")
    rq.SimpleWorker([queue], connection=direct).work(burst=True, logging_level="ERROR")
    # One started each time, two scheduled; queued behind it are two, one, none.
    assert rq_jobs.seen == [5, 4, 3]


async def test_celery_counts_every_priority_and_what_workers_hold(
    source: RedisSource, redis_service: RedisService, direct: redis.Redis
) -> None:
    """The keys of kombu's Redis transport."""
    asked = trigger(redis_service.port, "emails", library="celery")
    assert await source.read(asked) == 0
    direct.rpush("emails", *range(5))
    direct.rpush("emails\x06\x163", *range(3))
    direct.rpush("emails\x06\x169", 1)
    direct.rpush("other", *range(50))
    direct.hset("unacked", mapping={"tag-1": "[]", "tag-2": "[]"})
    assert await source.read(asked) == 5 + 3 + 1 + 2


@pytest.mark.parametrize(
    ("library", "key", "kind"),
    [
        (None, "jobs", "hash"),
        ("rq", "rq:wip:jobs", "list"),
        ("celery", "unacked", "list"),
        ("rq", "rq:queue:jobs", "hash"),
    ],
)
async def test_a_key_that_holds_something_else(
    source: RedisSource, redis_service: RedisService, direct: redis.Redis, library: str | None, key: str, kind: str
) -> None:
    if kind == "hash":
        direct.hset(key, "a", "b")
    else:
        direct.rpush(key, "a")
    with pytest.raises(SignalLost, match="WRONGTYPE"):
        await source.read(trigger(redis_service.port, library=library))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"password_from_env": None}, "NOAUTH|Authentication required"),
        ({"password_from_env": "WRONG"}, "WRONGPASS|invalid"),
        ({"username_from_env": "USER"}, "WRONGPASS|invalid"),
        ({"password_from_env": "UNSET"}, "UNSET, named by passwordFromEnv, is not set"),
        ({"username_from_env": "UNSET"}, "UNSET, named by usernameFromEnv, is not set"),
        ({"database_index": 1000}, "DB index is out of range"),
        ({"enable_tls": True, "timeout": "300ms"}, "no answer within 300ms"),
    ],
)
async def test_redis_refuses(
    source: RedisSource, redis_service: RedisService, fields: dict[str, Any], said: str
) -> None:
    with pytest.raises(SignalLost, match=said) as caught:
        await source.read(trigger(redis_service.port, **fields))
    assert f"Redis at 127.0.0.1:{redis_service.port}" in caught.value.message or "UNSET" in caught.value.message
    assert PASSWORD not in str(caught.value)
    assert "guessed-password" not in str(caught.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("127.0.0.1:1", "Connection refused"),
        ("no-such-host.invalid", "known|resolution"),
        ("redis://host:6379", "not host:port"),
        ("host:port", "not host:port"),
        ("host:66000", "not host:port"),
        (":6379", "not host:port"),
        ("", "ADDRESS, named by addressFromEnv, is not set"),
    ],
)
async def test_an_address_from_the_environment_may_be_none(address: str, said: str) -> None:
    source = RedisSource({"ADDRESS": address})
    try:
        with pytest.raises(SignalLost, match=rf"Redis.*, asked for LLEN jobs: .*({said})"):
            await source.read(trigger(0, address=None, address_from_env="ADDRESS", password_from_env=None))
    finally:
        await source.close()


async def test_redis_crashes_and_comes_back(
    source: RedisSource, redis_service: RedisService, direct: redis.Redis
) -> None:
    direct.rpush("jobs", *range(7))
    asked = trigger(redis_service.port)
    assert await source.read(asked) == 7
    redis_service.kill()
    try:
        for _ in range(2):
            with pytest.raises(SignalLost, match="Connection refused"):
                await source.read(asked)
    finally:
        redis_service.restart()
    assert await source.read(asked) == 7


async def test_redis_hangs_and_goes_on(source: RedisSource, redis_service: RedisService, direct: redis.Redis) -> None:
    direct.rpush("jobs", *range(7))
    assert await source.read(trigger(redis_service.port)) == 7
    redis_service.pause()
    try:
        with pytest.raises(SignalLost, match="no answer within 200ms"):
            await source.read(trigger(redis_service.port, timeout="200ms"))
    finally:
        redis_service.resume()
    assert await source.read(trigger(redis_service.port)) == 7


async def test_nothing_listens(source: RedisSource, free_port: PortPicker) -> None:
    with pytest.raises(SignalLost, match="Connection refused"):
        await source.read(trigger(free_port()))


async def test_the_documented_trigger(redis_service: RedisService, direct: redis.Redis) -> None:
    shown = documented(RedisTrigger)
    direct.rpush("rq:queue:thumbnails", *range(4))
    direct.zadd("rq:wip:thumbnails", {"a-job": 1})
    source = RedisSource({str(shown.password_from_env): PASSWORD})
    try:
        assert await source.read(shown.model_copy(update={"address": f"127.0.0.1:{redis_service.port}"})) == 5
    finally:
        await source.close()
