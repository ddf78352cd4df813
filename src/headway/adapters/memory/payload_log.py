"""Sampled payloads in memory."""

from __future__ import annotations

from headway.domain.query_log import Payload, Retention


class MemoryPayloadLog:
    """Keeps what it is given with :meth:`add`."""

    def __init__(self) -> None:
        self._kept: dict[str, list[Payload]] = {}

    def add(self, model: str, payload: Payload) -> None:
        """As if a model server had kept it."""
        self._kept.setdefault(model, []).append(payload)

    async def payloads(self, model: str, since_ns: int, until_ns: int, limit: int) -> list[Payload]:
        """See :class:`headway.ports.payload_log.PayloadLog`."""
        kept = [payload for payload in self._kept.get(model, []) if since_ns <= payload.ts_ns < until_ns]
        kept.sort(key=lambda payload: (payload.ts_ns, payload.stream, payload.seq))
        return kept[-limit:]

    async def expire(self, now_ns: int, retention: Retention) -> int:
        """See :class:`headway.ports.payload_log.PayloadLog`; only by age, since memory has no files to measure."""
        if retention.max_age_s is None:
            return 0
        oldest_ns = now_ns - int(retention.max_age_s * 1e9)
        removed = 0
        for model, payloads in self._kept.items():
            stay = [payload for payload in payloads if payload.ts_ns >= oldest_ns]
            removed += sum(len(repr(payload)) for payload in payloads) - sum(len(repr(payload)) for payload in stay)
            self._kept[model] = stay
        return removed
