"""Replicas forked from a template: started fast, alike in everything else, and spawned where a fork cannot be."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from headway.adapters.local import SystemClock, procfs, templates
from headway.adapters.local.adoption import FoundProcess, scan, stop_strays
from headway.adapters.local.memory_limit import MemoryWatch
from headway.adapters.local.records import ReplicaFolders
from headway.domain.lifecycle import ReplicaPhase
from headway.domain.replicas import Probe, Probes, ReplicaSpec, ReplicaStatus
from headway.server.template_wire import key_of
from tests.contracts.runtime_contract import ControlPlane, check_chain, text_of
from tests.integration.local.hand import PATIENT_S, LocalHand
from tests.waiting import eventually

ONE, TWO, THREE = "iris-v1-bcdfg", "iris-v1-hjklm", "iris-v1-npqrs"
_P = ReplicaPhase
pytestmark = pytest.mark.anyio

MODEL = """
import atexit, os, random
LOADED_BY = os.getpid()

def note(what):
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(what + "\\n")

class Model:
    def load(self):
        print("loading prints", flush=True)
        note("loaded")
        atexit.register(note, "exit handler of load")
{load}
    def predict(self, X: dict):
{predict}
        chance = getattr(self, "chance", random.random)()
        numbers = {{"random": random.random(), "chance": chance}}
        return numbers | {{"pid": os.getpid(), "replica": os.environ["HEADWAY_REPLICA"]}}
