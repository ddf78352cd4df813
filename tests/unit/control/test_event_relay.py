"""The relay tells every event, in order, whatever breaks in between."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.event_log import MemoryEventLog
from headway.adapters.memory.event_relay import MemoryEventPublisher, MemoryExchange, MemoryRelayStore
from headway.control.event_relay import PAGE, RELAY, RETRY_S, EventRelay
from headway.domain.events import Event, EventType, NewEvent
from tests.waiting import eventually

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class BrittleLog(MemoryEventLog):
    """Cannot be read as often as it is told."""

    failures = 0

    async def read(self, *, after: int = 0, limit: int = 1000, model: str | None = None) -> list[Event]:
        if self.failures:
            self.failures -= 1
            raise OSError("disk")
        return await super().read(after=after, limit=limit, model=model)


class Room:
    def __init__(self) -> None:
        self.log = BrittleLog()
        self.store = MemoryRelayStore(self.log)
        self.exchange = MemoryExchange()
        self.clock = ManualClock()
        self.relay = self.make()

    def make(self) -> EventRelay:
        return EventRelay(self.log, self.store, MemoryEventPublisher(self.exchange), self.clock)

    async def record(self, count: int, models: Sequence[str] = ("iris", "wine")) -> None:
        await self.log.append(
            [NewEvent(self.clock.now(), EventType.REPLICA_READY, models[n % len(models)]) for n in range(count)]
        )

    def cursors(self) -> list[int]:
        return [message.body["cursor"] for message in self.exchange.messages]

    async def until(self, fact: Callable[[], object], what: str) -> None:
        """Turn the clock until it is so."""

        async def turned() -> bool:
            await self.clock.elapse(RETRY_S)
            return bool(fact())

        turn: Callable[[], bool | Awaitable[bool]] = turned
        await eventually(turn, what=what)


async def test_all_that_happens_from_the_first_start_on_is_told_once() -> None:
    room = Room()
    await room.record(2)
    await room.relay.start()
    await room.relay.start()
    await room.record(PAGE + 10)
    await room.until(lambda: room.relay.status.relayed == PAGE + 12, "all is told")
    assert room.cursors() == list(range(3, PAGE + 13))
    status = room.relay.status
    assert (status.connected, status.waiting, status.oldest_at, status.problem) == (True, 0, None, None)
    await room.relay.stop()
    await room.relay.stop()


async def test_the_next_one_goes_on_where_the_last_has_ended() -> None:
    room = Room()
    await room.relay.start()
    await room.record(3)
    await room.relay.stop()  # tells what is left
    assert room.cursors() == [1, 2, 3]
    await room.record(2)
    second = room.make()
    await second.start()
    await room.until(lambda: second.status.relayed == 5, "the rest is told")
    await second.stop()
    assert room.cursors() == [1, 2, 3, 4, 5]
    assert len({message.id.rpartition("-")[0] for message in room.exchange.messages}) == 1


async def test_while_the_broker_is_away_events_wait_and_are_counted() -> None:
    room = Room()
    await room.relay.start()
    room.exchange.away = True
    at = room.clock.now()
    await room.record(4)
    await room.until(lambda: room.relay.status.waiting == 4, "it is known what waits")
    status = room.relay.status
    assert (status.connected, status.oldest_at, status.problem) == (False, at, "the broker is away")
    room.exchange.away = False
    await room.until(lambda: room.relay.status.relayed == 4, "all is told")
    assert room.cursors() == [1, 2, 3, 4]
    await room.relay.stop()


async def test_a_log_that_cannot_be_read_for_a_while_is_read_again() -> None:
    room = Room()
    room.log.failures = 3
    await room.relay.start()
    await room.until(lambda: room.relay.status.problem == "OSError: disk", "the problem is told")
    await room.record(2)
    await room.until(lambda: room.relay.status.relayed == 2, "all is told")
    assert room.relay.status.problem is None
    await room.relay.stop()


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_breaks_none_is_lost_and_each_model_keeps_its_order(seed: int) -> None:
    """Relays are killed and the broker breaks off at random; what is not known to be told is told again."""
    room, dice = Room(), random.Random(seed)
    await room.relay.start()
    for _ in range(20):
        await room.record(dice.randrange(8))
        room.exchange.take = dice.randrange(6)
        await room.clock.elapse(RETRY_S * dice.randrange(3))
        if dice.random() < 0.3:  # a crash: nothing is told any more, no mark is set
            task = room.relay._task
            assert task is not None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            room.relay = room.make()
            await room.relay.start()
    room.exchange.take = None
    newest = await room.log.last_cursor()
    await room.until(lambda: room.relay.status.relayed == newest, "all is told")
    await room.relay.stop()
    assert (await room.store.begin(RELAY)).cursor == newest
    firsts = {message.id: message for message in reversed(room.exchange.messages)}
    told = [message for message in room.exchange.messages if firsts[message.id] is message]
    assert sorted(message.body["cursor"] for message in told) == list(range(1, newest + 1))
    for lane in {message.lane for message in told}:
        cursors = [message.body["cursor"] for message in told if message.lane == lane]
        assert cursors == sorted(cursors)
