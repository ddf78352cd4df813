"""ReplicaProcess: one process that is no child to wait for but somebody to watch.

Replicas outlive the control plane, so one that this control plane started and one that it adopted must look
the same. Both are held by a pidfd (pidfd_open(2)): it becomes readable when the process ends, whoever its
parent is, and a signal sent through it can never meet a later process that got the same pid. Only the exit
status differs: the kernel gives it to the parent alone. For an adopted process it is unknown, unless its parent
is a template, which can be asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from headway.adapters.local import procfs
from headway.domain.errors import HeadwayError, Unsupported
from headway.ports.clock import Clock

MANY_FILES = 65_536
STACK_WAIT_S = 1.0
"""For the stack dump of a process that hangs."""
STACK_POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: with a code, by a signal, or (both None) unknown."""

    code: int | None = None
    signal: int | None = None

    def __str__(self) -> str:
        if self.signal is not None:
            return f"was killed by signal {signal_name(self.signal)}"
        return "ended, its exit status is not known" if self.code is None else f"exited with code {self.code}"


AskExit = Callable[[int], Awaitable[Exit]]
"""Asks the parent of a process that has ended how it ended."""


def signal_name(number: int) -> str:
    """``SIGKILL`` for 9; the number itself for real-time signals."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def require_pidfd() -> None:
    """Raises :class:`Unsupported` where the system has no pidfd."""
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        raise Unsupported("the local runtime needs Linux 5.4 or newer", hint="use the kubernetes runtime here")


def allow_many_files() -> None:
    """Raise this process's limit of open files where it may: each replica takes a few. Its children inherit that."""
    present, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MANY_FILES if most == resource.RLIM_INFINITY else min(MANY_FILES, most)
    if present != resource.RLIM_INFINITY and present < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


class ReplicaProcess:
    """A running (or just ended) session leader. ``exit`` is set, and ``on_exit`` called, when it ends."""

    def __init__(
        self, pid: int, start_ticks: int, pidfd: int, on_exit: Callable[[], None], ask: AskExit | None = None
    ) -> None:
        self.pid = pid
        self.start_ticks = start_ticks
        self.exit: Exit | None = None
        self._pidfd = pidfd
        self._on_exit = on_exit
        self._ask = ask
        self._asking: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(pidfd, self._ended_now)

    @classmethod
    def spawn(
        cls, argv: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path, on_exit: Callable[[], None]
    ) -> ReplicaProcess:
        """Start ``argv`` in a session of its own, stdout and stderr appended to ``log``. Raises ``OSError``."""
        with log.open("ab") as output:
            child = subprocess.Popen(
                list(argv),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=cwd,
                env=dict(env),
                start_new_session=True,
                umask=0o077,
            )
        # Watched through its pidfd from here on; without a return code Popen would warn, when collected, about
        # a process that is meant to outlive it.
        child.returncode = 0
        try:
            pidfd = os.pidfd_open(child.pid)
        except OSError:  # no descriptor left: nothing may run that nobody watches
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            raise
        found = procfs.stat(child.pid)
        if found is None:
            raise HeadwayError(f"process {child.pid} cannot be seen in /proc")  # unreaped children always can
        return cls(child.pid, found.start_ticks, pidfd, on_exit)

    @classmethod
    def adopt(
        cls, pid: int, start_ticks: int | None, on_exit: Callable[[], None], ask: AskExit | None = None
    ) -> ReplicaProcess | None:
        """The process of that identity; None when it is gone. Raises ``OSError`` when that cannot be told.

        ``start_ticks`` None: ``pid`` is known to be the right one, since whoever could take it off the list of
        processes has not yet done so. ``ask`` is asked how it ended, should it be no child of ours.
        """
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return None
        except OSError as error:
            if error.errno == errno.EINVAL:  # no pid that could be
                return None
            raise
        found = procfs.stat(pid)  # read after opening: now the pid cannot change hands unnoticed
        if found is None or (start_ticks is not None and (found.dead or found.start_ticks != start_ticks)):
            os.close(pidfd)
            return None
        return cls(pid, found.start_ticks, pidfd, on_exit, ask)

    def watch(self, on_exit: Callable[[], None]) -> None:
        """From now on ``on_exit`` is called when it ends; at once when it has."""
        self._on_exit = on_exit
        if self.exit is not None:
            on_exit()

    def send(self, number: signal.Signals) -> None:
        """Signal the leader alone; nothing when it has ended."""
        if self.exit is None and self._asking is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def kill(self) -> None:
        """SIGKILL to the leader and its whole process group."""
        self.send(signal.SIGKILL)
        if self.exit is None and self._asking is None:
            self._kill_group()

    async def wait(self) -> Exit:
        """Until it has ended."""
        await self._ended.wait()
        return self.exit or Exit()

    def close(self) -> None:
        """Stop watching; the process itself is left alone. A second call does nothing."""
        if self._asking is not None:
            self._asking.cancel()
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _kill_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _ended_now(self) -> None:
        # What is left of the group goes first: until the leader is reaped its group id cannot be taken by others.
        self._kill_group()
        known = self._reap()
        self.close()
        if known is not None or self._ask is None:
            self._tell_end(known or Exit())
        else:
            self._asking = self._loop.create_task(self._ask_end(self._ask), name=f"end of process {self.pid}")

    async def _ask_end(self, ask: AskExit) -> None:
        exit_ = Exit()
        try:
            exit_ = await ask(self.pid)
        finally:  # it has ended, whatever else goes wrong
            self._asking = None
            self._tell_end(exit_)

    def _tell_end(self, exit_: Exit) -> None:
        self.exit = exit_
        self._ended.set()
        self._on_exit()

    def _reap(self) -> Exit | None:
        """None: somebody else's child."""
        try:
            result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return None
        if result is None:
            return Exit()
        if result.si_code == os.CLD_EXITED:
            return Exit(code=result.si_status)
        return Exit(signal=result.si_status)


async def kill_with_stack(process: ReplicaProcess, stack: Path, clock: Clock) -> None:
    """Kill a process that hangs; first let it dump its stack (SIGUSR2) to ``stack``: that names the line."""
    process.send(signal.SIGUSR2)
    deadline = clock.monotonic() + STACK_WAIT_S
    seen = -1
    while process.exit is None and clock.monotonic() < deadline:
        await clock.sleep(STACK_POLL_S)
        size = stack.stat().st_size if stack.exists() else 0
        if size > 0 and size == seen:
            break  # it is written and has stopped growing
        seen = size
    process.kill()
    await process.wait()
