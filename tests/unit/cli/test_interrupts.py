"""An interrupt that Python alone would lose reaches the command all the same."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import uvloop

from headway.cli import interrupts
from headway.cli import main as entry
from headway.cli.interrupts import Interrupts, Terminated, stopped_by, told_to_end
from tests.unit.cli.wire import Terminal
from tests.waiting import PATIENCE_S, wait_until

BOTH = pytest.mark.parametrize(("number", "kind"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)])
CODES = pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])


@pytest.fixture(autouse=True)
def _signals_as_a_shell_leaves_them(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A suite that runs in the background of a script has SIGINT ignored. And this process is not to be ended."""
    monkeypatch.setattr(interrupts, "UNWIND_S", 10 * PATIENCE_S)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def block() -> None:
    """Wait for what never comes, as a log is followed. Fails when nothing has interrupted it."""
    heard, told = os.pipe()
    begun_at = time.monotonic()
    try:
        select.select([heard], [], [], PATIENCE_S)
    finally:
        # Once the call is over by itself, a signal that had not interrupted it is raised after all.
        assert time.monotonic() - begun_at < PATIENCE_S
        os.close(heard)
        os.close(told)


def blocks(thread: int) -> bool:
    """Whether a thread of this process is within :func:`block` and asleep."""
    frame = sys._current_frames().get(thread)
    state = Path(f"/proc/self/task/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[0]
    return frame is not None and frame.f_code is block.__code__ and state == "S"


def lose_by_blocking(number: int) -> None:
    Elsewhere(number).start()
    block()


class Elsewhere(threading.Thread):
    """Takes a signal on itself while the main thread blocks: as if it had come just before the call that does."""

    def __init__(self, number: int) -> None:
        super().__init__(daemon=True)
        self._number = number
        self._main = threading.get_ident()
        self._looks = 0

    def _surely(self) -> bool:
        # Once it may be waiting for this thread to let the interpreter go.
        self._looks = self._looks + 1 if blocks(self._main) else 0
        return self._looks == 5

    def run(self) -> None:
        wait_until(self._surely, what="that it blocks")
        signal.pthread_kill(threading.get_ident(), self._number)


@BOTH
def test_a_signal_before_a_call_that_blocks(number: int, kind: type[BaseException]) -> None:
    with Interrupts(), pytest.raises(kind):
        lose_by_blocking(number)


class Finalized:
    """Interrupted while it is taken away."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __del__(self) -> None:
        signal.raise_signal(self._number)


def lose_in_a_finalizer(number: int) -> None:
    doomed = Finalized(number)
    del doomed
    block()


@BOTH
def test_a_signal_within_a_finalizer(
    number: int, kind: type[BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    with Interrupts(), pytest.raises(kind):
        lose_in_a_finalizer(number)
    assert capsys.readouterr().err == ""


def test_what_else_is_raised_in_vain_is_told_as_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    class Faulty:
        def __del__(self) -> None:
            raise ValueError("no")

    told: list[type[BaseException]] = []
    monkeypatch.setattr("sys.unraisablehook", lambda what: told.append(what.exc_type))
    with Interrupts():
        faulty = Faulty()
        del faulty
    assert told == [ValueError]


def test_signals_are_left_as_they_were() -> None:
    def found() -> list[object]:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGURG)
        return [*map(signal.getsignal, numbers), sys.unraisablehook, threading.active_count()]

    before = found()
    with Interrupts():
        assert signal.set_wakeup_fd(-1) > 0
    assert found() == before
    assert signal.set_wakeup_fd(-1) == -1


def test_who_ignores_sigterm_goes_on_ignoring_it() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN


@CODES
@pytest.mark.parametrize("lose", [lose_by_blocking, lose_in_a_finalizer])
def test_a_command_ends_however_it_comes(
    number: int, code: int, lose: Callable[[int], None], terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        lose(number)
        raise AssertionError

    terminal.answers["GET /v1/models"] = answer
    monkeypatch.setattr("sys.argv", ["headway", "list"])
    with pytest.raises(SystemExit) as ended:
        entry.main()
    assert ended.value.code == code


def test_who_stops_waiting() -> None:
    assert all(map(stopped_by, (KeyboardInterrupt, Terminated, asyncio.CancelledError)))
    assert not any(map(stopped_by, (None, ValueError, SystemExit)))


@contextmanager
def process(number: int, script: str, *, unwind_s: float, twice_s: float) -> Iterator[subprocess.Popen[str]]:
    """``script`` as a process of its own, which a signal may end hard; ``number`` is its ``NUMBER``."""
    before = f"""
    import os, select, signal, threading, time
    from headway.cli import interrupts
    from headway.cli.interrupts import Interrupts, Terminated
    NUMBER, LONG_S = {int(number)}, {PATIENCE_S}
    interrupts.UNWIND_S, interrupts.TWICE_S, interrupts.END_S = {unwind_s}, {twice_s}, LONG_S
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    """
    code = textwrap.dedent(before) + textwrap.dedent(script)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as started:
        try:
            yield started
        finally:
            started.kill()


def heard(started: subprocess.Popen[str]) -> str:
    assert started.stdout is not None
    return started.stdout.readline().strip()


IN_A_CLEAN_UP = """
lock = threading.Lock()
with Interrupts():
    try:
        lock.acquire()
        signal.raise_signal(NUMBER)
    finally:
        try:
            print("unwinds", flush=True)
            lock.acquire(timeout=LONG_S)
        except (KeyboardInterrupt, Terminated):  # of the second one
            lock.acquire(timeout=LONG_S)
        os._exit(99)
"""


@CODES
def test_one_signal_ends_a_command_whose_clean_up_hangs(number: int, code: int) -> None:
    with process(number, IN_A_CLEAN_UP, unwind_s=0.05, twice_s=PATIENCE_S) as started:
        assert started.wait(PATIENCE_S) == code


@CODES
def test_one_signal_ends_a_loop_whose_clean_up_hangs(number: int, code: int) -> None:
    script = """
    import asyncio

    async def command():
        try:
            signal.raise_signal(NUMBER)
            await asyncio.Event().wait()
        finally:
            time.sleep(LONG_S)
            os._exit(99)

    with Interrupts():
        asyncio.run(command())
    """
    with process(number, script, unwind_s=0.05, twice_s=PATIENCE_S) as started:
        assert started.wait(PATIENCE_S) == code


@CODES
def test_a_second_signal_ends_it_at_once(number: int, code: int) -> None:
    with process(number, IN_A_CLEAN_UP, unwind_s=10 * PATIENCE_S, twice_s=0.0) as started:
        assert heard(started) == "unwinds"
        started.send_signal(number)
        assert started.wait(PATIENCE_S) == code


@CODES
def test_a_signal_that_comes_twice_at_once_is_raised_twice(number: int, code: int) -> None:
    script = """
    with Interrupts():  # which is left once all that came has been heard
        try:
            signal.raise_signal(NUMBER)
        except (KeyboardInterrupt, Terminated):
            try:
                signal.raise_signal(NUMBER)
            except (KeyboardInterrupt, Terminated):
                print("twice", flush=True)
    """
    with process(number, script, unwind_s=10 * PATIENCE_S, twice_s=10 * PATIENCE_S) as started:
        assert heard(started) == "twice"
        assert started.wait(PATIENCE_S) == 0


@CODES
def test_what_is_sent_again_is_no_second_signal(number: int, code: int) -> None:
    script = """
    class Finalized:
        def __del__(self):
            signal.raise_signal(NUMBER)

    with Interrupts():  # which is left once all that came has been heard
        try:
            doomed = Finalized()
            del doomed
            time.sleep(LONG_S)
        except (KeyboardInterrupt, Terminated):
            pass
    print("unwound", flush=True)
    """
    with process(number, script, unwind_s=10 * PATIENCE_S, twice_s=0.0) as started:
        assert heard(started) == "unwound"
        assert started.wait(PATIENCE_S) == 0


OWN = """
def own(number, frame):
    pass

class Clock:
    late_s = 0.0
    monotonic = staticmethod(lambda: time.monotonic() + Clock.late_s)

def unwinds(number, really=interrupts._unwinds):
    try:
        return really(number)
    finally:
        asked.set()

asked = threading.Event()
interrupts.time, interrupts._unwinds = Clock, unwinds
"""
FROM_THE_START = """
with Interrupts():
    signal.signal(NUMBER, own)
    signal.raise_signal(NUMBER)
"""
AFTERWARDS = """
with Interrupts():
    try:
        signal.raise_signal(NUMBER)
        time.sleep(LONG_S)
    except (KeyboardInterrupt, Terminated):
        assert asked.wait(LONG_S)
        signal.signal(NUMBER, own)
"""
PAST_THE_END = """
    assert asked.wait(LONG_S)
    Clock.late_s = 2 * interrupts.UNWIND_S
    signal.raise_signal(NUMBER)  # heard before it is left, as whatever is due by then
"""


@CODES
@pytest.mark.parametrize("begin", [FROM_THE_START, AFTERWARDS], ids=["from the start", "afterwards"])
def test_who_handles_a_signal_in_a_way_of_its_own_is_never_ended(number: int, code: int, begin: str) -> None:
    with process(number, OWN + begin + PAST_THE_END, unwind_s=10 * PATIENCE_S, twice_s=0.0) as started:
        assert started.wait(PATIENCE_S) == 0


LOOPS = pytest.mark.parametrize("make", [asyncio.new_event_loop, uvloop.new_event_loop])


@LOOPS
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_runs_in_an_event_loop_is_told_to_end(number: int, make: Callable[[], asyncio.AbstractEventLoop]) -> None:
    found: list[object] = []

    async def work() -> None:
        before, told = signal.getsignal(number), asyncio.Event()
        with told_to_end(told.set):
            signal.raise_signal(number)
            await asyncio.wait_for(told.wait(), PATIENCE_S)
        found.append(signal.getsignal(number) is before)

    with Interrupts(), asyncio.Runner(loop_factory=make) as runner:
        before = signal.getsignal(number)
        runner.run(work())
        assert signal.getsignal(number) is before
    assert found == [True]


@LOOPS
def test_under_nohup_a_terminal_that_is_closed_ends_nothing(make: Callable[[], asyncio.AbstractEventLoop]) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)

    async def work() -> None:
        with told_to_end(lambda: None):
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(work())


def test_what_a_command_that_is_over_has_ignored_stays_ignored() -> None:
    with Interrupts():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as a worker does, that is sent them until it is gone
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
