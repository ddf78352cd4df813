"""The local runtime with the real model server: broken models say what is wrong, and nothing is left running."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from headway.adapters.local.adoption import scan
from headway.adapters.local.memory_limit import MIB
from headway.domain.lifecycle import ReplicaPhase
from headway.domain.replicas import Failure, Probe, Probes, ReplicaSpec, ReplicaStatus
from tests.contracts.runtime_contract import ControlPlane, check_chain, text_of
from tests.integration.local.hand import PATIENT_S, LocalHand
from tests.waiting import PATIENCE_S, eventually

ONE = "iris-v1-bcdfg"
_P = ReplicaPhase
pytestmark = pytest.mark.anyio

GOOD = "class Model:\n    def predict(self, X):\n        print('predicting', flush=True)\n        return X\n"


def model(load: str, imports: str = "") -> str:
    """A model whose ``load`` (line 4 on, or one later per import) does ``load``."""
    body = "\n".join(f"        {line}" for line in load.splitlines())
    return f"{imports}class Model:\n    def load(self):\n{body}\n\n    def predict(self, X):\n        return X\n"


@dataclass(frozen=True)
class Broken:
    source: str
    code: str
    message: str
    where: str | None = None
    hint: str = ""
    memory_mib: int | None = None
    startup_s: float = 120.0


EAT_SLOWLY = "import time\nx = []\nwhile True:\n    x.append(bytearray(8 * 2**20))\n    time.sleep(0.005)"
BROKEN = {
    "syntax error": Broken("class Model:\n    def predict(self X): pass\n", "load_failed", "SyntaxError", "model.py:2"),
    "import error": Broken(
        "import no_such_package\n", "load_failed", "ModuleNotFoundError", "model.py:1", "requirements"
    ),
    "raises in load": Broken(
        model("raise ValueError('no weights')"), "load_failed", "ValueError: no weights", "model.py:3"
    ),
    "calls exit": Broken(model("import sys\nsys.exit(0)"), "load_failed", "exit", "model.py:4"),
    "calls os._exit": Broken(
        model("import os\nos._exit(5)"), "load_failed", "exited with code 5 while starting", None, "os._exit"
    ),
    "segmentation fault": Broken(
        model("import ctypes\nctypes.string_at(0)"), "load_failed", "killed by signal SIGSEGV while starting"
    ),
    "hangs in load": Broken(
        model("import time\ntime.sleep(600)"),
        "start_timeout",
        "within 6 s; it hangs in model.py:4 load",
        "model.py:4",
        startup_s=6.0,
    ),
    "eats memory slowly": Broken(model(EAT_SLOWLY), "out_of_memory", "limit 256 MiB", hint="memory", memory_mib=256),
    "eats memory at once": Broken(
        model("bytearray(64 * 2**30)"), "out_of_memory", "MemoryError", "model.py:3", "memory", memory_mib=256
    ),
    "memory asked for and not used": Broken(
        model("import numpy\nself.x = numpy.zeros(2**29)"),
        "out_of_memory",
        "MemoryError",
        "model.py:4",
        "memory",
        memory_mib=256,
    ),
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def hand(scratch: Path) -> LocalHand:
    return LocalHand(scratch)


def real_spec(
    hand: LocalHand,
    source: str,
    *,
    startup_s: float = 120.0,
    memory_mib: int | None = None,
    hung_after_s: float = PATIENT_S,
) -> ReplicaSpec:
    """A replica on the real server, with the probes that the spec's defaults would give, but for their pace."""
    probes = Probes(
        startup=Probe("/health/ready", period_s=startup_s / 6, timeout_s=1.0, failure_threshold=6),
        readiness=Probe("/health/ready", period_s=0.1, timeout_s=PATIENT_S, failure_threshold=2),
        liveness=Probe("/health/live", period_s=0.3, timeout_s=hung_after_s, failure_threshold=2),
    )
    memory = memory_mib * MIB if memory_mib is not None else None
    return hand.spec(ONE, {"model.py": source}, python=sys.executable, probes=probes, memory_bytes=memory)


def ends(control: ControlPlane) -> list[ReplicaStatus]:
    return [t.status for t in control.seen if t.status.phase is _P.BACKOFF]


def failure_of(control: ControlPlane) -> Failure:
    failure = ends(control)[0].failure
    assert failure is not None
    return failure


