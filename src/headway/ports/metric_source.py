"""MetricSource: one number from outside that a trigger scales by."""

from __future__ import annotations

from typing import Protocol

from headway.domain.scaling_spec import ExternalTriggerSpec


class MetricSource(Protocol):
    """Asks one kind of system. Holds connections that it needs between questions."""

    async def read(self, trigger: ExternalTriggerSpec) -> float:
        """The number now. Raises ``SignalLost`` when there is none: unreachable, too slow, empty, not a number.

        Bounded by the trigger's ``timeout``. Never answers 0 for "I do not know".
        """
        ...

    async def close(self) -> None:
        """Let go of every connection. Idempotent."""
        ...
