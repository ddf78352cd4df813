"""What every store of relay marks does."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from headway.domain.events import EventType, NewEvent
from headway.ports.event_log import EventLog
from headway.ports.relay_store import RelayStore


@dataclass
class Relayed:
    """A store, and the log whose events are told."""

    store: RelayStore
    log: EventLog


@pytest.mark.anyio
class RelayStoreContract:
    """Subclasses give a fixture ``state``."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_a_new_relay_begins_with_what_comes_next(self, state: Relayed) -> None:
        assert (await state.store.begin("empty")).cursor == 0
        cursor = await state.log.append([NewEvent(1.0, EventType.CONTROL_STARTED)] * 3)
        assert (await state.store.begin("later")).cursor == cursor

    async def test_a_mark_stays_and_keeps_its_name_for_the_log(self, state: Relayed) -> None:
        first = await state.store.begin("one")
        await state.log.append([NewEvent(1.0, EventType.CONTROL_STARTED)] * 3)
        assert await state.store.begin("one") == first
        await state.store.advance("one", 2)
        again = await state.store.begin("one")
        assert (again.log_id, again.cursor) == (first.log_id, 2)
        assert again.log_id != (await state.store.begin("two")).log_id

    async def test_a_mark_never_goes_back(self, state: Relayed) -> None:
        await state.store.begin("one")
        await state.store.advance("one", 5)
        await state.store.advance("one", 3)
        assert (await state.store.begin("one")).cursor == 5

    async def test_what_never_began_is_not_moved(self, state: Relayed) -> None:
        await state.store.advance("one", 5)
        assert (await state.store.begin("one")).cursor == 0
