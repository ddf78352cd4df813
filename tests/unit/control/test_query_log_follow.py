"""A follower tells every record once and soon, however long requests take, whenever it is cut off."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.query_log import MemoryQueryLog
from headway.control import query_log_follow
from headway.control.query_log import QueryLogService
from headway.control.query_log_follow import LOOK_S, SLOW_LOOK_S, RecordFollower, Told
from headway.domain import query_cursors
from headway.domain.errors import ModelNotFound
from headway.domain.query_cursors import Cursor
from headway.domain.query_log import Condition, Operator, QueryRecord, RecordQuery
from tests.query_records import record

S = 1_000_000_000
Begin = Callable[[RecordFollower], AsyncGenerator[list[Told], None]]


class Room:
    """Requests that end, and followers that are told of them."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.log = MemoryQueryLog()
        self.seqs: dict[str, int] = defaultdict(int)
        self.told: list[QueryRecord] = []
        self.told_at: dict[tuple[str, int], float] = {}
        self.cursor: Cursor | None = None
        self.held = asyncio.Event()
        self.held.set()
        self._following: asyncio.Task[None] | None = None

    def now_ns(self) -> int:
        return int(self.clock.now() * 1e9)

    def end(self, took_s: float, stream: str = "s", *, lag_s: float = 0.0, **changed: object) -> QueryRecord:
        """A request was answered ``lag_s`` ago; its record appears now."""
        total = round(took_s * S)
        seq = self.seqs[stream]
        self.seqs[stream] += 1
        ts_ns = self.now_ns() - total - round(lag_s * S)
        one = record(ts_ns=ts_ns, total_ns=total, stream=stream, seq=seq, **changed)
        self.log.add([one])
        return one

    async def follow(self, begin: Begin, *where: Condition) -> None:
        follower = RecordFollower(self.log, self.clock, "iris", where)

        async def take() -> None:
            async for batch in begin(follower):
                await self.held.wait()
                for one, cursor in batch:
                    self.told.append(one)
                    self.told_at.setdefault((one.stream, one.seq), self.clock.monotonic())
                    self.cursor = query_cursors.parse(str(cursor), where="id")

        self._following = asyncio.create_task(take())
        await self.clock.settle()

    async def cut(self) -> None:
        assert self._following is not None
        self._following.cancel()
        with suppress(asyncio.CancelledError):
            await self._following

    def seqs_told(self) -> list[tuple[str, int]]:
        return [(one.stream, one.seq) for one in self.told]


def from_now(follower: RecordFollower) -> AsyncGenerator[list[Told], None]:
    return follower.from_now()


def test_only_what_ends_from_now_on_and_within_a_second() -> None:
    async def check() -> None:
        room = Room()
        room.end(0.1)
        await room.clock.elapse(0.001)
        await room.follow(from_now)
        expected = []
        for took in (0.001, 0.5, 5, 59, 0.01):
            await room.clock.elapse(0.3)
            expected.append(("s", room.end(took).seq))
            at = room.clock.monotonic()
            await room.clock.elapse(LOOK_S)
            assert room.told_at[expected[-1]] - at <= 1.0
        assert room.seqs_told() == expected
        await room.cut()

    asyncio.run(check())


def test_requests_of_more_than_a_minute_are_told_somewhat_later() -> None:
    async def check() -> None:
        room = Room()
        await room.follow(from_now)
        for took in (61, 1000, 7000):
            one = room.end(took)
            at = room.clock.monotonic()
            await room.clock.elapse(SLOW_LOOK_S + LOOK_S)
            assert room.told_at[one.stream, one.seq] - at <= SLOW_LOOK_S + LOOK_S
        await room.clock.elapse(100)
        assert len(room.told) == 3
        await room.cut()

    asyncio.run(check())


