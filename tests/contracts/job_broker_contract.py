"""What every broker of jobs does. An adapter gives a :class:`Hand` that makes connections to one broker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import pytest

from headway.domain.errors import BrokerFailed
from headway.ports.job_broker import JobBroker, Wakeup
from tests.waiting import eventually


class Hand(Protocol):
    """What a test needs of the outside."""

    def broker(self) -> JobBroker:
        """Another connection to the same broker; stopped by the hand at the end."""
        ...

    async def go_away(self) -> None:
        """The broker cannot be reached."""
        ...

    async def come_back(self) -> None:
        """As it was."""
        ...

    async def wipe(self) -> None:
        """It has lost all that it held, queues too."""
        ...


class Inbox:
    """Takes what one connection is told."""

    def __init__(self, broker: JobBroker) -> None:
        self.broker = broker
        self.got: list[Wakeup] = []
        broker.on_wakeup = self.got.append

    @property
    def ids(self) -> list[str]:
        return [wakeup.job_id for wakeup in self.got]

    async def until(self, *ids: str) -> None:
        await eventually(lambda: set(ids) <= set(self.ids), what=f"{ids} among {self.ids}")

    async def settle(self, **how: bool) -> None:
        wakeups, self.got = self.got, []
        self.broker.on_wakeup = self.got.append
        await self.broker.settle(wakeups, **how)


@pytest.mark.anyio
class JobBrokerContract:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def hand(self) -> Hand:
        raise NotImplementedError("the adapter's own module gives the hand")

    async def started(self, hand: Hand) -> Inbox:
        inbox = Inbox(hand.broker())
        await inbox.broker.start()
        await inbox.broker.start()
        await eventually(lambda: inbox.broker.connected, what="it is connected")
        return inbox

    async def test_start_and_stop_may_be_repeated(self, hand: Hand) -> None:
        broker = hand.broker()
        await broker.stop()
        await broker.start()
        await broker.start()
        await eventually(lambda: broker.connected)
        await broker.stop()
        await broker.stop()
        assert not broker.connected
        with pytest.raises(BrokerFailed):
            await broker.announce([("iris", "1")])

    async def test_messages_reach_who_wants_them_and_no_more_than_wanted(self, hand: Hand) -> None:
        inbox = await self.started(hand)
        await inbox.broker.announce([("iris", "1"), ("iris", "2"), ("iris", "3"), ("wine", "4")])
        inbox.broker.expect("iris", 2)
        await inbox.until("1", "2")
        assert len(inbox.got) == 2
        await inbox.settle()
        await inbox.until("3")
        assert {wakeup.model for wakeup in inbox.got} == {"iris"}

    async def test_of_two_connections_each_message_reaches_one(self, hand: Hand) -> None:
        one, two = await self.started(hand), await self.started(hand)
        await one.broker.announce([("iris", "first")])
        for inbox in (one, two):
            inbox.broker.expect("iris", 5)
        await eventually(lambda: one.got or two.got)
        ids = ["first", *(f"{n}" for n in range(8))]
        await one.broker.announce([("iris", n) for n in ids[1:]])
        await eventually(lambda: sorted(one.ids + two.ids) == sorted(ids), what="all have come")
        assert one.got
        assert two.got

    async def test_what_is_not_settled_another_one_gets(self, hand: Hand) -> None:
        one, two = await self.started(hand), await self.started(hand)
        one.broker.expect("iris", 2)
        await one.broker.announce([("iris", "1"), ("iris", "2")])
        await one.until("1", "2")
        two.broker.expect("iris", 2)
        await one.broker.stop()
        await two.until("1", "2")
        await one.settle()  # of a connection that is gone: nothing

    async def test_who_waits_no_more_lets_go(self, hand: Hand) -> None:
        one, two = await self.started(hand), await self.started(hand)
        one.broker.expect("iris", 1)
        await one.broker.announce([("iris", "1")])
        await one.until("1")
        one.broker.expect("iris", 0)
        two.broker.expect("iris", 1)
        await two.until("1")

    async def test_settled_again_it_comes_again(self, hand: Hand) -> None:
        inbox = await self.started(hand)
        inbox.broker.expect("iris", 1)
        await inbox.broker.announce([("iris", "1")])
        await inbox.until("1")
        await inbox.settle(again=True)
        await inbox.until("1")
        await inbox.settle()

    async def test_an_outage_is_told_and_survived(self, hand: Hand) -> None:
        inbox = await self.started(hand)
        inbox.broker.expect("iris", 1)
        await inbox.broker.announce([("iris", "1")])
        await inbox.until("1")
        await hand.go_away()

        async def refused() -> bool:
            try:
                await inbox.broker.announce([("iris", "2")])
            except BrokerFailed:
                return True
            return False

        fails: Callable[[], bool | Awaitable[bool]] = refused
        await eventually(fails, what="the outage is noticed")
        await hand.come_back()
        await eventually(lambda: inbox.broker.connected, what="it is connected again")
        await inbox.broker.announce([("iris", "3")])
        await self._drained(inbox, "3")

    async def _drained(self, inbox: Inbox, wanted: str) -> None:
        """Settle until ``wanted`` comes: what was in hand at the outage may come once more before it."""

        async def looked() -> bool:
            if wanted in inbox.ids:
                return True
            await inbox.settle()
            return False

        came: Callable[[], bool | Awaitable[bool]] = looked
        await eventually(came, what=f"{wanted} comes")

    async def test_a_wipe_is_survived(self, hand: Hand) -> None:
        inbox = await self.started(hand)
        inbox.broker.expect("iris", 1)
        await inbox.broker.announce([("iris", "1")])
        await inbox.until("1")
        await inbox.settle()
        await hand.wipe()
        await inbox.broker.announce([("wine", "3")])

        async def came() -> bool:
            # Again, as the sweep does: what is told while queues vanish may be lost.
            await inbox.broker.announce([("iris", "2")])
            return "2" in inbox.ids

        told: Callable[[], bool | Awaitable[bool]] = came
        await eventually(told, what="it is told of work again")

    async def test_many_are_announced_at_once(self, hand: Hand) -> None:
        inbox = await self.started(hand)
        inbox.broker.expect("iris", 250)
        ids = {str(n) for n in range(200)}
        await inbox.broker.announce([("iris", n) for n in ids])
        await inbox.until(*ids)
