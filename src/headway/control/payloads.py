"""Questions about sampled payloads. They are kept by model servers; the query log's keeper sees that old ones go."""

from __future__ import annotations

from collections.abc import Callable

from headway.domain.errors import ModelNotFound
from headway.domain.query_log import Payload
from headway.ports.clock import Clock
from headway.ports.payload_log import PayloadLog


class PayloadService:
    """Payloads of models, deployed or not: a deleted one's stay until they are too old."""

    def __init__(self, payloads: PayloadLog, clock: Clock, known: Callable[[str], bool]) -> None:
        self._log = payloads
        self._clock = clock
        self._known = known

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return int(self._clock.now() * 1e9)

    async def newest(self, model: str, since_ns: int, until_ns: int, limit: int) -> list[Payload]:
        """The newest ``limit`` of ``[since_ns, until_ns)``, oldest first.

        Raises ``ModelNotFound`` for a model that is not deployed and has none at all.
        """
        found = await self._log.payloads(model, since_ns, until_ns, limit)
        if not found and not self._known(model) and not await self._log.payloads(model, 0, self._end_ns(), 1):
            raise ModelNotFound(f"there is no model {model!r}, and no payload of one", hint="headway list")
        return found

    def _end_ns(self) -> int:
        """A little ahead: clocks of processes do not agree to the nanosecond."""
        return self.now_ns() + 10**9
