"""The keeper goes on whatever fails, and says what is lost once and in time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.event_log import MemoryEventLog
from headway.adapters.memory.payload_log import MemoryPayloadLog
from headway.adapters.memory.query_log import MemoryQueryLog
from headway.control.query_log import COMPACT_S, INGEST_S, STOP_S, TELL_S, QueryLogKeeper
from headway.domain.errors import StorageFailed
from headway.domain.events import EventType, NewEvent
from headway.domain.query_log import CompactionReport, IngestReport, Losses, Retention

RETENTION = Retention(max_age_s=3600.0, max_bytes=10)
PAYLOAD_RETENTION = Retention(max_age_s=60.0, max_bytes=5)


class ScriptedQueryLog(MemoryQueryLog):
    """Loses and fails as it is told to, and counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.ingests = 0
        self.compactions: list[tuple[int, Retention]] = []
        self.newly: list[dict[str, Losses]] = []
        self.ingest_error: Exception | None = None
        self.compact_error: Exception | None = None
        self.hold: asyncio.Event | None = None

    async def ingest(self) -> IngestReport:
        self.ingests += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.ingest_error is not None:
            raise self.ingest_error
        return IngestReport(newly_lost=self.newly.pop(0) if self.newly else {})

    async def compact(self, now_ns: int, retention: Retention) -> CompactionReport:
        self.compactions.append((now_ns, retention))
        if self.compact_error is not None:
            raise self.compact_error
        return CompactionReport()


