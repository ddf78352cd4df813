"""Workers under the local runtime: real model servers, which are started again as their jobs end them."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from headway.adapters.local.memory_limit import MIB
from headway.domain.lifecycle import ReplicaPhase
from headway.domain.replicas import Probe, Probes, ReplicaSpec, ReplicaStatus
from tests.contracts.runtime_contract import ControlPlane
from tests.integration.local.hand import PATIENT_S, LocalHand
from tests.job_wire_server import ServedJobs
from tests.waiting import eventually

ONE = "iris-v1-bcdfg"
_P = ReplicaPhase
pytestmark = pytest.mark.anyio
MODEL = """\
import ctypes, time

class Model:
    def predict(self, X: dict):
        if X["do"] == "sleep":
            time.sleep(60)
        elif X["do"] == "clutch":
            ctypes.PyDLL(None).sleep(60)
        elif X["do"] == "eat":
            held = []
            while True:
                held.append(bytearray(8 * 2**20))
                time.sleep(0.01)
        elif X["do"] == "ask":
            bytearray(2**50)
        return X["do"]
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def served(scratch: Path) -> Iterator[ServedJobs]:
    with ServedJobs.running(scratch / "jobs.sock", lease_s=1.0) as served:
        yield served


def worker_spec(hand: LocalHand) -> ReplicaSpec:
    probe = Probe("/health/ready", period_s=0.05, timeout_s=PATIENT_S, failure_threshold=2400)
    probes = Probes(probe, probe, Probe("/health/live", period_s=5.0, timeout_s=PATIENT_S, failure_threshold=3))
    return hand.spec(
        ONE, {"model.py": MODEL}, python=sys.executable, probes=probes, memory_bytes=256 * MIB, role="work", warm=True
    )


def ends(control: ControlPlane) -> list[ReplicaStatus]:
    return [t.status for t in control.seen if t.status.phase is _P.BACKOFF]


async def test_a_worker_that_its_job_has_ended_is_there_again_at_once(scratch: Path, served: ServedJobs) -> None:
    hand = LocalHand(scratch)
    async with ControlPlane(hand.runtime(job_server=served.address)) as control:
        await control.runtime.apply([worker_spec(hand)])
        await eventually(lambda: _P.READY in control.phases())
        first = served.add({"do": "well"})
        await eventually(lambda: first.state == "succeeded")
        assert first.workers == [f"{ONE}.0"]
        for count, do in enumerate(("sleep", "sleep", "sleep", "clutch"), start=1):
            job = served.add({"do": do}, timeout_s=0.2)
            await eventually(lambda count=count: len(ends(control)) == count)  # type: ignore[misc]
            await control.until(_P.READY, restarts=count)
            assert ends(control)[-1].worker_name == job.workers[0]
        assert [(status.reason, status.failure.code) for status in ends(control) if status.failure] == [
            ("JobTimedOut", "job_timed_out")
        ] * 4
        last = served.add({"do": "well"})
        await eventually(lambda: last.state == "succeeded")
        assert last.workers == [f"{ONE}.4"]


async def test_a_job_that_takes_too_much_memory(scratch: Path, served: ServedJobs) -> None:
    hand = LocalHand(scratch)
    async with ControlPlane(hand.runtime(job_server=served.address)) as control:
        await control.runtime.apply([replace(worker_spec(hand), warm=False)])
        await eventually(lambda: _P.READY in control.phases())
        refused = served.add({"do": "ask"})
        await eventually(lambda: refused.state == "failed")
        assert refused.outcome is not None
        assert refused.outcome.error is not None
        assert refused.outcome.error.exception[0] == "MemoryError"
        poison = served.add({"do": "eat"})
        await eventually(lambda: ends(control))
        (ended,) = ends(control)
        assert (ended.reason, ended.worker_name) == ("OOMKilled", poison.workers[0])
        await control.until(_P.READY, restarts=1)
        after = served.add({"do": "well"})
        await eventually(lambda: after.state == "succeeded")
        assert poison.told == []