async def predict(address: str, rows: object) -> tuple[int, object]:
    body = json.dumps(rows).encode()
    reader, writer = await asyncio.open_unix_connection(address.removeprefix("unix:"))
    head = f"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
    writer.write(head.encode() + b"connection: close\r\n\r\n" + body)
    answer = await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()
    await writer.wait_closed()
    status, _, content = answer.partition(b"\r\n\r\n")
    return int(status.split()[1]), json.loads(content)


async def test_a_good_model_predicts_logs_and_stops(hand: LocalHand) -> None:
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([real_spec(hand, GOOD, memory_mib=512)])
        await eventually(lambda: _P.READY in control.phases())
        status = control.status()
        assert status is not None
        assert status.address is not None
        code, answer = await predict(status.address, [[1, 2], [3, 4]])
        assert code == 200
        assert "[[1, 2], [3, 4]]" in json.dumps(answer).replace(".0", "")
        assert "predicting" in await text_of(control.runtime, ONE)
    assert control.phases() == [_P.STARTING, _P.READY, _P.STOPPING, _P.STOPPED]
    assert scan(hand.home) == []


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_model_says_what_is_wrong(hand: LocalHand, name: str) -> None:
    case = BROKEN[name]
    spec = real_spec(hand, case.source, startup_s=case.startup_s, memory_mib=case.memory_mib)
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([spec])
        await eventually(lambda: ends(control))
        failure = failure_of(control)
        assert failure.code == case.code, failure
        assert case.message in failure.message
        assert failure.where == case.where
        assert case.hint in (failure.hint or "")
    assert scan(hand.home) == []
    check_chain(control.seen)


async def test_a_model_that_eats_faster_than_anybody_looks_is_stopped_all_the_same(hand: LocalHand) -> None:
    greedy = model("x = []\nwhile True:\n    x.append(b'1' * 2**20)")
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([real_spec(hand, greedy, memory_mib=256)])
        await eventually(lambda: ends(control))
        failure = failure_of(control)
        assert failure.code == "out_of_memory"
        assert "limit 256 MiB" in failure.message  # by the watch or by a MemoryError, whichever came first


async def test_a_model_that_hangs_after_it_was_ready_is_killed_and_replaced(hand: LocalHand) -> None:
    hang = (
        "import os, threading, time\n"
        "class Model:\n"
        "    def health_status(self):\n"
        "        return 'ok'\n"
        "    def predict(self, X):\n"
        "        os.kill(os.getpid(), 19)\n"  # SIGSTOP: the worst hang, no thread of it runs
        "        return X\n"
    )
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([real_spec(hand, hang, hung_after_s=0.5)])
        await eventually(lambda: _P.READY in control.phases())
        status = control.status()
        assert status is not None
        assert status.address is not None
        asking = asyncio.create_task(predict(status.address, [[1]]))
        await eventually(lambda: ends(control))
        await asyncio.gather(asking, return_exceptions=True)
        assert ends(control)[0].reason == "LivenessFailed"
        await eventually(lambda: control.phases().count(_P.READY) == 2)


async def test_a_log_is_followed_over_rotations_by_the_server(hand: LocalHand) -> None:
    chatty = (
        "import time\n"
        "class Model:\n"
        "    def load(self):\n"
        "        for n in range(30000):\n"
        "            print(f'line {n:06d}', 'x' * 1000)\n"
        "            if n % 5000 == 4999:\n"
        "                time.sleep(0.8)\n"  # the server looks at the size twice a second
        "    def predict(self, X):\n"
        "        return X\n"
    )
    async with ControlPlane(hand.runtime()) as control:
        await control.runtime.apply([real_spec(hand, chatty)])
        got = bytearray()

        async def follow() -> None:
            async for chunk in control.runtime.logs(ONE, tail_lines=None, follow=True):
                got.extend(chunk)

        following = asyncio.create_task(follow())
        await eventually(lambda: _P.READY in control.phases())
        await control.runtime.apply([])
        await control.until(None)
        await asyncio.wait_for(following, PATIENCE_S)
    assert (hand.home / "replicas" / ONE / "log.1").exists()
    numbers = [int(line[5:11]) for line in got.decode().splitlines() if line.startswith("line ")]
    assert numbers == list(range(30000))