class ScriptedPayloadLog(MemoryPayloadLog):
    """Fails as it is told to, and counts what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.expiries: list[tuple[int, Retention]] = []
        self.error: Exception | None = None

    async def expire(self, now_ns: int, retention: Retention) -> int:
        self.expiries.append((now_ns, retention))
        if self.error is not None:
            raise self.error
        return await super().expire(now_ns, retention)


class Room:
    def __init__(self) -> None:
        self.log = ScriptedQueryLog()
        self.payloads = ScriptedPayloadLog()
        self.clock = ManualClock()
        self.events = MemoryEventLog()
        self.keeper = QueryLogKeeper(
            self.log,
            self.events,
            self.clock,
            RETENTION,
            payloads=self.payloads,
            payload_retention=PAYLOAD_RETENTION,
        )

    async def told(self) -> list[tuple[str, str | None, dict[str, Any]]]:
        return [(event.type, event.model, dict(event.data)) for event in await self.events.read()]


def losses(**counts: int) -> dict[str, int]:
    return {"dropped": 0, "torn": 0, "missing": 0, "clock_steps": 0, **counts}


def test_it_ingests_every_second_and_compacts_every_ten() -> None:
    async def check() -> None:
        room = Room()
        begun = room.clock.now()
        await room.keeper.start()
        await room.clock.elapse(30 * INGEST_S)
        assert room.log.ingests == 31
        times = [now_ns / 1e9 - begun for now_ns, _ in room.log.compactions]
        assert times == pytest.approx([0, COMPACT_S, 2 * COMPACT_S, 3 * COMPACT_S])
        assert {retention for _, retention in room.log.compactions} == {RETENTION}
        await room.keeper.stop()
        assert await room.told() == []

    asyncio.run(check())


def test_what_is_lost_is_told_once_a_minute_and_model_and_nothing_is_left_out() -> None:
    async def check() -> None:
        room = Room()
        lost = {"iris": Losses(dropped=1, clock_steps=1), "wine": Losses(torn=2)}
        room.log.newly = [lost, *({"iris": Losses(missing=1)} for _ in range(30)), {"iris": Losses()}]
        await room.keeper.start()
        await room.clock.elapse(TELL_S - 1)
        first = [
            (EventType.QUERY_LOG_INCOMPLETE, "iris", losses(dropped=1, clock_steps=1)),
            (EventType.QUERY_LOG_INCOMPLETE, "wine", losses(torn=2)),
        ]
        assert await room.told() == first
        await room.clock.elapse(2)
        assert await room.told() == [*first, (EventType.QUERY_LOG_INCOMPLETE, "iris", losses(missing=30))]
        await room.clock.elapse(5 * TELL_S)
        assert len(await room.told()) == 3
        await room.keeper.stop()

    asyncio.run(check())


def test_stopping_tells_what_waits_to_be_told_and_takes_in_what_is_left() -> None:
    async def check() -> None:
        room = Room()
        room.log.newly = [{"iris": Losses(dropped=1)}, {"iris": Losses(dropped=2)}]
        await room.keeper.start()
        await room.clock.elapse(INGEST_S)
        room.log.newly = [{"iris": Losses(dropped=4)}]
        before = room.log.ingests
        await room.keeper.stop()
        assert room.log.ingests == before + 1
        assert [data["dropped"] for _, _, data in await room.told()] == [1, 6]

    asyncio.run(check())


@pytest.mark.parametrize("error", [StorageFailed("no space"), ValueError("a fault of our own")])
def test_a_failure_is_told_once_and_so_is_its_end(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        room = Room()
        room.log.ingest_error = error
        await room.keeper.start()
        await room.clock.elapse(5)
        message = "no space" if isinstance(error, StorageFailed) else "ValueError: a fault of our own"
        failed = (EventType.QUERY_LOG_FAILED, None, {"step": "ingest", "message": message})
        assert await room.told() == [failed]
        assert room.log.compactions, "one step that fails keeps the other from nothing"
        room.log.compact_error = StorageFailed("nor here")
        await room.clock.elapse(COMPACT_S)
        room.log.ingest_error = None
        await room.clock.elapse(COMPACT_S)
        assert await room.told() == [failed], "it has recovered only when both steps work"
        room.log.compact_error = None
        await room.clock.elapse(COMPACT_S)
        recovered = (await room.told())[1:]
        assert [kind for kind, _, _ in recovered] == [EventType.QUERY_LOG_RECOVERED]
        assert 2 * COMPACT_S < recovered[0][2]["failed_s"] <= 4 * COMPACT_S
        await room.keeper.stop()

    with caplog.at_level(logging.ERROR):
        asyncio.run(check())
    traces = [entry for entry in caplog.records if entry.exc_info]
    assert len(traces) == 2, "the same failure every second is logged once"


def test_payloads_expire_by_their_own_retention_whatever_becomes_of_the_records() -> None:
    async def check() -> None:
        room = Room()
        room.log.compact_error = StorageFailed("no space")
        begun = room.clock.now()
        await room.keeper.start()
        await room.clock.elapse(2 * COMPACT_S)
        times = [now_ns / 1e9 - begun for now_ns, _ in room.payloads.expiries]
        assert times == pytest.approx([0, COMPACT_S, 2 * COMPACT_S])
        assert {retention for _, retention in room.payloads.expiries} == {PAYLOAD_RETENTION}
        await room.keeper.stop()

    asyncio.run(check())


def test_payloads_that_cannot_expire_are_a_fault_like_others() -> None:
    async def check() -> None:
        room = Room()
        room.payloads.error = StorageFailed("no such folder")
        await room.keeper.start()
        await room.clock.elapse(2 * COMPACT_S)
        failed = (EventType.QUERY_LOG_FAILED, None, {"step": "expire payloads", "message": "no such folder"})
        assert await room.told() == [failed]
        assert room.log.ingests == 21
        room.payloads.error = None
        await room.clock.elapse(COMPACT_S)
        assert [kind for kind, _, _ in (await room.told())[1:]] == [EventType.QUERY_LOG_RECOVERED]
        await room.keeper.stop()

    asyncio.run(check())


def test_an_event_that_cannot_be_recorded_is_told_later() -> None:
    async def check() -> None:
        room = Room()
        append = room.events.append
        refused = 0

        async def refuse(events: Sequence[NewEvent]) -> int:
            nonlocal refused
            refused += 1
            raise StorageFailed("no space")

        room.events.append = refuse  # type: ignore[method-assign]
        room.log.newly = [{"iris": Losses(dropped=1)}, {"iris": Losses(dropped=2)}]
        room.log.compact_error = StorageFailed("no space")
        await room.keeper.start()
        await room.clock.elapse(3)
        assert refused >= 6
        room.events.append = append  # type: ignore[method-assign]
        await room.clock.elapse(1)
        assert await room.told() == [
            (EventType.QUERY_LOG_INCOMPLETE, "iris", losses(dropped=3)),
            (EventType.QUERY_LOG_FAILED, None, {"step": "compact", "message": "no space"}),
        ]
        await room.keeper.stop()

    asyncio.run(check())


def test_start_and_stop_in_any_order_and_number() -> None:
    async def check() -> None:
        room = Room()
        await room.keeper.stop()
        await asyncio.gather(*(room.keeper.start() for _ in range(5)))
        await room.clock.elapse(2)
        assert room.log.ingests == 3, "five starts make one keeper"
        await asyncio.gather(*(room.keeper.stop() for _ in range(5)))
        await room.keeper.stop()
        ended = room.log.ingests
        await room.clock.elapse(60)
        assert room.log.ingests == ended
        for _ in range(20):
            await asyncio.gather(room.keeper.start(), room.keeper.stop(), room.keeper.start(), room.keeper.stop())
        await room.keeper.start()
        await room.keeper.stop()
        assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    asyncio.run(check())


def test_a_step_that_hangs_does_not_keep_the_keeper_from_being_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    assert STOP_S <= 30
    monkeypatch.setattr("headway.control.query_log.STOP_S", 0.01)

    async def check() -> None:
        room = Room()
        room.log.hold = asyncio.Event()
        await room.keeper.start()
        await room.clock.settle()
        await room.keeper.stop()
        assert room.log.ingests == 1
        assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]

    asyncio.run(check())
