"""What every event log does."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from headway.domain.errors import HeadwayError
from headway.domain.events import Event, EventType, NewEvent
from headway.ports.event_log import EventLog


def event(number: int = 0, model: str | None = "iris", at: float = 1_700_000_000.25) -> NewEvent:
    return NewEvent(at, EventType.REPLICA_READY, model, "v1", "iris-v1-bcdfg", {"number": number})


def numbers(events: Sequence[Event]) -> list[int]:
    return [e.data["number"] for e in events]


async def read_on(log: EventLog, count: int) -> list[Event]:
    """Follow the log as a client does, until ``count`` events were seen."""
    seen: list[Event] = []
    while len(seen) < count:
        after = seen[-1].cursor if seen else 0
        assert await log.wait(after, 30)
        seen.extend(await log.read(after=after, limit=7))
    return seen


@pytest.mark.anyio
class EventLogContract:
    """Subclasses give a fixture ``log`` whose ``wait`` would look for itself only after a minute."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_an_empty_log(self, log: EventLog) -> None:
        assert await log.last_cursor() == 0
        assert await log.read() == []
        assert await log.append([]) == 0
        assert await log.wait(0, 0) is False

    async def test_what_is_appended_is_read_in_order_and_unchanged(self, log: EventLog) -> None:
        data = {"text": "é\0\ud800 ", "list": [1, 2.5, None, True, {"a": []}], "big": 2**53, "tiny": 1e-300}
        first = NewEvent(1_700_000_000.125, EventType.VERSION_FAILED, "iris", "v2", None, data)
        cursor = await log.append([first, NewEvent(0.0, EventType.CONTROL_STARTED)])
        one, two = await log.read()
        assert one.cursor < two.cursor == cursor == await log.last_cursor()
        assert (one.at, one.type, one.model, one.version, one.replica) == (
            1_700_000_000.125, "version_failed.v1", "iris", "v2", None,
        )  # fmt: skip
        assert dict(one.data) == data
        assert type(one.type) is str
        assert (two.at, two.type, two.model, dict(two.data)) == (0.0, "control_started.v1", None, {})

    async def test_cursors_grow_and_appending_nothing_tells_the_newest(self, log: EventLog) -> None:
        cursors = [await log.append([event(i), event(i)]) for i in range(5)]
        assert cursors == sorted(set(cursors))
        assert await log.append([]) == cursors[-1] == await log.last_cursor()
        assert len(await log.read()) == 10

    async def test_after_limit_and_model_narrow_what_is_read(self, log: EventLog) -> None:
        await log.append([event(i, "iris" if i % 2 else "wine") for i in range(10)])
        every = await log.read()
        assert numbers(every) == [*range(10)]
        assert numbers(await log.read(after=every[3].cursor)) == [4, 5, 6, 7, 8, 9]
        assert numbers(await log.read(after=every[3].cursor, limit=2)) == [4, 5]
        assert numbers(await log.read(model="wine")) == [0, 2, 4, 6, 8]
        assert numbers(await log.read(after=every[2].cursor, limit=2, model="wine")) == [4, 6]
        assert await log.read(model="none") == []

    async def test_what_has_a_key_is_recorded_once(self, log: EventLog) -> None:
        one, two = replace(event(1), key="u/one"), replace(event(2), key="u/two")
        await log.append([one, event(0), one])
        assert await log.append([replace(one, at=9.0), two, event(3)]) == await log.last_cursor()
        newest = await log.last_cursor()
        assert await log.append([one, two]) == newest
        assert [(e.key, e.data["number"]) for e in await log.read()] == [
            ("u/one", 1), (None, 0), ("u/two", 2), (None, 3),
        ]  # fmt: skip

    async def test_several_who_find_out_the_same_record_it_once(self, log: EventLog) -> None:
        same = [replace(event(number), key=f"u/{number}") for number in range(5)]
        await asyncio.gather(*(log.append(same) for _ in range(4)))
        assert numbers(await log.read()) == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize("arguments", [{"limit": 0}, {"limit": -1}, {"after": 2**63}, {"after": 10**30}])
    async def test_odd_bounds_read_nothing(self, log: EventLog, arguments: dict[str, int]) -> None:
        await log.append([event()])
        assert await log.read(**arguments) == []  # type: ignore[arg-type]

    async def test_a_negative_cursor_reads_from_the_beginning(self, log: EventLog) -> None:
        await log.append([event(1)])
        assert numbers(await log.read(after=-5)) == [1]

    @pytest.mark.parametrize("data", [{"x": float("nan")}, {"x": object()}, {"x": {1, 2}}])
    async def test_data_that_is_not_json_is_refused_with_the_whole_batch(
        self, log: EventLog, data: dict[str, object]
    ) -> None:
        with pytest.raises(HeadwayError, match="not JSON"):
            await log.append([event(), NewEvent(1.0, EventType.ROUTE_APPLIED, data=data)])
        assert await log.read() == []

    async def test_nobody_changes_the_past_through_what_they_hold(self, log: EventLog) -> None:
        held = {"list": [1]}
        await log.append([NewEvent(1.0, EventType.ROUTE_APPLIED, data=held)])
        held["list"].append(2)
        (read,) = await log.read()
        read.data["list"].append(3)
        assert dict((await log.read())[0].data) == {"list": [1]}

    async def test_a_reader_meets_every_event_once_while_others_append(self, log: EventLog) -> None:
        async def writer(offset: int) -> None:
            for i in range(offset, offset + 20, 2):
                await log.append([event(i), event(i + 1)])

        seen, *_ = await asyncio.gather(read_on(log, 60), writer(0), writer(100), writer(200))
        assert [e.cursor for e in seen] == sorted({e.cursor for e in seen})
        assert sorted(numbers(seen)) == [*range(20), *range(100, 120), *range(200, 220)]
        for first, second in zip(seen[::2], seen[1::2], strict=True):
            assert second.data["number"] == first.data["number"] + 1, "a batch was torn apart"

    async def test_wait_tells_at_once_what_is_there_already(self, log: EventLog) -> None:
        cursor = await log.append([event()])
        assert await log.wait(cursor - 1, 0) is True
        assert await log.wait(cursor, 0) is False

    async def test_wait_ends_when_its_time_is_over(self, log: EventLog) -> None:
        assert await log.wait(await log.append([event()]), 0.02) is False

    async def test_wait_wakes_everybody_at_once(self, log: EventLog) -> None:
        cursor = await log.append([event()])
        waiters = [asyncio.create_task(log.wait(cursor, 60)) for _ in range(5)]
        gone = asyncio.create_task(log.wait(cursor, 60))
        await asyncio.sleep(0)
        gone.cancel()
        async with asyncio.timeout(20):
            await log.append([event()])
            assert await asyncio.gather(*waiters) == [True] * 5
        with pytest.raises(asyncio.CancelledError):
            await gone

    async def test_wait_for_a_later_cursor_sleeps_through_earlier_ones(self, log: EventLog) -> None:
        cursor = await log.append([event()])
        waiter = asyncio.create_task(log.wait(cursor + 1, 60))
        await log.append([event()])
        assert await log.wait(cursor + 1, 0.02) is False
        assert not waiter.done()
        await log.append([event()])
        async with asyncio.timeout(20):
            assert await waiter is True
