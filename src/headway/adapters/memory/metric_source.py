"""A source of outside signals whose answers are said beforehand."""

from __future__ import annotations

import asyncio
import math

from headway.domain.errors import SignalLost
from headway.domain.quantities import seconds
from headway.domain.scaling_spec import ExternalTriggerSpec


class MemoryMetricSource:
    """The ``MetricSource`` port. ``value`` is what every question is answered with; None: the system is down."""

    def __init__(self, value: float | None = None) -> None:
        self.value = value
        self.asked: list[ExternalTriggerSpec] = []
        """Every question so far."""
        self.open = asyncio.Event()
        """Cleared, questions stay without an answer."""
        self.open.set()
        self.closed = False

    async def read(self, trigger: ExternalTriggerSpec) -> float:
        """See the port."""
        self.asked.append(trigger)
        try:
            async with asyncio.timeout(seconds(trigger.timeout)):
                await self.open.wait()
        except TimeoutError:
            raise SignalLost(f"no answer within {trigger.timeout} from {trigger.type}") from None
        if self.closed:
            raise SignalLost("the source is closed")
        if self.value is None:
            raise SignalLost(f"no answer from {trigger.type}", hint="is it running?")
        if not math.isfinite(self.value):
            raise SignalLost(f"{trigger.type} answered {self.value}, which is not a number to scale by")
        return self.value

    async def close(self) -> None:
        """See the port."""
        self.closed = True