@pytest.mark.parametrize("seed", range(6))
def test_nothing_twice_and_nothing_left_out_however_often_it_is_cut_off(seed: int) -> None:
    async def check() -> None:
        draw = random.Random(seed)
        room = Room()
        await room.follow(from_now)
        ended: list[tuple[str, int]] = []
        for _ in range(150):
            for _ in range(draw.choice([0, 0, 1, 4])):
                one = room.end(draw.choice([0.001, 0.02, 0.9, 1.1, 3, 30]), f"s{draw.randrange(4)}")
                ended.append((one.stream, one.seq))
            await room.clock.elapse(draw.choice([0.01, 0.2, 0.5, 3, 40]))
            if room.cursor is not None and draw.random() < 0.15:
                await room.cut()
                room.clock.advance(draw.choice([0.0, 1.0, 90.0]))
                for _ in range(draw.randrange(3)):
                    one = room.end(0.3, f"s{draw.randrange(5)}")
                    ended.append((one.stream, one.seq))
                cursor = room.cursor
                await room.follow(lambda follower, cursor=cursor: follower.after(cursor))  # type: ignore[misc]
        await room.clock.elapse(2)
        await room.cut()
        assert len(room.told) == len(set(room.seqs_told()))
        assert sorted(room.seqs_told()) == sorted(ended)
        for stream in room.seqs:
            own = [seq for name, seq in room.seqs_told() if name == stream]
            assert own == sorted(own), "a stream is told in its own order"

    asyncio.run(check())


def test_cut_off_in_the_midst_of_a_batch() -> None:
    async def check() -> None:
        room = Room()

        async def next_told(batches: AsyncGenerator[list[Told], None]) -> list[Told]:
            while True:
                look = asyncio.ensure_future(anext(batches))
                await room.clock.settle()
                if not look.done():
                    room.clock.advance(LOOK_S)
                if batch := await look:
                    return batch

        batches = RecordFollower(room.log, room.clock, "iris", ()).from_now()
        await anext(batches)
        for number in range(6):
            room.end(0.1 * (number % 3), f"s{number % 2}")
        batch = await next_told(batches)
        assert len(batch) == 6
        room.end(0, "last")
        for kept in range(1, 7):
            again = RecordFollower(room.log, room.clock, "iris", ()).after(batch[kept - 1][1])
            rest = await next_told(again)
            assert [one for one, _ in rest[:-1]] == [one for one, _ in batch[kept:]]
            assert rest[-1][0].stream == "last"
            await again.aclose()
        await batches.aclose()

    asyncio.run(check())


def test_the_past_then_what_comes_with_requests_ending_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(query_log_follow, "PAGE", 100)

    async def check() -> None:
        room = Room()
        for _ in range(210):
            room.end(0.001, "old")
            room.clock.advance(0.01)
        room.end(20, "slow")  # arrived in the midst of the past, ended just now
        pages = room.log.records
        asked = 0

        async def while_more_ends(query: RecordQuery) -> list[QueryRecord]:
            nonlocal asked
            asked += 1
            found = await pages(query)
            if asked == 1:
                room.end(25, "slow")
            return found

        room.log.records = while_more_ends  # type: ignore[method-assign]
        await room.follow(lambda follower: follower.since(room.now_ns() - 60 * S))
        await room.clock.elapse(1)
        room.end(0.1, "new")
        await room.clock.elapse(1)
        assert asked > 4
        told = room.seqs_told()
        assert len(told) == len(set(told)) == 213
        await room.cut()

    asyncio.run(check())


def test_the_newest_then_what_comes() -> None:
    async def check() -> None:
        room = Room()
        for number in range(10):
            room.end(0.001, f"s{number % 2}")
            room.clock.advance(0.05)
        await room.follow(lambda follower: follower.newest(0, 3))
        assert room.seqs_told() == [("s1", 3), ("s0", 4), ("s1", 4)]
        await room.clock.elapse(1)
        assert len(room.told) == 3, "older ones that ended lately are not told after them"
        room.end(5, "s0")
        room.end(5, "s2")
        room.end(0.1, "s1", lag_s=1.7)
        await room.clock.elapse(1)
        assert sorted(room.seqs_told()[3:]) == [("s0", 5), ("s1", 5), ("s2", 0)]
        await room.cut()

    asyncio.run(check())


