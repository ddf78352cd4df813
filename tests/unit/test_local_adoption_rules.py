"""Which process a record speaks of, and which ones nothing speaks of. Processes are only told of here."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest

from headway.adapters.local import procfs
from headway.adapters.local.adoption import FoundProcess, leader_of, strays
from headway.adapters.local.process import ReplicaProcess
from headway.adapters.local.records import ReplicaRecord
from headway.domain.lifecycle import ReplicaPhase
from headway.domain.replicas import Probe, Probes, ReplicaSpec

ONE, TWO = "iris-v1-bcdfg", "iris-v1-hjklm"
PROBE = Probe("/health/ready")
SPEC = ReplicaSpec(ONE, "iris", "v1", "0" * 64, "/bundle", "python", None, Probes(PROBE, PROBE, PROBE))


def found(pid: int, *, ticks: int = 500, parent: int = 1, leads: bool = True, replica: str = ONE) -> FoundProcess:
    return FoundProcess(pid, ticks, parent, leads, replica)


def record(**changes: object) -> ReplicaRecord:
    plain = ReplicaRecord(SPEC, "/s", ReplicaPhase.READY, pid=10, start_ticks=500, boot_id=procfs.boot_id())
    return replace(plain, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "process",
    [
        found(11),  # another pid
        found(10, ticks=501),  # the pid was used again
        found(10, leads=False),  # a child of a replica, not a replica
        found(10, replica=TWO),
    ],
)
def test_only_the_very_process_is_the_one(process: FoundProcess) -> None:
    assert leader_of(record(), [process]) is None
    assert leader_of(record(), [process, found(10)]) == found(10)


def test_no_process_is_older_than_the_last_boot() -> None:
    assert leader_of(record(boot_id="another"), [found(10)]) is None


def test_without_a_pid_it_is_the_oldest_leader_but_only_for_a_replica_that_was_being_started() -> None:
    nameless = record(pid=None, start_ticks=None, phase=ReplicaPhase.STARTING)
    processes = [found(7, leads=False), found(8, replica=TWO), found(9), found(10, ticks=900)]
    assert leader_of(nameless, processes) == found(9)
    assert leader_of(nameless, []) is None
    assert leader_of(replace(nameless, phase=ReplicaPhase.BACKOFF), processes) is None


def test_children_of_the_adopted_are_no_strays_whatever_session_they_are_in() -> None:
    processes = [
        found(10),
        found(11, parent=10, leads=False),
        found(12, parent=10),
        found(13, parent=12),
        found(14, parent=1, leads=False),  # its own parent is gone, the replica is not
    ]
    assert strays(processes, {10}) == []


def test_strays_are_second_leaders_and_everything_of_replicas_that_were_not_adopted() -> None:
    second, other, child = found(20), found(30, replica=TWO), found(31, parent=30, leads=False, replica=TWO)
    assert strays([found(10), second, other, child], {10}) == [second, other, child]
    assert strays([found(10)], set()) == [found(10)]


@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_process_is_held_by_pid_and_start_and_never_by_pid_alone() -> None:
    me = procfs.stat(os.getpid())
    assert me is not None
    assert ReplicaProcess.adopt(me.pid, me.start_ticks + 1, lambda: None) is None
    held = ReplicaProcess.adopt(me.pid, me.start_ticks, lambda: None)
    assert held is not None
    held.close()
    held.close()
    assert ReplicaProcess.adopt(2**22 + 1, 1, lambda: None) is None  # beyond every pid (PID_MAX_LIMIT)


def test_what_the_kernel_tells_of_this_process_and_of_none() -> None:
    found = procfs.stat(os.getpid())
    assert found is not None
    assert (found.parent, found.dead) == (os.getppid(), False)
    assert procfs.stat(2**22 + 1) is None
    assert procfs.environ(2**22 + 1) == {}
    assert procfs.MemoryGauge(2**22 + 1).read() == (0, 0)
    gauge = procfs.MemoryGauge(os.getpid())
    resident, shared = gauge.read()
    gauge.close()
    gauge.close()
    assert resident > shared > 0
    assert procfs.proportional_bytes(os.getpid()) > 0
