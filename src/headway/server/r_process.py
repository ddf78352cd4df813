"""One R process: started, asked over two pipes, replaced when it ends, killed when it hangs.

Frames are a length in four bytes and R's own serialization (:mod:`headway.server.r_serial`); the other end is
``r/bridge.R``. One question at a time. What R prints comes over a third pipe and is written to this process's own
stderr, because that follows the log's rotation and a descriptor that R inherited would not.

R is started by way of a small program that asks the kernel to end R together with the *thread* that started it
(prctl(2), PR_SET_PDEATHSIG), so a server that is killed leaves no R behind, not even one in an endless loop. The signal
is SIGUSR2, on which R quits in order and removes its temporary folder. Because the thread counts, a process is started
by the main thread or by one that lives as long (:attr:`RProcess._starter`).
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import logging
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic
from typing import Final

from headway.domain.errors import MissingBinary
from headway.server.failures import UserFailure

log = logging.getLogger("headway.server")

VARIABLE: Final = "HEADWAY_RSCRIPT"
BRIDGE: Final = Path(__file__).with_name("r") / "bridge.R"
END_WITHIN_S: Final = 2.0
"""For R to quit once its pipe is closed."""
_HOW: Final = f"Debian, Ubuntu: apt-get install r-base-core; or name another R's Rscript in {VARIABLE}"
_PIPE_BYTES: Final = 1 << 20
_CHUNK: Final = 1 << 16
_LONGEST_MS: Final = 1e9
"""poll(2) takes no more than an int."""
_LAUNCH: Final = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[1]), 0, 0, 0)
if os.getppid() != int(sys.argv[2]):
    os._exit(0)
os.execv(sys.argv[3], sys.argv[3:])
"""


class REnded(RuntimeError):
    """The R process is not there any more, or was killed because it took too long."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.failure = UserFailure(message, None)


class RTooLate(REnded):
    """It was killed because it took too long."""


class RUnheard(REnded):
    """It had ended before it read the question."""


def find_rscript(environ: Mapping[str, str] | None = None) -> str:
    """The program to run: ``HEADWAY_RSCRIPT``, else ``Rscript`` on PATH. Raises ``MissingBinary``.

    One that was named but is not there is an error, not a reason to take another.
    """
    environ = os.environ if environ is None else environ
    chosen = environ.get(VARIABLE)
    found = shutil.which(os.path.expanduser(chosen or "Rscript"), path=environ.get("PATH"))
    if found is None:
        if chosen:
            raise MissingBinary(f"R: {chosen} is not a program", where=VARIABLE, hint=_HOW)
        raise MissingBinary("R was not found: there is no Rscript on PATH", hint=_HOW)
    return os.path.abspath(found)


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """What R is started with: the server's variables, with a locale in which text is UTF-8."""
    env = dict(environ)
    spoken = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or "C"
    if not spoken.lower().replace("-", "").endswith("utf8"):
        env["LC_ALL" if env.get("LC_ALL") else "LC_CTYPE"] = "C.UTF-8"
    return env


class RProcess:
    """``prepare`` is run with every new process, under the lock, before anything else is asked of it."""

    def __init__(self, rscript: str, folder: Path, prepare: Callable[[RProcess], None]) -> None:
        self._rscript = rscript
        self._folder = folder
        self._prepare = prepare
        self._lock = threading.Lock()
        self._run: _Run | None = None
        self._starter: ThreadPoolExecutor | None = None
        self._owner = os.getpid()
        self.limit_s: float | None = None
        """Of one call; None: none, as while loading."""
        self.scratch: str | None = None
        """R's temporary folder, once it has told."""

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        run = self._run
        return None if run is None or self._owner != os.getpid() else run.process.pid

    def start(self) -> None:
        """Have a process of this process's own. Raises what ``prepare`` raises, or :class:`REnded`."""
        with self._lock:
            self._ready()

    def call(self, message: bytes) -> bytearray:
        """R's answer. Raises :class:`REnded`; then the next call has a new process, which is started at once."""
        with self._lock:
            return self._asked(message, self.limit_s)

    def try_call(self, message: bytes, limit_s: float, wait_s: float) -> bytearray | None:
        """The same, or None when R is busy for ``wait_s``."""
        if not self._lock.acquire(timeout=wait_s):
            return None
        try:
            return self._asked(message, limit_s)
        finally:
            self._lock.release()

    def exchange(self, message: bytes, limit_s: float | None = None) -> bytearray:
        """Ask and hear, for who holds the lock: ``prepare``."""
        run = self._run
        assert run is not None
        try:
            return run.exchange(message, limit_s)
        except REnded:
            self._discard()
            raise

    def stop(self) -> None:
        """End the process. Idempotent; a later call has a new one."""
        with self._lock:
            self._discard()

    def _at_exit(self) -> None:
        if self._lock.acquire(timeout=END_WITHIN_S):  # else it is in a call that nobody waits for
            try:
                self._discard()
            finally:
                self._lock.release()

    # -- under the lock ------------------------------------------------------------------------------

    def _asked(self, message: bytes, limit_s: float | None) -> bytearray:
        self._ready()
        try:
            try:
                return self.exchange(message, limit_s)
            except RUnheard:
                self._ready()
                return self.exchange(message, limit_s)
        except REnded:
            self._replace()
            raise

    def _ready(self) -> None:
        if self._owner != os.getpid():  # forked: the process, its pipes and its thread are the parent's
            self._owner, self._starter = os.getpid(), None
            if self._run is not None:
                self._run.abandon()
                self._run = None
        if self._run is not None and self._run.ended():
            log.warning("the R process has ended (%s); another one is started", self._run.how())
            self._discard()
        if self._run is None:
            self._begin()

    def _begin(self) -> None:
        if threading.current_thread() is threading.main_thread():
            self._run = _Run(self._rscript, self._folder)
        else:
            self._starter = self._starter or ThreadPoolExecutor(1, "headway-r-start")
            self._run = self._starter.submit(_Run, self._rscript, self._folder).result()
        # Its temporary folder is gone with it only if it may quit; whoever ends this process may kill R right after.
        atexit.unregister(self._at_exit)
        atexit.register(self._at_exit)
        try:
            self._prepare(self)
        except BaseException:
            self._discard()
            raise

    def _replace(self) -> None:
        """Begin now what the next call would wait for, without making this one wait."""

        def again() -> None:
            try:
                self.start()
            except Exception as error:  # the next call tries again, and tells
                log.error("R could not be started again: %s", error)

        threading.Thread(target=again, name="headway-r-again", daemon=True).start()

    def _discard(self) -> None:
        run, self._run = self._run, None
        if run is not None and self._owner == os.getpid():
            run.close(self.scratch)