"""


def source(load: str = "pass", predict: str = "pass") -> str:
    return MODEL.format(load=f"        {load}", predict=f"        {predict}")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def hand(scratch: Path) -> LocalHand:
    return LocalHand(scratch)


def warm_spec(
    hand: LocalHand, replica_id: str = ONE, model: str | None = None, *, startup_s: float = 120.0, **changes: Any
) -> ReplicaSpec:
    """A replica of the one version, on the real server."""
    files = {"model.py": model or source(), "sample.json": "{}"}
    probes = Probes(
        startup=Probe("/health/ready", period_s=startup_s / 6, timeout_s=1.0, failure_threshold=6),
        readiness=Probe("/health/ready", period_s=0.1, timeout_s=PATIENT_S, failure_threshold=2),
        liveness=Probe("/health/live", period_s=5.0, timeout_s=PATIENT_S, failure_threshold=2),
    )
    spec = hand.spec(replica_id, python=sys.executable, probes=probes, env={"NOTES": str(hand.folder / "notes")})
    return replace(spec, bundle_path=str(hand.bundle("shared", files)), warm=True, **changes)


def notes(hand: LocalHand) -> list[str]:
    file = hand.folder / "notes"
    return file.read_text().splitlines() if file.exists() else []


def template_of(hand: LocalHand) -> FoundProcess | None:
    return next((p for p in scan(hand.home) if p.leads and key_of(p.replica_id) is not None), None)


def parent_of(status: ReplicaStatus | None) -> int:
    assert status is not None
    assert status.pid is not None
    found = procfs.stat(status.pid)
    assert found is not None
    return found.parent


async def ask(status: ReplicaStatus | None) -> dict[str, object]:
    """What the model answers."""
    assert status is not None
    assert status.address is not None
    reader, writer = await asyncio.open_unix_connection(status.address.removeprefix("unix:"))
    head = "POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\n"
    writer.write(head.encode() + b"connection: close\r\n\r\n{}")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head_part, _, body = answer.partition(b"\r\n\r\n")
    assert head_part.startswith(b"HTTP/1.1 200"), answer
    found: dict[str, object] = json.loads(body)["predictions"]
    found["request"] = next(line for line in head_part.split(b"\r\n") if line.startswith(b"x-request-id"))
    return found


async def until_ready(control: ControlPlane, *replica_ids: str, restarts: int = 0) -> None:
    for replica_id in replica_ids:
        await control.until(_P.READY, replica_id, restarts=restarts)


async def test_replicas_are_forked_from_one_load_and_are_themselves(hand: LocalHand) -> None:
    seeded = source("import numpy.random; self.chance = numpy.random.random")
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([warm_spec(hand, ONE, seeded), warm_spec(hand, TWO, seeded)])
        await eventually(lambda: _P.READY in control.phases(ONE) and _P.READY in control.phases(TWO))
        template = template_of(hand)
        assert template is not None
        one, two = control.status(ONE), control.status(TWO)
        assert parent_of(one) == parent_of(two) == template.pid
        assert notes(hand) == ["loaded"]
        assert {p.replica_id for p in scan(hand.home, ONE)} == {ONE}
        first, second = await ask(one), await ask(two)
        assert (first["replica"], second["replica"]) == (ONE, TWO)
        assert one is not None
        assert first["pid"] == one.pid
        assert first["random"] != second["random"]
        assert first["chance"] != second["chance"]
        assert first["request"] != second["request"]
        assert "loading prints" in await text_of(control.runtime, ONE)
        watch = MemoryWatch(SystemClock())
        watch.add(one.pid or 0, None, lambda used: None, shares=True)
        watch.look(rescan=True)
        resident = procfs.MemoryGauge(one.pid or 0)
        assert 0 < (watch.used_bytes(one.pid or 0) or 0) < 0.7 * resident.read()[0]  # its share of the pages
        watch.remove(one.pid or 0)
        resident.close()
        # One leaves as any other does, and takes nothing with it that load had made.
        await control.runtime.apply([warm_spec(hand, TWO, seeded)])
        await control.until(None, ONE)
        assert "exit handler of load" not in notes(hand)
        assert (await ask(two))["replica"] == TWO
    assert notes(hand) == ["loaded", "exit handler of load"]
    assert control.phases(ONE) == [_P.STARTING, _P.READY, _P.STOPPING, _P.STOPPED]
    assert scan(hand.home) == []
    assert not (hand.home / "templates").exists()
    check_chain(control.seen)


async def test_the_template_stays_while_no_replica_runs_and_goes_when_nobody_wants_it(
    hand: LocalHand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(templates, "LINGER_S", 0.0)
    spec = warm_spec(hand)
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([], [spec])
        await eventually(lambda: notes(hand) == ["loaded"])
        assert control.runtime.observe() == ()
        template = template_of(hand)
        assert template is not None
        for _ in range(2):
            await control.runtime.apply([spec], [spec])
            await until_ready(control, ONE)
            assert parent_of(control.status(ONE)) == template.pid
            await control.runtime.apply([], [spec])
            await control.until(None, ONE)
        await control.runtime.apply([], [])
        await eventually(lambda: template_of(hand) is None)
    assert notes(hand) == ["loaded", "exit handler of load"]


async def test_crashes_of_forked_replicas_are_told_as_those_of_others(hand: LocalHand) -> None:
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([warm_spec(hand)])
        await eventually(lambda: _P.READY in control.phases())
        hand.kill(control.status() or ReplicaStatus(ONE, "", "", _P.READY, None))
        await until_ready(control, ONE, restarts=1)
        crash = next(t.status for t in control.seen if t.status.phase is _P.BACKOFF)
        assert crash.failure is not None
        assert crash.failure.message == "the process was killed by signal SIGKILL while serving"
    assert notes(hand).count("loaded") == 1


@pytest.mark.parametrize(
    ("load", "code", "message"),
    [
        ("raise ValueError('no weights')", "load_failed", "ValueError: no weights"),
        ("os._exit(5)", "load_failed", "exited with code 5 while starting"),
        ("import time; time.sleep(600)", "start_timeout", "within 5 s; it hangs in model.py:14 load"),
        ("x = b'x' * (300 * 2**20); import time; time.sleep(600)", "out_of_memory", "limit 128 MiB"),
    ],
    ids=["raises", "exits", "hangs", "eats memory"],
)
async def test_a_load_that_fails_is_told_as_without_a_template(
    hand: LocalHand, load: str, code: str, message: str
) -> None:
    startup_s = 5.0 if code == "start_timeout" else 120.0
    memory = 128 * 2**20 if code == "out_of_memory" else None
    spec = warm_spec(hand, model=source(load), startup_s=startup_s, memory_bytes=memory)
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([spec])
        await eventually(lambda: _P.BACKOFF in control.phases())
        failure = next(t.status.failure for t in control.seen if t.status.phase is _P.BACKOFF)
        assert failure is not None
        assert failure.code == code
        assert message in failure.message
        assert "loading prints" in failure.log_tail
        assert notes(hand)[0] == "loaded"


async def test_a_model_with_threads_becomes_the_first_replica_and_the_next_one_is_spawned(hand: LocalHand) -> None:
    thread = "import threading, time; threading.Thread(target=time.sleep, args=(600,), daemon=True).start()"
    specs = [warm_spec(hand, name, source(thread)) for name in (ONE, TWO)]
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply(specs[:1], specs[:1])
        await eventually(lambda: _P.READY in control.phases(ONE))
        assert notes(hand) == ["loaded"]  # not in vain
        assert (await ask(control.status(ONE)))["replica"] == ONE
        await control.runtime.apply(specs, specs[:1])
        await eventually(lambda: _P.READY in control.phases(TWO))
        assert notes(hand) == ["loaded", "loaded"]
        assert template_of(hand) is None
        assert "loading started threads" in await text_of(control.runtime, TWO)
        reasons = [t.status.reason for t in control.seen if t.status.phase is _P.STARTING]
        assert reasons == ["StartedCold", None]
        hand.kill(control.status(ONE) or ReplicaStatus(ONE, "", "", _P.READY, None))
        await until_ready(control, ONE, restarts=1)
    check_chain(control.seen)


@pytest.mark.parametrize("fault", ["os._exit(3)", "import time; time.sleep(600)"], ids=["dies", "hangs"])
async def test_a_model_that_does_not_survive_a_fork_is_spawned(
    hand: LocalHand, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headway.adapters.local.template_process.LISTENS_WITHIN_S", (1.0, 1.0))
    model = source(predict=f"if os.getpid() != LOADED_BY: {fault}")
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([warm_spec(hand, model=model)])
        await eventually(lambda: _P.READY in control.phases())
        status = control.status()
        assert status is not None
        assert status.restarts == 0
        assert (await ask(status))["pid"] == status.pid
        assert len(scan(hand.home, ONE)) == 1
        assert "a forked replica" in await text_of(control.runtime, ONE)
        await eventually(lambda: template_of(hand) is None, what="the template's end")
    assert _P.BACKOFF not in control.phases()


@pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})], ids=["asyncio", "uvloop"]
)
async def test_replicas_outlive_their_template_and_a_new_one_follows(hand: LocalHand) -> None:
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([warm_spec(hand)])
        await eventually(lambda: _P.READY in control.phases())
        before, one = template_of(hand), control.status(ONE)
        assert before is not None
        os.kill(before.pid, signal.SIGKILL)
        await control.runtime.apply([warm_spec(hand), warm_spec(hand, TWO)])  # nobody waits for the new template
        await until_ready(control, ONE, TWO)
        assert (await ask(one))["replica"] == ONE
        assert parent_of(control.status(TWO)) == os.getpid()  # spawned
        await eventually(lambda: (t := template_of(hand)) is not None and t.pid != before.pid)
        hand.kill(control.status(ONE) or ReplicaStatus(ONE, "", "", _P.READY, None))
        await until_ready(control, ONE, restarts=1)
    check_chain(control.seen)


async def test_the_next_control_plane_adopts_replicas_and_template(hand: LocalHand) -> None:
    spec = warm_spec(hand)
    async with ControlPlane(hand.runtime(), detach=True) as control:
        await control.runtime.apply([spec], [spec])
        await eventually(lambda: _P.READY in control.phases())
        before, one = template_of(hand), control.status(ONE)
    assert before is not None
    assert one is not None
    # As if it had died the moment the fork was there and nobody had written down its pid.
    folder = ReplicaFolders(hand.home).of(ONE)
    record = folder.load()
    assert record is not None
    folder.save(replace(record.without_process(), phase=_P.STARTING))
    async with ControlPlane(hand.runtime()) as second:
        adopted = second.status(ONE)
        assert adopted is not None
        assert (adopted.pid, adopted.phase, adopted.restarts) == (one.pid, _P.READY, 0)
        await second.runtime.apply([spec, warm_spec(hand, TWO)], [spec])
        await until_ready(second, ONE, TWO)
        assert parent_of(second.status(TWO)) == before.pid
        hand.kill(adopted)
        await until_ready(second, ONE, restarts=1)
        crash = next(t.status for t in second.seen if t.status.phase is _P.BACKOFF)
        assert crash.failure is not None
        assert "SIGKILL" in crash.failure.message  # its template knows
    assert notes(hand) == ["loaded", "exit handler of load"]
    assert scan(hand.home) == []


async def test_without_a_control_plane_nothing_is_left_of_templates(hand: LocalHand) -> None:
    async with ControlPlane(hand.runtime(), detach=True) as control:
        await control.runtime.apply([warm_spec(hand)])
        await eventually(lambda: _P.READY in control.phases())
    assert await stop_strays(hand.home) == [ONE]
    assert scan(hand.home) == []
    assert not (hand.home / "templates").exists()
    assert "exit handler of load" in notes(hand)


async def test_a_forked_replica_has_its_own_memory_limit(hand: LocalHand) -> None:
    greedy = source(predict="if os.getpid() != LOADED_BY: self.eaten = b'x' * (400 * 2**20)")
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([warm_spec(hand, model=greedy, memory_bytes=200 * 2**20)])
        await eventually(lambda: _P.BACKOFF in control.phases())
        crash = next(t.status for t in control.seen if t.status.phase is _P.BACKOFF)
        assert crash.reason == "OOMKilled"
        template = template_of(hand)
        assert template is not None  # whose limit is its own


async def test_a_forked_replica_of_several_workers_shares_the_one_load(hand: LocalHand) -> None:
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([warm_spec(hand, server={"workers": 2})])
        await eventually(lambda: _P.READY in control.phases())
        template = template_of(hand)
        assert template is not None
        assert parent_of(control.status()) == template.pid
        assert len(scan(hand.home, ONE)) == 3
        assert (await ask(control.status()))["replica"] == ONE
        assert notes(hand) == ["loaded"]
    assert scan(hand.home) == []
