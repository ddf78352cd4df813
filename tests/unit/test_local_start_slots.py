"""Slots for starting: bounded, in order, and never held for ever."""

from __future__ import annotations

import asyncio

import pytest

from headway.adapters.local import start_slots
from headway.adapters.local.start_slots import StartSlots, default_slots

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_no_more_than_there_are_and_in_the_order_of_asking() -> None:
    slots = StartSlots(2)
    taken = [asyncio.create_task(slots.take()) for _ in range(4)]
    await settle()
    assert [task.done() for task in taken] == [True, True, False, False]
    give_back = taken[1].result()
    give_back()
    give_back()  # counts once
    await settle()
    assert [task.done() for task in taken] == [True, True, True, False]
    taken[0].result()()
    await settle()
    assert taken[3].done()
    for task in taken[2:]:
        task.result()()


async def test_who_gives_up_waiting_takes_nothing_along() -> None:
    slots = StartSlots(1)
    give_back = await slots.take()
    impatient = asyncio.create_task(slots.take())
    await settle()
    impatient.cancel()
    await asyncio.gather(impatient, return_exceptions=True)
    give_back()
    (await asyncio.wait_for(slots.take(), 5))()


async def test_a_slot_comes_back_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(start_slots, "LONGEST_S", 0.01)
    slots = StartSlots(1)
    first = await slots.take()
    second = await asyncio.wait_for(slots.take(), 5)
    first()  # late: the slot is somebody else's now
    third = asyncio.create_task(slots.take())
    await settle()
    assert not third.done()
    second()
    (await asyncio.wait_for(third, 5))()


def test_small_machines_start_a_few_all_the_same() -> None:
    assert default_slots() >= 4
