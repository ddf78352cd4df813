"""Replicas of several workers under the local runtime: one memory, one life, one pid."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from headway.adapters.local import procfs
from headway.adapters.local.adoption import scan
from headway.adapters.local.memory_limit import MIB
from headway.domain.lifecycle import ReplicaPhase
from headway.domain.replicas import Probe, Probes, ReplicaSpec
from tests.contracts.runtime_contract import ControlPlane, check_chain
from tests.integration.local.hand import PATIENT_S, LocalHand
from tests.waiting import eventually

ONE = "iris-v1-bcdfg"
_P = ReplicaPhase
pytestmark = pytest.mark.anyio

PLAIN = "class Model:\n    def predict(self, X):\n        return X\n"
HEAVY = """
import numpy
class Model:
    def load(self):
        self.weights = numpy.ones(120 * 2**17)
    def predict(self, X):
        return X
"""
GREEDY = """
import os, threading, time, numpy
class Model:
    def predict(self, X):
        self.kept = numpy.ones(int(os.environ["EAT"]) * 2**17)
        return X
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def hand(scratch: Path) -> LocalHand:
    return LocalHand(scratch)


def crew_spec(hand: LocalHand, source: str, *, workers: int = 3, memory_mib: int | None = None) -> ReplicaSpec:
    probes = Probes(
        startup=Probe("/health/ready", period_s=20.0, timeout_s=1.0, failure_threshold=6),
        readiness=Probe("/health/ready", period_s=0.1, timeout_s=PATIENT_S, failure_threshold=2),
        liveness=Probe("/health/live", period_s=1.0, timeout_s=PATIENT_S, failure_threshold=2),
    )
    return hand.spec(
        ONE,
        {"model.py": source, "sample.json": "[[1]]"},
        python=sys.executable,
        probes=probes,
        memory_bytes=memory_mib * MIB if memory_mib is not None else None,
        server={"workers": workers},
    )


def workers_of(pid: int | None) -> set[int]:
    return {child.pid for child in psutil.Process(pid).children()}


async def test_workers_live_and_end_with_their_replica(hand: LocalHand) -> None:
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([crew_spec(hand, PLAIN)])
        await eventually(lambda: _P.READY in control.phases())
        status = control.status()
        assert status is not None
        assert len(workers_of(status.pid)) == 3
        assert len(scan(hand.home, ONE)) == 4
    assert control.phases() == [_P.STARTING, _P.READY, _P.STOPPING, _P.STOPPED]
    assert scan(hand.home) == []


async def test_a_killed_replica_takes_its_workers_along_and_comes_back_with_others(hand: LocalHand) -> None:
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([crew_spec(hand, PLAIN)])
        await eventually(lambda: _P.READY in control.phases())
        status = control.status()
        assert status is not None
        before = workers_of(status.pid)
        hand.kill(status)
        await eventually(lambda: control.phases().count(_P.READY) == 2)
        assert all((left := procfs.stat(pid)) is None or left.dead for pid in before)
        assert len(scan(hand.home, ONE)) == 4
        check_chain(control.seen)


async def test_a_replica_of_workers_is_adopted_by_the_pid_of_their_parent(hand: LocalHand) -> None:
    spec = crew_spec(hand, PLAIN)
    async with ControlPlane(hand.runtime(), detach=True) as control:
        await control.runtime.apply([spec])
        await eventually(lambda: _P.READY in control.phases())
        before = control.status()
        assert before is not None
        workers = workers_of(before.pid)
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([spec])
        after = control.status()
        assert after is not None
        assert (after.pid, after.restarts) == (before.pid, 0)
        assert workers_of(after.pid) == workers
    assert scan(hand.home) == []


async def test_what_workers_share_counts_once(hand: LocalHand) -> None:
    """Three workers and their parent with 120 MiB of weights each: 480 MiB and more by the sum, the limit is 400."""
    async with ControlPlane(runtime := hand.runtime()) as control:
        await control.runtime.apply([crew_spec(hand, HEAVY, memory_mib=400)])
        await eventually(lambda: _P.READY in control.phases())
        status = control.status()
        assert status is not None
        resident = sum(psutil.Process(p).memory_info().rss for p in (status.pid, *workers_of(status.pid)))
        assert resident > 480 * MIB
        for _ in range(20):
            runtime._memory.look(rescan=True)
            observed = control.status()
            assert observed is not None
            assert observed.rss_bytes is not None
            assert 120 * MIB < observed.rss_bytes < 320 * MIB
        assert control.phases() == [_P.STARTING, _P.READY]


async def test_what_workers_take_beyond_it_counts_for_each(hand: LocalHand) -> None:
    spec = replace(crew_spec(hand, GREEDY, memory_mib=300), env={"EAT": "150"})
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([spec])
        await eventually(lambda: _P.BACKOFF in control.phases())
        ended = next(t.status for t in control.seen if t.status.phase is _P.BACKOFF)
        assert ended.reason == "OOMKilled"
        assert ended.failure is not None
        assert "limit 300 MiB" in ended.failure.message
