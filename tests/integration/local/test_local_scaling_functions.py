"""Scaling functions that answer, and those that loop, hoard, raise, print, exit, or say what is no number."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import headway
from headway.adapters.local.scaling_functions import LOGGED_LINES, LocalScalingFunctions
from headway.adapters.memory.clock import ManualClock
from headway.domain.errors import SignalLost
from headway.domain.scaling_spec import PythonTrigger
from tests.waiting import eventually, wait_until


class Functions:
    """One bundle, and the adapter that runs its functions."""

    def __init__(self, scratch: Path) -> None:
        self.scratch = scratch
        self.bundle = scratch / "bundle"
        self.bundle.mkdir()
        self.clock = ManualClock()
        self.port = LocalScalingFunctions(
            scratch / "home", clock=self.clock, server_env={"PATH": "/bin", "HEADWAY_TOKEN": "hw_x", "TMPDIR": "/tmp"}
        )

    def write(self, source: str) -> None:
        (self.bundle / "scaling.py").write_text(source)

    async def ask(self, name: str = "decide", *, version: str = "v1", **settings: Any) -> float:
        context = settings.pop("context", {})
        trigger = PythonTrigger.model_validate(
            {"type": "python", "entrypoint": f"scaling:{name}", "timeout": "20s", **settings}
        )
        return await self.port.call("iris", version, sys.executable, self.bundle, trigger, context)

    async def lost(self, name: str = "decide", **settings: Any) -> SignalLost:
        with pytest.raises(SignalLost) as caught:
            await self.ask(name, **settings)
        return caught.value


@contextlib.asynccontextmanager
async def functions(scratch: Path, source: str) -> AsyncIterator[Functions]:
    made = Functions(scratch)
    made.write("import os, sys, time\n" + source)
    try:
        yield made
    finally:
        await made.port.close()


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return True


PID = "def pid(context): return os.getpid() / 1e6\n"
"""Who answers; a pid is below 2**22."""

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_one_process_answers_again_and_again_and_has_no_secrets(scratch: Path) -> None:
    source = """
calls = 0
def decide(context):
    global calls
    calls += 1
    assert "HEADWAY_TOKEN" not in os.environ and os.environ["PATH"] == "/bin"
    assert os.getcwd() == os.path.dirname(os.path.abspath(__file__)) == sys.path[0]
    return calls + context["replicas"]
"""
    async with functions(scratch, source + PID) as made:
        assert [await made.ask(context={"replicas": 10}) for _ in range(3)] == [11, 12, 13]
        assert await made.ask(version="v2", context={"replicas": 0}) == 1
        one, two = await asyncio.gather(made.ask("pid"), made.ask("pid"))
        assert one == two
        assert await made.ask("pid", memory="512Mi") != one  # started with other orders


async def test_what_is_no_replica_count_is_refused_by_name(scratch: Path) -> None:
    source = """
import fractions
class Odd(float): pass
def decide(context): return eval(context["value"])
"""
    async with functions(scratch, source) as made:
        for value in ('"3"', "None", "True", "float('nan')", "float('inf')", "-1", "1001", "3j", "[3]"):
            lost = await made.lost(context={"value": value})
            assert "scaling:decide of iris v1: returned " in str(lost)
        assert "str '3', which is not a number" in str(await made.lost(context={"value": "'3'"}))
        assert "int 1001; a replica count is 0 to 1000" in str(await made.lost(context={"value": "1001"}))
        fine = {"Odd(1000)": 1000, "fractions.Fraction(1, 4)": 0.25, "0": 0}
        assert {value: await made.ask(context={"value": value}) for value in fine} == fine


async def test_an_exception_is_named_with_its_place_and_costs_the_process_nothing(scratch: Path) -> None:
    source = PID + "def decide(context):\n    return 1 / context['n']\ndef quits(context): sys.exit(3)\n"
    async with functions(scratch, source) as made:
        lost = await made.lost(context={"n": 0})
        assert (lost.where, lost.message) == (
            "scaling.py:4",
            "scaling:decide of iris v1: ZeroDivisionError: division by zero",
        )
        assert await made.ask(context={"n": 2}) == 0.5
        lost = await made.lost("quits")
        assert "SystemExit: the code called exit(3)" in str(lost)
        again = await made.lost("quits")
        assert str(again) == str(lost)  # no pause: the process is the same


async def test_what_cannot_be_imported_says_why(scratch: Path) -> None:
    async with functions(scratch, "async def later(context): return 1\nnumber = 3\nclass Rules: pass\n") as made:
        assert "scaling has no absent" in str(await made.lost("absent"))
        assert "later is async" in str(await made.lost("later"))
        assert "number is not a function" in str(await made.lost("number"))
        assert "Rules is not a function" in str(await made.lost("Rules"))
        made.write("import nothing_of_that_name\ndef decide(context): return 1")
        lost = await made.lost()
        assert "ModuleNotFoundError" in str(lost)
        assert (lost.where, "requirements.txt" in (lost.hint or "")) == ("scaling.py:1", True)


async def test_an_endless_loop_is_killed_and_the_next_process_waits_longer_each_time(scratch: Path) -> None:
    source = """
def decide(context):
    with open(os.environ["TMPDIR"] + "/pid", "w") as file: file.write(str(os.getpid()))
    while context["loop"]: pass
    return 7
"""
    async with functions(scratch, source.replace('os.environ["TMPDIR"]', repr(str(scratch)))) as made:
        assert await made.ask(context={"loop": False}) == 7
        pid = int((scratch / "pid").read_text())
        for _ in range(2):
            lost = await made.lost(context={"loop": True}, timeout="500ms")
            assert "did not answer within 0.5 s; its process was killed" in str(lost)
        assert gone(pid)
        lost = await made.lost(context={"loop": False})
        assert "within 0.5 s; its process was killed; tried again in 1 s" in str(lost)
        made.clock.advance(1)
        assert await made.ask(context={"loop": False}) == 7


async def test_more_memory_than_it_may_have(scratch: Path) -> None:
    source = """
