"""PayloadLog: the requests that were kept whole, with their answers."""

from __future__ import annotations

from typing import Protocol

from headway.domain.query_log import Payload, Retention


class PayloadLog(Protocol):
    """Reads and clears away what model servers sample. Off unless a deployment asks for it."""

    async def payloads(self, model: str, since_ns: int, until_ns: int, limit: int) -> list[Payload]:
        """The newest ``limit`` of ``[since_ns, until_ns)``, oldest first. None for an unknown model."""
        ...

    async def expire(self, now_ns: int, retention: Retention) -> int:
        """Remove what is past ``retention``, oldest first; how many bytes went. Newest files stay as they are."""
        ...
