"""The memory runtime keeps the runtime contract."""

from __future__ import annotations

from dataclasses import replace

import pytest

from headway.adapters.local.clock import SystemClock
from headway.adapters.memory.runtime import MemoryMachine, MemoryRuntime, Script
from headway.domain.replicas import Failure, Probe, Probes, ReplicaSpec, ReplicaStatus
from tests.contracts.runtime_contract import Machine, RuntimeContract

PROBE = Probe("/health/ready")


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