class _Run:
    """One life of R."""

    def __init__(self, rscript: str, folder: Path) -> None:
        asks, self._to = os.pipe2(os.O_CLOEXEC)
        self._from, answers = os.pipe2(os.O_CLOEXEC)
        prints, printed = os.pipe2(os.O_CLOEXEC)
        theirs = (asks, answers, printed)
        try:
            for fd in (asks, answers):
                with contextlib.suppress(OSError):
                    fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # a large batch in fewer pieces
            command = [rscript, "--no-save", "--no-restore", "--no-init-file", str(BRIDGE), str(asks), str(answers)]
            launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(int(signal.SIGUSR2)), str(os.getpid())]
            self.process = subprocess.Popen(
                [*launch, *command],
                cwd=folder,
                env=environment(os.environ),
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                pass_fds=(asks, answers),
            )
        except OSError as error:
            for fd in (self._to, self._from, prints):
                os.close(fd)
            raise MissingBinary(f"R does not run: {error}", hint=_HOW) from None
        finally:
            for fd in theirs:
                os.close(fd)
        os.set_blocking(self._to, False)
        os.set_blocking(self._from, False)
        self._ends = os.pidfd_open(self.process.pid)
        self._poll = select.poll()
        self._poll.register(self._from, select.POLLIN)
        self._poll.register(self._ends, select.POLLIN)
        self._printer = threading.Thread(target=_print, args=(prints, self._ends), name="headway-r-log", daemon=True)
        self._printer.start()
        self._limit_s: float | None = None
        self._deadline: float | None = None

    def ended(self) -> bool:
        return self.process.poll() is not None

    def how(self) -> str:
        code = self.process.wait()
        if code < 0:
            try:
                return f"killed by signal {signal.Signals(-code).name}"
            except ValueError:
                return f"killed by signal {-code}"
        return f"exit status {code}"

    def exchange(self, message: bytes, limit_s: float | None) -> bytearray:
        self._limit_s = limit_s
        self._deadline = None if limit_s is None else monotonic() + limit_s
        self._write(message)
        answer = bytearray()
        size = -1
        while len(answer) != size:
            self._wait(self._poll)
            answer += self._read(_CHUNK if size < 0 else min(size - len(answer), _PIPE_BYTES))
            if size < 0 and len(answer) >= 4:
                size = int.from_bytes(answer[:4], sys.byteorder)
                del answer[:4]
        return answer

    def _write(self, message: bytes) -> None:
        left = memoryview(len(message).to_bytes(4, sys.byteorder) + message)
        while left:
            try:
                left = left[os.write(self._to, left) :]
            except BlockingIOError:
                poll = select.poll()
                poll.register(self._to, select.POLLOUT)
                poll.register(self._ends, select.POLLIN)
                self._wait(poll)
            except BrokenPipeError:
                raise RUnheard(str(self._gone())) from None

    def _read(self, most: int) -> bytes:
        try:
            data = os.read(self._from, most)
        except BlockingIOError:  # not the pipe was ready: the process has ended
            data = b""
        if not data:
            raise self._gone()
        return data

    def _wait(self, poll: select.poll) -> None:
        while not poll.poll(self._left_ms()):
            if self._left_ms() == 0:
                self.process.kill()
                raise RTooLate(
                    f"R gave no answer within {self._limit_s:g} s; its process was ended and another one is started"
                )

    def _left_ms(self) -> float | None:
        if self._deadline is None:
            return None
        return max(0.0, min((self._deadline - monotonic()) * 1000, _LONGEST_MS))

    def _gone(self) -> REnded:
        try:
            self.process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
        how = self.how()
        if self.process.returncode >= 0:
            how += "; a model must not quit() R, but stop() with a message"
        return REnded(f"the R process ended in the midst of it: {how}")

    def close(self, scratch: str | None) -> None:
        os.close(self._to)  # R quits when it sees that
        try:
            self.process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._printer.join(END_WITHIN_S)
        os.close(self._from)
        os.close(self._ends)
        if scratch is not None:  # its own, which it removes unless it was killed
            shutil.rmtree(scratch, ignore_errors=True)

    def abandon(self) -> None:
        """The parent's: only this process's copies go."""
        for fd in (self._to, self._from, self._ends):
            os.close(fd)


def _print(prints: int, ends: int) -> None:
    """What R prints, to stderr, until R has ended and all is said."""
    os.set_blocking(prints, False)
    poll = select.poll()
    poll.register(prints, select.POLLIN)
    poll.register(ends, select.POLLIN)
    try:
        while True:
            poll.poll()
            try:
                data = os.read(prints, _CHUNK)
            except BlockingIOError:  # R has ended; what it has started may hold the pipe for ever
                return
            if not data:
                return
            with contextlib.suppress(OSError):  # a full disk
                os.write(2, data)
    finally:
        os.close(prints)
