"""The control plane dies; its replicas go on and the next one takes them over."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.adapters.local import run_dir_for, stop_strays
from headway.adapters.local.adoption import scan
from headway.adapters.local.process import ReplicaProcess
from headway.adapters.local.records import ReplicaFolders
from headway.domain.errors import HeadwayError
from headway.domain.lifecycle import ReplicaPhase
from tests.contracts.runtime_contract import ControlPlane, check_chain
from tests.integration.local.hand import LocalHand
from tests.waiting import eventually

ONE, TWO = "iris-v1-bcdfg", "iris-v1-hjklm"
ROOT = Path(__file__).parents[3]
_P = ReplicaPhase
pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def hand(scratch: Path) -> LocalHand:
    return LocalHand(scratch)


def leave_behind(hand: LocalHand, *arguments: str) -> None:
    """Run a control plane until it says ``ready`` (or ends by itself), then SIGKILL it."""
    command = [sys.executable, "-m", "tests.integration.local.control_plane", str(hand.folder), *arguments]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()


def unmarked_process() -> subprocess.Popen[bytes]:
    """Somebody else's."""
    return subprocess.Popen(["sleep", "600"], env={}, start_new_session=True)


async def test_replicas_go_on_when_the_control_plane_is_killed_and_are_adopted(hand: LocalHand) -> None:
    await asyncio.to_thread(leave_behind, hand, ONE, TWO)
    pids = {p.replica_id: p.pid for p in scan(hand.home)}
    assert set(pids) == {ONE, TWO}
    async with ControlPlane(hand.runtime()) as control:
        assert {s.replica_id: s.pid for s in control.runtime.observe()} == pids
        assert all(s.ready and s.restarts == 0 for s in control.runtime.observe())
        await control.runtime.apply([hand.spec(ONE), hand.spec(TWO)])
        # Supervised again, though no child: its end is noticed, its exit status is not known.
        os.kill(pids[ONE], signal.SIGKILL)
        again = await control.until(_P.READY, ONE, restarts=1)
        assert again.pid != pids[ONE]
    ended = next(t.status for t in control.seen if t.status.phase is _P.BACKOFF)
    assert ended.failure is not None
    assert "exit status is not known" in ended.failure.message
    assert scan(hand.home) == []
    check_chain(control.seen)


async def test_a_process_whose_pid_was_never_written_down_is_found_by_its_environment(hand: LocalHand) -> None:
    await asyncio.to_thread(leave_behind, hand, "--before-pid", ONE)
    record = ReplicaFolders(hand.home).of(ONE).load()
    assert record is not None
    assert record.pid is None
    (found,) = scan(hand.home)
    async with ControlPlane(hand.runtime()) as control:
        status = control.status()
        assert status is not None
        assert status.pid == found.pid
        await control.runtime.apply([hand.spec(ONE)])
        ready = await control.until(_P.READY)
        assert (ready.pid, ready.restarts) == (found.pid, 0)
    check_chain(control.seen)


async def test_a_pid_that_somebody_else_has_now_is_not_adopted(hand: LocalHand) -> None:
    async with ControlPlane(hand.runtime(), detach=True) as control:
        await control.apply_ready(hand.spec(ONE))
        status = control.status()
    assert status is not None
    hand.kill(status)
    stranger = unmarked_process()
    try:
        folder = ReplicaFolders(hand.home).of(ONE)
        record = folder.load()
        assert record is not None
        folder.save(replace(record, pid=stranger.pid))
        async with ControlPlane(hand.runtime()) as second:
            lost = second.status()
            assert lost is not None
            assert lost.phase is _P.BACKOFF
            assert lost.pid is None
        assert stranger.poll() is None  # and nobody killed it
    finally:
        stranger.kill()
        stranger.wait()


async def test_processes_that_nothing_speaks_of_are_ended_at_the_first_apply(hand: LocalHand) -> None:
    async with ControlPlane(hand.runtime(), detach=True) as control:
        await control.apply_ready(hand.spec(ONE), hand.spec(TWO))
    (ReplicaFolders(hand.home).of(TWO).path / "record.json").unlink()
    async with ControlPlane(hand.runtime()) as second:
        assert [s.replica_id for s in second.runtime.observe()] == [ONE]
        assert {p.replica_id for p in scan(hand.home)} == {ONE, TWO}  # nothing is stopped before the first apply
        await second.runtime.apply([hand.spec(ONE)])
        await eventually(lambda: {p.replica_id for p in scan(hand.home)} == {ONE})