def test_a_page_can_be_followed_on() -> None:
    async def check() -> None:
        room = Room()
        service = QueryLogService(room.log, room.clock, lambda _: True)
        for number in range(6):
            room.end(0.4, f"s{number % 2}")
            room.clock.advance(0.1)
        now_ns = room.now_ns()
        records, cursor = await service.page(RecordQuery(model="iris", since_ns=0, until_ns=now_ns, limit=100), now_ns)
        assert len(records) == 6
        assert cursor is not None
        room.end(1.5, "s0")
        room.end(0.1, "s3")
        room.end(0.1, "s1", lag_s=0.7)
        given = query_cursors.parse(str(cursor), where="id")
        await room.follow(lambda follower: follower.after(given))
        assert sorted(room.seqs_told()) == [("s0", 3), ("s1", 3), ("s3", 0)]
        await room.cut()
        full, cursor = await service.page(RecordQuery(model="iris", since_ns=0, until_ns=now_ns, limit=4), now_ns)
        assert cursor == Cursor.of(full[-1]), "a page that is not the last one is no place to follow from exactly"

    asyncio.run(check())


@pytest.mark.parametrize("step_s", [-3600.0, -5.0, 5.0, 3600.0])
def test_a_clock_that_is_set_takes_and_repeats_nothing(step_s: float) -> None:
    async def check() -> None:
        room = Room()
        await room.follow(from_now)
        ended = []

        async def some_requests(stream: str) -> None:
            for _ in range(20):
                ended.append((stream, room.end(0.1, stream).seq))
                await room.clock.elapse(0.2)

        await some_requests("gone")
        await some_requests("stays")
        room.clock.step_wall(step_s)
        await some_requests("stays")
        await some_requests("new")
        await room.clock.elapse(30)
        await room.cut()
        assert sorted(room.seqs_told()) == sorted(ended)

    asyncio.run(check())


def test_a_reader_who_stops_reading_for_an_hour_is_told_all_of_it_in_bounded_steps() -> None:
    async def check() -> None:
        room = Room()
        await room.follow(from_now)
        room.held.clear()
        await room.clock.elapse(1)
        for number in range(900):
            room.end(0.5 if number % 10 else 45, f"s{number % 3}")
            room.clock.advance(4)
        largest = 0
        pages = room.log.records

        async def counted(query: RecordQuery) -> list[QueryRecord]:
            nonlocal largest
            found = await pages(query)
            largest = max(largest, len(found))
            return found

        room.log.records = counted  # type: ignore[method-assign]
        room.held.set()
        await room.clock.elapse(2)
        assert len(room.told) == len(set(room.seqs_told())) == 900
        assert largest < 60
        await room.cut()

    asyncio.run(check())


def test_only_what_satisfies_the_conditions() -> None:
    async def check() -> None:
        room = Room()
        await room.follow(from_now, Condition("status", Operator.GE, 500))
        for status in (200, 500, 404, 503):
            room.end(2, status=status)
            room.end(90, status=status)
            room.end(0.1, status=status, model="wine")
        await room.clock.elapse(20)
        assert sorted(one.status for one in room.told) == [500, 500, 503, 503]
        await room.cut()

    asyncio.run(check())


def test_of_an_unknown_model_nothing_is_followed() -> None:
    async def check() -> None:
        room = Room()
        service = QueryLogService(room.log, room.clock, lambda _: False)
        with pytest.raises(ModelNotFound):
            await service.follow("iris", (), since_ns=None, newest=None, after=None)
        room.end(1)
        await service.follow("iris", (), since_ns=None, newest=None, after=None)

    asyncio.run(check())
