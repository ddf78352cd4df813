"""EventPublisher: tells the world outside of events, through a broker that others listen to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headway.domain.event_messages import EventMessage


class EventPublisher(Protocol):
    """Connects, and connects again, by itself."""

    async def start(self) -> None:
        """Begin to connect; returns at once, also while the broker cannot be reached. Again: nothing."""
        ...

    async def stop(self) -> None:
        """Let go. Again: nothing."""
        ...

    async def publish(self, messages: Sequence[EventMessage]) -> None:
        """When it returns the broker has taken responsibility for all of them.

        Raises ``BrokerFailed``; then some may have arrived and some not, and all are to be given again. A message goes
        to the broker only when those before it in its lane are confirmed, so the first arrivals of a lane are in order
        whatever was repeated.
        """
        ...

    @property
    def connected(self) -> bool:
        """As last seen."""
        ...

    @property
    def problem(self) -> str | None:
        """Why it is not connected, in words for an operator; None while it is, or has not tried yet."""
        ...
