"""The memory runtime keeps the runtime contract."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.adapters.local.clock import SystemClock
from headway.adapters.memory.clock import ManualClock
from headway.adapters.memory.runtime import MemoryMachine, MemoryRuntime, Script
from headway.domain.replicas import Failure, Probe, Probes, ReplicaSpec, ReplicaStatus
from tests.contracts.runtime_contract import Machine, RuntimeContract

PROBE = Probe("/health/ready")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class MemoryHand:
    def __init__(self) -> None:
        self.machine = MemoryMachine()
        self.machine.script(Script(failure=Failure("load_failed", "ValueError: no")), version="v9")

    def runtime(self) -> MemoryRuntime:
        return MemoryRuntime(SystemClock(), self.machine)

    def spec(self, replica_id: str) -> ReplicaSpec:
        return ReplicaSpec(
            replica_id=replica_id,
            model="iris",
            version="v1",
            digest="0" * 64,
            bundle_path="/nowhere",
            python="python",
            entrypoint=None,
            probes=Probes(PROBE, PROBE, PROBE),
        )

    def broken_spec(self, replica_id: str) -> ReplicaSpec:
        return replace(self.spec(replica_id), version="v9")

    def kill(self, status: ReplicaStatus) -> None:
        self.machine.crash(status.replica_id)

    def set_ready(self, replica_id: str, ready: bool) -> None:
        self.machine.set_ready(replica_id, ready)

    def print(self, replica_id: str, text: str) -> None:
        self.machine.print(replica_id, text.encode())


class TestMemoryRuntime(RuntimeContract):
    @pytest.fixture
    def machine(self) -> Machine:
        return MemoryHand()


@pytest.mark.anyio
async def test_a_version_that_is_kept_warm_starts_faster() -> None:
    clock, hand = ManualClock(), MemoryHand()
    hand.machine.script(Script(ready_after_s=5.0, warm_ready_after_s=0.1))
    runtime = MemoryRuntime(clock, hand.machine)
    await runtime.start()
    cold, warm = hand.spec("iris-v1-bcdfg"), replace(hand.spec("iris-v2-bcdfg"), version="v2")
    await runtime.apply([cold, warm], [warm])
    await clock.elapse(0.2)
    assert {status.replica_id: status.ready for status in runtime.observe()} == {
        "iris-v1-bcdfg": False,
        "iris-v2-bcdfg": True,
    }
    await runtime.stop(stop_replicas=True)
