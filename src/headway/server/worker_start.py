"""How a worker process comes to be: forked from the process that loaded the model, or spawned to load it itself.

Both inherit three descriptors: the listening socket, the board, and the writing end of a pipe on which the worker
says that it listens. A spawned one gets their numbers on its command line.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from headway.server.worker_board import Board, Seat

SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGCHLD})
"""Handled by the parent; a worker begins with the system's own actions for them."""
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Origin:
    """How this process was started, before user code could change anything."""

    argv: tuple[str, ...]
    cwd: str
    environ: Mapping[str, str]

    @classmethod
    def now(cls) -> Origin:
        """As of this moment."""
        return cls((sys.executable, *sys.orig_argv[1:]), os.getcwd(), dict(os.environ))


class Starter(Protocol):
    """Starts the worker of a slot."""

    def start(self, slot: int, report: int) -> int:
        """The pid of a new worker that reports on the descriptor ``report``. Raises ``OSError``."""
        ...


class ForkStarter:
    """``work`` is what the child does; its value is the exit code."""

    def __init__(self, board: Board, work: Callable[[Seat], int]) -> None:
        self._board = board
        self._work = work

    def start(self, slot: int, report: int) -> int:
        """See :class:`Starter`. In the child the signals of :data:`SIGNALS` are blocked: ``work`` unblocks them."""
        parent = os.getpid()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()  # else what a model printed without an end of line is there once per worker
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
        finally:
            if os.getpid() == parent:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if pid:
            return pid
        code = 70
        try:
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            code = self._work(Seat(self._board, slot, parent, report))
        finally:
            # Not up through the parent's frames, and not through its exit handlers.
            os._exit(code)


class SpawnStarter:
    """Starts the replica's own command again, which then loads the model by itself."""

    def __init__(self, board: Board, origin: Origin, listening: int) -> None:
        self._board = board
        self._origin = origin
        self._listening = listening

    def start(self, slot: int, report: int) -> int:
        """See :class:`Starter`."""
        numbers = (slot, self._board.workers, self._listening, self._board.fd, report, os.getpid())
        for fd in (self._listening, self._board.fd, report):
            os.set_inheritable(fd, True)
        argv = [*self._origin.argv, WORKER, *map(str, numbers)]
        try:
            return os.posix_spawn(argv[0], argv, self._origin.environ, setsigmask=(), setsigdef=SIGNALS)
        finally:
            os.set_inheritable(report, False)


WORKER: Final = "--worker"
"""Before :class:`WorkerArguments` on the command line."""
SUPERVISE: Final = "--supervise"
"""Before the descriptor of the listening socket: start workers that load by themselves."""


def seat_of(arguments: Sequence[str]) -> tuple[Seat, int]:
    """The seat that :class:`SpawnStarter` wrote on the command line, and the listening socket's descriptor."""
    slot, workers, listening, board, report, parent = map(int, arguments)
    for fd in (listening, board, report):
        os.set_inheritable(fd, False)  # what the model starts has no business with them
    return Seat(Board(board, workers), slot, parent, report), listening


def become_supervisor(origin: Origin, listening: int) -> None:
    """Be the same process without the model and without its threads: begin anew, to spawn workers. Does not return.

    Pid, session and start time stay, so whoever watches the replica sees nothing of it.
    """
    os.set_inheritable(listening, True)
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.suppress(OSError):
        os.chdir(origin.cwd)
    os.execve(origin.argv[0], [*origin.argv, SUPERVISE, str(listening)], dict(origin.environ))  # noqa: S606


def die_with_parent(parent: int) -> None:
    """From now on the kernel kills this process when its parent dies, however that dies (prctl(2))."""
    with contextlib.suppress(ImportError, AttributeError, OSError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before
        os._exit(0)
