"""Questions about payloads: of whom, and who is unknown."""

from __future__ import annotations

import asyncio

import pytest

from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.payload_log import MemoryPayloadLog
from headway.control.payloads import PayloadService
from headway.domain.errors import ModelNotFound
from tests.contracts.payload_log_contract import payload

S = 1_000_000_000


def test_the_newest_of_the_span_oldest_first() -> None:
    log, clock = MemoryPayloadLog(), ManualClock()
    service = PayloadService(log, clock, lambda name: name == "iris")
    now_ns = service.now_ns()
    assert now_ns == int(clock.now() * 1e9)
    for seq in range(5):
        log.add("iris", payload(seq, at_ns=now_ns - (5 - seq) * S))
    found = asyncio.run(service.newest("iris", now_ns - 4 * S, now_ns - S, 2))
    assert [one.seq for one in found] == [2, 3]


def test_a_deployed_model_without_payloads_has_none_and_a_deleted_one_is_not_forgotten() -> None:
    log = MemoryPayloadLog()
    service = PayloadService(log, ManualClock(), lambda name: name == "iris")
    now_ns = service.now_ns()
    log.add("gone", payload(0, at_ns=now_ns - 9 * S))
    assert asyncio.run(service.newest("iris", 0, now_ns, 9)) == []
    assert [one.seq for one in asyncio.run(service.newest("gone", 0, now_ns, 9))] == [0]
    assert asyncio.run(service.newest("gone", now_ns - S, now_ns, 9)) == [], "none in the span, but it was there"
    with pytest.raises(ModelNotFound, match="typo"):
        asyncio.run(service.newest("typo", 0, now_ns, 9))
