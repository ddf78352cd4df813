"""What every publisher of events does. An adapter gives a :class:`Hand` that makes publishers to one broker."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import pytest

from headway.domain.errors import BrokerFailed
from headway.domain.event_messages import EventMessage, message_of
from headway.domain.events import Event
from headway.ports.event_publisher import EventPublisher
from tests.waiting import eventually


class Hand(Protocol):
    """What a test needs of the outside."""

    def publisher(self) -> EventPublisher:
        """Another connection to the same broker; stopped by the hand at the end."""
        ...

    async def received(self) -> list[tuple[str, str]]:
        """Id and topic of every message that a listener to everything has got so far, in order."""
        ...

    async def go_away(self) -> None:
        """The broker cannot be reached."""
        ...

    async def come_back(self) -> None:
        """As it was."""
        ...


def messages(first: int, last: int, models: Sequence[str | None] = ("iris",)) -> list[EventMessage]:
    """With these cursors, of the models in turn."""
    return [
        message_of(Event(n, 1.7e9 + n, "replica_ready.v1", models[n % len(models)], "v1", None, {"n": n}), "log")
        for n in range(first, last + 1)
    ]


@pytest.mark.anyio
class EventPublisherContract:
    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    @pytest.fixture
    def hand(self) -> Hand:
        raise NotImplementedError("the adapter's own module gives the hand")

    async def started(self, hand: Hand) -> EventPublisher:
        publisher = hand.publisher()
        await publisher.start()
        await publisher.start()
        await eventually(lambda: publisher.connected, what="it is connected")
        return publisher

    async def came(self, hand: Hand, wanted: Sequence[EventMessage]) -> list[tuple[str, str]]:
        """What was received, when all that is wanted was."""

        async def all_there() -> bool:
            return {m.id for m in wanted} <= {id_ for id_, _ in await hand.received()}

        there: Callable[[], bool | Awaitable[bool]] = all_there
        await eventually(there, what="all messages come")
        return await hand.received()

    async def test_start_and_stop_may_be_repeated(self, hand: Hand) -> None:
        publisher = hand.publisher()
        await publisher.stop()
        await self.started(hand)
        await publisher.start()
        await eventually(lambda: publisher.connected)
        assert publisher.problem is None
        await publisher.stop()
        await publisher.stop()
        assert not publisher.connected
        with pytest.raises(BrokerFailed):
            await publisher.publish(messages(1, 1))

    async def test_what_is_published_comes_once_and_in_order(self, hand: Hand) -> None:
        publisher = await self.started(hand)
        sent = messages(1, 60)
        await publisher.publish(sent[:40])
        await publisher.publish(sent[40:])
        await publisher.publish([])
        assert await self.came(hand, sent) == [(m.id, "model.iris.replica_ready.v1") for m in sent]

    async def test_each_lane_keeps_its_order(self, hand: Hand) -> None:
        publisher = await self.started(hand)
        sent = messages(1, 60, ("iris", "wine", None))
        await publisher.publish(sent)
        got = await self.came(hand, sent)
        topics = {m.id: m.topic for m in sent}
        assert topics == dict(got)
        for topic in set(topics.values()):
            assert [i for i, t in got if t == topic] == [m.id for m in sent if m.topic == topic]

    async def test_given_again_a_message_has_the_same_id(self, hand: Hand) -> None:
        publisher = await self.started(hand)
        sent = messages(1, 3)
        await publisher.publish(sent)
        await publisher.publish(sent)
        assert {m.id for m in sent} == {id_ for id_, _ in await self.came(hand, sent)}

    async def test_an_outage_is_told_and_survived(self, hand: Hand) -> None:
        publisher = await self.started(hand)
        before, after = messages(1, 5), messages(6, 10)
        await publisher.publish(before)
        await hand.go_away()
        with pytest.raises(BrokerFailed):
            await publisher.publish(after)
        await eventually(lambda: publisher.problem, what="the outage is noticed")
        await hand.come_back()
        await eventually(lambda: publisher.connected, what="it is connected again")
        assert publisher.problem is None
        await publisher.publish(after)
        got = [id_ for id_, _ in await self.came(hand, [*before, *after])]
        assert list(dict.fromkeys(got)) == [m.id for m in [*before, *after]]