kept = []
def decide(context):
    while True: kept.append(bytearray(1 << 20))
def swallows(context):
    try: kept.append(bytearray(300 << 20))
    except MemoryError: return 2
def some(context):
    kept.append(bytearray(100 << 20)); return 1
"""
    async with functions(scratch, source) as made:
        lost = await made.lost(memory="128Mi")
        assert "needs more memory than 128Mi" in str(lost)
        assert lost.hint is not None
        assert await made.ask("swallows", memory="128Mi") == 2
        assert await made.ask("some") == 1


async def test_prints_go_to_the_log_and_not_between_the_answers(
    scratch: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = """
def decide(context):
    print('{"value": 99}')
    os.write(1, b'{"value": 98}\\n')
    sys.stdout.close()
    assert sys.stdin.read() == ""
    return 5
def floods(context):
    for number in range(5000): print("line", number, "x" * 1000)
    return 6
"""
    async with functions(scratch, source) as made:
        with caplog.at_level(logging.INFO, "headway.adapters.local.scaling_functions"):
            assert await made.ask() == 5
            await eventually(lambda: '{"value": 98}' in caplog.text and '{"value": 99}' in caplog.text)
            assert "scaling:decide of iris v1: " in caplog.text
            caplog.clear()
            assert await made.ask("floods") == 6
            await eventually(lambda: "the rest is left out" in caplog.text)
            assert len(caplog.records) <= LOGGED_LINES + 1
            assert all(len(record.getMessage()) < 600 for record in caplog.records)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ("os._exit(4)", "exited with code 4"),
        ("os.kill(os.getpid(), 11)", "was killed by signal SIGSEGV"),
        ("[os.write(fd, b'nonsense\\n') for fd in range(3, 9) if writes(fd)]", "answered what is no answer"),
        ("[os.write(fd, b'{}\\n') for fd in range(3, 9) if writes(fd)]", "answered {}"),
        ("[os.write(fd, b'x' * 70000) for fd in range(3, 9) if writes(fd)]", "answered more than 65536 bytes"),
        ("os.closerange(3, 9)", "has no process any more"),
    ],
)
async def test_a_process_that_ends_or_talks_nonsense_is_replaced(scratch: Path, end: str, said: str) -> None:
    source = """
import fcntl
def writes(fd):
    try: return fcntl.fcntl(fd, fcntl.F_GETFL) & 3 == os.O_WRONLY
    except OSError: return False
"""
    source += f"def decide(context):\n    if context['end']: {end}\n    return 1\n"
    async with functions(scratch, source) as made:
        assert said in str(await made.lost(context={"end": True}))
        assert await made.ask(context={"end": False}) == 1


async def test_a_call_that_is_cancelled_leaves_no_answer_to_the_next_one(scratch: Path) -> None:
    source = "def decide(context):\n    while context['slow']: time.sleep(0.01)\n    return context['n']\n"
    async with functions(scratch, source) as made:
        assert await made.ask(context={"slow": False, "n": 1}) == 1
        call = asyncio.create_task(made.ask(context={"slow": True, "n": 2}))
        for _ in range(20):
            await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await made.ask(context={"slow": False, "n": 3}) == 3


async def test_what_is_not_asked_any_more_and_what_is_closed_ends_with_all_it_started(scratch: Path) -> None:
    source = PID + "import subprocess\ndef child(context): return subprocess.Popen(['sleep', '600']).pid / 1e6\n"
    async with functions(scratch, source) as made:
        idle = round(await made.ask("pid", every="1s") * 1e6)
        busy = round(await made.ask("pid", version="v2", every="5m") * 1e6)
        await made.clock.elapse(61)
        await eventually(lambda: gone(idle))
        assert not gone(busy)
        child = round(await made.ask("child") * 1e6)
        await made.port.close()
        await made.port.close()
        assert gone(busy)
        await eventually(lambda: gone(child))
        assert "is ending" in str(await made.lost("pid"))


def test_no_process_outlives_whoever_asked(scratch: Path) -> None:
    bundle = scratch / "bundle"
    bundle.mkdir()
    note = scratch / "pid"
    (bundle / "scaling.py").write_text(
        f"import os, pathlib\n"
        f"def decide(context):\n"
        f"    pathlib.Path({str(note)!r}).write_text(str(os.getpid()) + '.')\n"
        f"    while True: pass  # it does not look whether anybody still asks\n"
    )
    asking = f"""
import asyncio, sys
from pathlib import Path
from headway.adapters.local.clock import SystemClock
from headway.adapters.local.scaling_functions import LocalScalingFunctions
from headway.domain.scaling_spec import PythonTrigger
async def main():
    port = LocalScalingFunctions(Path({str(scratch / "home")!r}), clock=SystemClock(), server_env={{}})
    trigger = PythonTrigger(type="python", timeout="30s")
    await port.call("iris", "v1", sys.executable, Path({str(bundle)!r}), trigger, {{}})
asyncio.run(main())
"""
    library = str(Path(headway.__file__).parent.parent)
    process = subprocess.Popen([sys.executable, "-c", asking], env={**os.environ, "PYTHONPATH": library})
    try:
        wait_until(lambda: note.exists() and note.read_text().endswith("."), what="the function is asked")
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    pid = int(note.read_text().removesuffix("."))
    try:
        wait_until(lambda: gone(pid))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
