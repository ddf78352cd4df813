"""What every store of sightings does."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest

from headway.domain.errors import StaleWrite
from headway.domain.events import EventType, NewEvent
from headway.domain.sightings import Sighting, Step
from headway.ports.event_log import EventLog
from headway.ports.sighting_store import SightingStore

FIRST = Sighting("u-1", "Pod", "models", "iris-v1-abc", "10", {"starts": 1, "exit": None})
LATER = replace(FIRST, version="12", facts={"starts": 2})
GONE = replace(LATER, version="15", facts=None, gone_at=100.5)


@dataclass
class Seen:
    store: SightingStore
    log: EventLog


def event(key: str | None, number: int = 0) -> NewEvent:
    return NewEvent(1.0, EventType.REPLICA_STARTED, "iris", "v1", "iris-v1-abc", {"number": number}, key)


async def keys(seen: Seen) -> list[str | None]:
    return [one.key for one in await seen.log.read()]


@pytest.mark.anyio
class SightingStoreContract:
    """Subclasses give a fixture ``seen``."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_the_last_sighting_of_each_object_is_kept_with_its_events(self, seen: Seen) -> None:
        assert await seen.store.load() == []
        other = replace(FIRST, uid="u-2")
        await seen.store.record([Step(None, FIRST, [event("a"), event("b")]), Step(None, other, [])])
        await seen.store.record([Step(FIRST, LATER, [event("c")])])
        assert sorted(await seen.store.load(), key=lambda one: one.uid) == [LATER, other]
        assert await keys(seen) == ["a", "b", "c"]

    async def test_several_steps_of_one_object_follow_one_another(self, seen: Seen) -> None:
        await seen.store.record([Step(None, FIRST, [event("a")]), Step(FIRST, LATER, [event("b")])])
        await seen.store.record([Step(LATER, GONE, [event("c")])])
        assert await seen.store.load() == [GONE]
        assert await keys(seen) == ["a", "b", "c"]

    @pytest.mark.parametrize("before", [None, replace(FIRST, version="9"), replace(FIRST, gone_at=1.0)])
    async def test_who_starts_from_another_sighting_is_refused_with_all_of_it(
        self, seen: Seen, before: Sighting | None
    ) -> None:
        await seen.store.record([Step(None, FIRST, [])])
        steps = [Step(None, replace(FIRST, uid="u-2"), [event("x")]), Step(before, LATER, [event("y")])]
        with pytest.raises(StaleWrite):
            await seen.store.record(steps)
        assert await seen.store.load() == [FIRST]
        assert await keys(seen) == []

    async def test_an_object_that_was_never_seen_cannot_be_gone_on_from(self, seen: Seen) -> None:
        with pytest.raises(StaleWrite):
            await seen.store.record([Step(FIRST, LATER, [event("x")])])
        assert await seen.store.load() == []

    async def test_what_was_told_before_is_not_told_again(self, seen: Seen) -> None:
        await seen.store.record([Step(None, FIRST, [event("a", 1)])])
        await seen.store.record([Step(FIRST, LATER, [event("a", 2), event("b", 3), event("b", 4), event(None, 5)])])
        assert [(one.key, one.data["number"]) for one in await seen.log.read()] == [("a", 1), ("b", 3), (None, 5)]

    async def test_what_is_gone_is_forgotten_in_time(self, seen: Seen) -> None:
        await seen.store.record([Step(None, GONE, []), Step(None, replace(FIRST, uid="u-2"), [])])
        await seen.store.forget(GONE.gone_at or 0.0)
        assert len(await seen.store.load()) == 2
        await seen.store.forget(200.0)
        assert [one.uid for one in await seen.store.load()] == ["u-2"]
