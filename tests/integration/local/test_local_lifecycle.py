"""Starting, probing, killing and stopping of real processes, on the stand-in server."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from headway.adapters.local import adoption, procfs, run_dir_for, stopping
from headway.adapters.local.adoption import scan
from headway.adapters.local.memory_limit import MIB
from headway.adapters.local.records import ReplicaFolders
from headway.adapters.local.state import ReplicaState
from headway.domain.lifecycle import ReplicaPhase
from headway.domain.replicas import Probe, Probes
from tests.contracts.runtime_contract import ControlPlane, check_chain, text_of
from tests.integration.local.hand import LocalHand, probes
from tests.waiting import eventually

ONE, TWO = "iris-v1-bcdfg", "iris-v1-hjklm"
_P = ReplicaPhase
pytestmark = pytest.mark.anyio

CHILDREN = """
import os, subprocess, sys
def load():
    kind = {kind!r}
    child = subprocess.Popen(["sleep", "600"], start_new_session=kind == "session")
    open({path!r}, "w").write(str(child.pid))
"""


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def hand(scratch: Path) -> LocalHand:
    return LocalHand(scratch)


async def test_a_grace_period_ends_with_sigkill(hand: LocalHand) -> None:
    spec = hand.spec(ONE, {"stubborn": ""}, termination_grace_s=0.2)
    async with ControlPlane(hand.runtime()) as control:
        await control.apply_ready(spec, hand.spec(TWO))
        await control.runtime.apply([hand.spec(TWO)])
        await control.until(None)
    assert scan(hand.home) == []


async def test_when_everything_stops_workers_are_told_twice_and_replicas_once(hand: LocalHand) -> None:
    worker = hand.spec(ONE, {"busy": ""}, role="work", termination_grace_s=600.0)
    replica = hand.spec(TWO, {"busy": ""}, termination_grace_s=0.3)
    async with ControlPlane(hand.runtime(workers_wait_s=0.1)) as control:
        await control.apply_ready(worker, replica)
        began = time.monotonic()
        await control.runtime.stop(stop_replicas=True)
        assert 0.3 <= time.monotonic() - began < 60
    assert scan(hand.home) == []


@pytest.mark.parametrize("kind", ["group", "session"])
async def test_children_of_a_replica_go_with_it(hand: LocalHand, kind: str) -> None:
    pid_file = hand.folder / "child.pid"
    spec = hand.spec(ONE, {"model.py": CHILDREN.format(path=str(pid_file), kind=kind)})
    async with ControlPlane(hand.runtime()) as control:
        await control.apply_ready(spec)
        child = int(pid_file.read_text())
        found = procfs.stat(child)
        assert found is not None
        await control.runtime.apply([])
        await control.until(None)
        left = procfs.stat(child)
        assert left is None or left.dead


async def test_children_of_a_killed_replica_go_with_it(hand: LocalHand) -> None:
    pid_file = hand.folder / "child.pid"
    spec = hand.spec(ONE, {"model.py": CHILDREN.format(path=str(pid_file), kind="group")})
    async with ControlPlane(hand.runtime()) as control:
        await control.apply_ready(spec)
        child = int(pid_file.read_text())
        status = control.status()
        assert status is not None
        hand.kill(status)
        await control.until(_P.READY, restarts=1)
        assert int(pid_file.read_text()) != child
        await eventually(lambda: (left := procfs.stat(child)) is None or left.dead)


async def test_a_replica_that_stops_answering_is_killed_and_replaced(hand: LocalHand) -> None:
    files = {"model.py": "import os, time\ndef live():\n    while os.path.exists(HUNG):\n        time.sleep(0.01)\n"}
    flag = hand.folder / "hung"
    files["model.py"] = files["model.py"].replace("HUNG", repr(str(flag)))
    async with ControlPlane(hand.runtime()) as control:
        await control.apply_ready(hand.spec(ONE, files, probes=probes(hung_after_s=0.5)))
        flag.touch()
        await control.until(_P.STARTING, restarts=1)
        flag.unlink()
        await control.until(_P.READY, restarts=1)
    phases = control.phases()
    assert phases[:5] == [_P.STARTING, _P.READY, _P.UNREADY, _P.BACKOFF, _P.STARTING]
    ended = control.seen[3].status
    assert ended.reason == "LivenessFailed"
    assert ended.failure is not None
    assert "it hangs in model.py:4 live" in ended.failure.message
    assert ended.failure.where == "model.py:4"
    check_chain(control.seen)


async def test_a_stopped_process_is_killed_and_replaced_though_it_has_no_stack_to_show(hand: LocalHand) -> None:
    async with ControlPlane(hand.runtime()) as control:
        await control.apply_ready(hand.spec(ONE, probes=probes(hung_after_s=0.5)))
        status = control.status()
        assert status is not None
        assert status.pid is not None
        os.kill(status.pid, signal.SIGSTOP)
        await control.until(_P.READY, restarts=1)
    ended = next(t.status for t in control.seen if t.status.phase is _P.BACKOFF)
    assert ended.failure is not None
    assert "no answer from /health/live within 0.5 s" in ended.failure.message


async def test_memory_of_the_children_counts_and_going_over_is_said_in_numbers(hand: LocalHand) -> None:
    eat = (
        "import subprocess, sys, time\n"
        "def load():\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'x = bytearray(96 * 2**20); print(1, flush=True);"
        " import time; time.sleep(600)'], stdout=subprocess.PIPE)\n"
        "    child.stdout.readline()\n"
    )
    spec = hand.spec(ONE, {"model.py": eat}, memory_bytes=64 * MIB)
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([spec])
        await eventually(lambda: _P.BACKOFF in control.phases())
    ended = next(t.status for t in control.seen if t.status.phase is _P.BACKOFF)
    assert ended.failure is not None
    assert (ended.reason, ended.failure.code) == ("OOMKilled", "out_of_memory")
    assert "limit 64 MiB" in ended.failure.message
    used = int(ended.failure.message.split()[1])
    assert 64 < used <= 140  # the replica itself uses a fifth of its limit


async def test_pages_shared_by_forked_children_count_once(hand: LocalHand) -> None:
    share = (
        "import os, time\n"
        "def load():\n"
        "    global x\n"
        "    x = bytearray(b'1' * (48 * 2**20))\n"
        "    for _ in range(3):\n"
        "        if os.fork() == 0:\n"
        "            time.sleep(600)\n"
    )
    spec = hand.spec(ONE, {"model.py": share}, memory_bytes=150 * MIB)
    runtime = hand.runtime()
    async with ControlPlane(runtime) as control:
        await control.apply_ready(spec)
        watch = runtime._memory
        status = control.status()
        assert status is not None
        assert status.pid is not None
        watch.look(rescan=True)
        used = watch.used_bytes(status.pid)
        assert used is not None
        assert 48 * MIB < used < 150 * MIB
    assert control.phases()[:2] == [_P.STARTING, _P.READY]
    assert _P.BACKOFF not in control.phases(), "it was taken for too large"


async def test_memory_in_use_is_observed(hand: LocalHand) -> None:
    async with ControlPlane(hand.runtime()) as control:
        await control.apply_ready(hand.spec(ONE))
        await eventually(lambda: (s := control.status()) is not None and s.rss_bytes is not None)
        status = control.status()
        assert status is not None
        assert status.rss_bytes is not None
        assert 2 * MIB < status.rss_bytes < 100 * MIB


async def test_an_interpreter_that_is_not_there_is_said_to_be_so(hand: LocalHand) -> None:
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([hand.spec(ONE, python="/nowhere/bin/python")])
        await control.until(_P.BACKOFF, restarts=1)
        status = control.status()
        assert status is not None
        assert status.failure is not None
        assert "/nowhere/bin/python" in status.failure.message
    check_chain(control.seen)


async def test_options_that_do_not_fit_fail_the_replica_for_good_and_no_other(hand: LocalHand) -> None:
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([hand.spec(ONE, server={"max_batchsize": 3}), hand.spec(TWO)])
        failed = await control.until(_P.FAILED)
        assert failed.failure is not None
        assert failed.failure.code == "invalid_spec"
        assert failed.failure.where == "spec.server"
        await control.until(_P.READY, TWO)
        await control.runtime.apply([hand.spec(TWO)])
        await control.until(None)
    assert control.phases() == [_P.STARTING, _P.FAILED, _P.STOPPING, _P.STOPPED]


async def test_a_fault_in_one_supervisor_is_the_end_of_one_replica(
    hand: LocalHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    become_ready = ReplicaState.become_ready

    def faulty(state: ReplicaState, *, adopted: bool = False) -> None:
        if state.spec.replica_id == ONE:
            raise RuntimeError("a bug")
        become_ready(state, adopted=adopted)

    monkeypatch.setattr(ReplicaState, "become_ready", faulty)
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([hand.spec(ONE), hand.spec(TWO)])
        failed = await control.until(_P.FAILED)
        assert failed.failure is not None
        assert (failed.failure.code, failed.pid) == ("internal", None)
        assert "RuntimeError: a bug" in failed.failure.message
        await control.until(_P.READY, TWO)
        await eventually(lambda: {p.replica_id for p in scan(hand.home)} == {TWO})
        await control.runtime.apply([hand.spec(TWO)])
        await control.until(None)
    check_chain(control.seen)


async def test_a_stop_that_goes_wrong_still_ends_the_replica(hand: LocalHand, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_: object) -> list[adoption.FoundProcess]:
        raise RuntimeError("a bug")

    async with ControlPlane(hand.runtime()) as control:
        await control.apply_ready(hand.spec(ONE))
        with monkeypatch.context() as patched:
            patched.setattr(stopping, "scan", faulty)
            await control.runtime.apply([])
            await control.until(None)
    assert control.phases()[-2:] == [_P.STOPPING, _P.STOPPED]


async def test_startup_that_takes_too_long_names_the_line(hand: LocalHand) -> None:
    slow = {"model.py": "import time\ndef wait():\n    time.sleep(600)\n\ndef load():\n    wait()\n"}
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([hand.spec(ONE, slow, probes=probes(startup_s=3.0))])
        await eventually(lambda: _P.BACKOFF in control.phases())
    ended = next(t.status for t in control.seen if t.status.phase is _P.BACKOFF)
    assert ended.reason == "StartTimeout"
    assert ended.failure is not None
    assert ended.failure.message == "did not become ready within 3 s; it hangs in model.py:3 wait"


async def test_sockets_are_gone_with_their_replicas_and_stay_over_restarts(hand: LocalHand) -> None:
    async with ControlPlane(hand.runtime()) as control:
        await control.apply_ready(hand.spec(ONE))
        first = control.status()
        assert first is not None
        hand.kill(first)
        second = await control.until(_P.READY, restarts=1)
        assert second.address == first.address
        await control.runtime.apply([])
        await control.until(None)
        assert list(run_dir_for(hand.home).iterdir()) == []


async def test_logs_go_on_over_restarts_and_folders_of_the_gone_are_pruned(hand: LocalHand) -> None:
    async with ControlPlane(hand.runtime()) as control:
        await control.apply_ready(hand.spec(ONE))
        status = control.status()
        assert status is not None
        hand.kill(status)
        await control.until(_P.READY, restarts=1)
        assert (await text_of(control.runtime, ONE)).count("starts\n") == 2
        for number in range(6):
            await control.apply_ready(hand.spec(f"iris-v1-{number}"))
            await control.runtime.apply([])
            await control.until(None, f"iris-v1-{number}")
        newest = [f"iris-v1-{number}" for number in range(1, 6)]
        await eventually(lambda: [f.replica_id for f in ReplicaFolders(hand.home).all()] == newest)


async def test_all_of_it_under_uneven_probes_settles(hand: LocalHand) -> None:
    odd = Probes(
        startup=Probe("/health/ready", period_s=0.03, timeout_s=0.2, failure_threshold=200, success_threshold=2),
        readiness=Probe("/health/ready", period_s=0.02, timeout_s=0.2, failure_threshold=1, success_threshold=3),
        liveness=Probe("/health/live", period_s=0.02, timeout_s=0.2, failure_threshold=20, initial_delay_s=0.1),
    )
    async with ControlPlane(hand.runtime()) as control:
        names = [f"iris-v1-{letter * 5}" for letter in "bcdfgh"]
        await control.apply_ready(*(replace(hand.spec(name), probes=odd) for name in names))
        for name in names:
            hand.set_ready(name, False)
        await asyncio.gather(*(control.until(_P.UNREADY, name) for name in names))
        for name in names:
            hand.set_ready(name, True)
        await asyncio.gather(*(control.until(_P.READY, name) for name in names))
    check_chain(control.seen)


async def test_replicas_queue_for_their_start_but_one_that_was_serving_comes_back_at_once(hand: LocalHand) -> None:
    gate = hand.folder / "gate"
    loop = f"while not os.path.exists({str(gate)!r}):\n        time.sleep(0.01)\n"
    wait = {"model.py": f"import os, time\ndef load():\n    {loop}"}
    first, second, served = "iris-v1-bbbbb", "iris-v1-ccccc", "iris-v1-ddddd"
    async with ControlPlane(hand.runtime(start_slots=1)) as control:
        await control.apply_ready(hand.spec(served))
        await control.runtime.apply([hand.spec(served), hand.spec(first, wait), hand.spec(second)])
        await eventually(lambda: (s := control.status(first)) is not None and s.pid is not None)
        status = control.status(served)
        assert status is not None
        hand.kill(status)
        await control.until(_P.READY, served, restarts=1)
        waiting = control.status(second)
        assert waiting is not None
        assert (waiting.phase, waiting.pid) == (_P.STARTING, None)
        gate.touch()
        await control.until(_P.READY, second)
    ready = [t.status.replica_id for t in control.seen if t.status.ready]
    assert ready == [served, served, first, second]
    check_chain(control.seen)