async def test_a_record_that_cannot_be_read_makes_its_process_a_lost_one(hand: LocalHand) -> None:
    async with ControlPlane(hand.runtime(), detach=True) as control:
        await control.apply_ready(hand.spec(ONE))
    (ReplicaFolders(hand.home).of(ONE).path / "record.json").write_text("{")
    async with ControlPlane(hand.runtime()) as second:
        assert second.runtime.observe() == ()
        await second.runtime.apply([hand.spec(TWO)])
        await eventually(lambda: {p.replica_id for p in scan(hand.home)} == {TWO})


async def test_after_a_reboot_replicas_are_started_again_without_blame(hand: LocalHand) -> None:
    async with ControlPlane(hand.runtime(), detach=True) as control:
        await control.apply_ready(hand.spec(ONE))
        status = control.status()
    assert status is not None
    hand.kill(status)
    folder = ReplicaFolders(hand.home).of(ONE)
    record = folder.load()
    assert record is not None
    folder.save(replace(record, boot_id="another"))
    async with ControlPlane(hand.runtime()) as second:
        lost = second.status()
        assert lost is not None
        assert (lost.phase, lost.failure, lost.reason) == (_P.BACKOFF, None, None)
        await second.runtime.apply([hand.spec(ONE)])
        assert (await second.until(_P.READY, restarts=1)).restarts == 1


async def test_a_stop_that_was_interrupted_is_finished(hand: LocalHand) -> None:
    spec = hand.spec(ONE, {"stubborn": ""}, termination_grace_s=0.5)
    async with ControlPlane(hand.runtime(), detach=True) as control:
        await control.apply_ready(spec)
        await control.runtime.apply([])
        await control.until(_P.STOPPING)
    async with ControlPlane(hand.runtime(), detach=True) as second:
        await second.until(None)
    assert second.phases() == [_P.STOPPING, _P.STOPPED]
    assert scan(hand.home) == []


async def test_strays_are_stopped_without_a_control_plane(hand: LocalHand) -> None:
    stubborn = hand.spec(TWO, {"stubborn": ""}, termination_grace_s=0.2)
    async with ControlPlane(hand.runtime(), detach=True) as control:
        await control.apply_ready(hand.spec(ONE, termination_grace_s=0.2), stubborn)
    assert await stop_strays(hand.home) == [ONE, TWO]
    assert scan(hand.home) == []
    assert list(run_dir_for(hand.home).iterdir()) == []
    assert await stop_strays(hand.home) == []
    async with ControlPlane(hand.runtime()) as second:
        assert second.runtime.observe() == ()
        assert second.seen == []


async def test_two_homes_do_not_touch_one_another(hand: LocalHand, scratch: Path) -> None:
    (scratch / "other").mkdir()
    other = LocalHand(scratch / "other")
    async with ControlPlane(hand.runtime()) as one, ControlPlane(other.runtime(), detach=True) as two:
        await one.apply_ready(hand.spec(ONE))
        await two.apply_ready(other.spec(ONE))
        assert await stop_strays(other.home) == [ONE]
        status = one.status()
        assert status is not None
        assert (status.phase, status.restarts) == (_P.READY, 0)


async def test_apply_before_start_is_refused(hand: LocalHand) -> None:
    with pytest.raises(HeadwayError, match="not started"):
        await hand.runtime().apply([hand.spec(ONE)])


async def test_a_fault_while_adopting_one_leaves_the_others_alone(
    hand: LocalHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ControlPlane(hand.runtime(), detach=True) as control:
        await control.apply_ready(hand.spec(ONE), hand.spec(TWO))
        faulty = control.status(ONE)
    assert faulty is not None
    adopt = ReplicaProcess.adopt

    def no_descriptor_left(pid: int, *rest: Any) -> ReplicaProcess | None:
        if pid == faulty.pid:
            raise OSError(errno.EMFILE, "Too many open files")
        return adopt(pid, *rest)

    monkeypatch.setattr(ReplicaProcess, "adopt", no_descriptor_left)
    async with ControlPlane(hand.runtime()) as second:
        one, two = second.status(ONE), second.status(TWO)
        assert one is not None
        assert two is not None
        assert (one.phase, two.phase) == (_P.FAILED, _P.READY)
        assert one.failure is not None
        assert "Too many open files" in one.failure.message
        await second.runtime.apply([hand.spec(TWO)])
        await second.until(None, ONE)
        assert {p.replica_id for p in scan(hand.home)} == {TWO}  # it was not forgotten


async def test_a_process_that_cannot_be_watched_is_not_left_running(
    hand: LocalHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_descriptor_left(pid: int, flags: int = 0) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    async with ControlPlane(hand.runtime()) as control:
        with monkeypatch.context() as patched:
            patched.setattr(os, "pidfd_open", no_descriptor_left)
            await control.runtime.apply([hand.spec(ONE)])
            await control.until(_P.BACKOFF, restarts=1)
            assert scan(hand.home) == []
        await control.until(_P.READY, restarts=2)
