"""What every PayloadLog does."""

from __future__ import annotations

import asyncio
from typing import Protocol

from headway.domain.query_log import Payload, Retention
from headway.ports.payload_log import PayloadLog

HOUR_NS = 3_600_000_000_000
NOW_NS = 1_800_000_000_000_000_000


class Filled(Protocol):
    """A log, and how a model server fills it."""

    @property
    def log(self) -> PayloadLog: ...

    def add(self, model: str, payload: Payload) -> None: ...


def payload(seq: int, *, at_ns: int = NOW_NS, stream: str = "a", status: int = 200) -> Payload:
    return Payload(
        ts_ns=at_ns, version="v1", stream=stream, seq=seq, request_id=f"id-{seq}", route="/predict", status=status,
        input=[[seq, None, "é"]], output={"predictions": [seq]},
    )  # fmt: skip


class PayloadLogContract:
    """Subclasses give a ``filled`` fixture."""

    def test_what_was_kept_is_told_oldest_first(self, filled: Filled) -> None:
        kept = [payload(2, at_ns=NOW_NS + 2), payload(0, at_ns=NOW_NS), payload(1, at_ns=NOW_NS + 1, stream="b")]
        for each in kept:
            filled.add("iris", each)
        filled.add("wine", payload(9))
        found = asyncio.run(filled.log.payloads("iris", NOW_NS, NOW_NS + 3, 10))
        assert found == sorted(kept, key=lambda each: each.ts_ns)

    def test_the_newest_within_the_span_are_told(self, filled: Filled) -> None:
        for seq in range(10):
            filled.add("iris", payload(seq, at_ns=NOW_NS + seq))
        found = asyncio.run(filled.log.payloads("iris", NOW_NS + 2, NOW_NS + 8, 3))
        assert [each.seq for each in found] == [5, 6, 7]

    def test_an_unknown_model_has_none(self, filled: Filled) -> None:
        assert asyncio.run(filled.log.payloads("iris", 0, 2 * NOW_NS, 10)) == []

    def test_what_is_past_its_age_goes(self, filled: Filled) -> None:
        filled.add("iris", payload(0))
        forever = asyncio.run(filled.log.expire(NOW_NS + 2 * HOUR_NS, Retention()))
        assert forever == 0
        assert asyncio.run(filled.log.expire(NOW_NS + 2 * HOUR_NS, Retention(max_age_s=3600.0))) > 0
        assert asyncio.run(filled.log.payloads("iris", 0, 2 * NOW_NS, 10)) == []

    def test_what_is_young_stays(self, filled: Filled) -> None:
        filled.add("iris", payload(0))
        assert asyncio.run(filled.log.expire(NOW_NS + HOUR_NS // 2, Retention(max_age_s=3600.0))) == 0
        assert len(asyncio.run(filled.log.payloads("iris", 0, 2 * NOW_NS, 10))) == 1
