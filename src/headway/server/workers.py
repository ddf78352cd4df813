"""Several worker processes for one replica, and the parent that looks after them.

The parent serves nothing: it waits. It starts a worker again when it ends (at once; after quick deaths with a growing
pause), kills one whose event loop has stopped turning, rotates the log, hands on SIGTERM (drain) and SIGUSR2 (stack
dump), and ends when all have ended. When they keep dying it gives up and ends as the last of them did, so that
whoever runs the replica sees what it would have seen of a single process. When the parent dies, so do the workers.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import select
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import monotonic, perf_counter_ns
from typing import Final

from headway.server.config import ServerConfig, read_config
from headway.server.listening import bound_address, remove_socket, socket_inode
from headway.server.log_file import CHECK_EVERY_S, RotatingLog, open_log
from headway.server.process_usage import proportional_bytes, with_children
from headway.server.stats_page import StatsPage, page_of
from headway.server.worker_board import Board, Phase, StartMode
from headway.server.worker_start import SIGNALS, SUPERVISE, Origin, SpawnStarter, Starter

log = logging.getLogger("headway.server")

QUICK_S: Final = 10.0
"""A worker that served for less has died quickly."""
GIVE_UP_AFTER: Final = 5
"""Quick deaths in a row, of every worker, after which there is no use in going on. One request that kills whoever
takes it is sent to seven of them by the gateway."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
BEATS_EVERY_S: Final = 2.0
MEMORY_EVERY_S: Final = 10.0
MEMORY_SHARE: Final = 0.002
"""Of a processor, at most, for measuring memory: the kernel walks all pages for it."""
STACK_S: Final = 0.05
"""For one process to write its stacks, before the next one begins."""


@dataclass(slots=True)
class _Worker:
    slot: int
    pid: int = 0
    report: int = -1
    """Reading end of its pipe; -1 when there is none."""
    started_at: float = 0.0
    ready_at: float | None = None
    quick_deaths: int = 0
    due_at: float | None = 0.0
    """When to start it; None while it runs or is not wanted."""

    def dying(self, now: float) -> bool:
        """Whether its last lives were short, and this one is not long yet."""
        lived = self.pid and self.ready_at is not None and now - self.ready_at >= QUICK_S
        return self.quick_deaths >= GIVE_UP_AFTER and not lived


class CannotStart(Exception):
    """A worker did not come to listen the first time. ``status`` is its exit code, or minus the signal."""

    def __init__(self, slot: int, status: int | None) -> None:
        self.status = status
        if status is None:
            how = "did not answer in time"
        else:
            how = f"exited with code {status}" if status >= 0 else f"was killed by {_name(-status)}"
        super().__init__(f"worker {slot + 1} {how}")


class Workers:
    """The workers of one replica. :meth:`run` returns when they have ended. ``opened`` is closed by a drain."""

    def __init__(
        self,
        config: ServerConfig,
        opened: socket.socket,
        board: Board,
        starter: Starter,
        log_file: RotatingLog | None,
        *,
        start_within_s: float | None,
    ) -> None:
        self._config = config
        self._socket = opened
        self._board = board
        self._starter = starter
        self._log_file = log_file
        self._start_within_s = start_within_s
        """For a worker to listen; None: as long as it takes (whoever runs the replica has a startup probe)."""
        self._workers = [_Worker(slot) for slot in range(board.workers)]
        self._stats = page_of(config, board.workers) or StatsPage.within(board.fd, board.stats_at, board.workers)
        self._serving = False
        self._stopping = False
        self._close_at: float | None = None
        self._result: int | None = None
        self._next_log = self._next_beats = self._next_memory = 0.0

    def run(self) -> int:
        """Until SIGTERM or SIGINT and then until all have ended: 0. When giving up: how the last one ended.

        Raises :class:`CannotStart` when the first start fails; then no worker is left.
        """
        with _signals() as wakeup:
            try:
                while self._result is None:
                    self._start_due()
                    poll = select.poll()
                    poll.register(wakeup, select.POLLIN)
                    starting = {w.report: w for w in self._workers if w.report >= 0}
                    for fd in starting:
                        poll.register(fd, select.POLLIN)
                    for fd, _ in poll.poll(self._pause_ms()):
                        if fd != wakeup:
                            self._reported(starting[fd])
                    self._take_signals(wakeup)
                    self._reap()
                    self._look()
            finally:
                self._kill_all()
                self._stats.close()
        return self._result

    # -- starting ------------------------------------------------------------------------------------

    def _start_due(self) -> None:
        now = monotonic()
        for worker in self._workers:
            if worker.due_at is not None and worker.due_at <= now:
                reading, writing = os.pipe()
                try:
                    worker.pid = self._starter.start(worker.slot, writing)
                except OSError as error:
                    os.close(reading)
                    if not self._serving:
                        raise
                    log.error("worker %d cannot be started (%s); trying again", worker.slot + 1, error)
                    worker.due_at = now + LONGEST_PAUSE_S
                    continue
                finally:
                    os.close(writing)
                self._board.occupy(worker.slot, worker.pid)
                worker.report, worker.started_at, worker.ready_at, worker.due_at = reading, now, None, None

    def _reported(self, worker: _Worker) -> None:
        listens = bool(os.read(worker.report, 1))
        os.close(worker.report)
        worker.report = -1
        if not listens:  # it ended; its status comes with SIGCHLD
            return
        worker.ready_at = monotonic()
        if not self._serving and all(w.ready_at is not None for w in self._workers):
            self._serving = True
            if not self._stopping:
                self._board.phase = Phase.SERVING
                address = bound_address(self._socket, self._config.listen)
                log.info(
                    "listening on %s with %d workers (%s)", address, len(self._workers), self._board.mode.name.lower()
                )
            self._next_memory = 0.0

    # -- ends ----------------------------------------------------------------------------------------

    def _reap(self) -> None:
        for worker in self._workers:
            if worker.pid:
                with contextlib.suppress(ChildProcessError):
                    pid, status = os.waitpid(worker.pid, os.WNOHANG)
                    if pid:
                        self._ended(worker, os.waitstatus_to_exitcode(status))
        if self._stopping and not any(w.pid for w in self._workers):
            self._result = 0

    def _ended(self, worker: _Worker, status: int) -> None:
        now = monotonic()
        ready_at = worker.ready_at
        self._board.vacate(worker.slot)
        self._stats.vacate(worker.slot)
        pid, worker.pid, worker.ready_at = worker.pid, 0, None
        if worker.report >= 0:
            os.close(worker.report)
            worker.report = -1
        if self._stopping:
            return
        if not self._serving:
            raise CannotStart(worker.slot, status)
        quick = ready_at is None or now - ready_at < QUICK_S
        worker.quick_deaths = worker.quick_deaths + 1 if quick else 0
        how = f"exited with code {status}" if status >= 0 else f"was killed by {_name(-status)}"
        if all(w.dying(now) for w in self._workers):
            log.error("worker %d (process %d) %s; all workers keep dying, giving up", worker.slot + 1, pid, how)
            self._result = status or 1
            return
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** (worker.quick_deaths - 2)) if worker.quick_deaths > 1 else 0
        worker.due_at = now + pause
        self._board.restarts += 1
        log.error("worker %d (process %d) %s; starting it again", worker.slot + 1, pid, how)

    def _kill_all(self) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, signal.SIGKILL)
        for worker in self._workers:
            if worker.pid:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(worker.pid, 0)
                worker.pid = 0
            if worker.report >= 0:
                os.close(worker.report)
                worker.report = -1

    # -- signals -------------------------------------------------------------------------------------

    def _take_signals(self, wakeup: int) -> None:
        with contextlib.suppress(BlockingIOError):
            for number in set(os.read(wakeup, 4096)):
                if number in (signal.SIGTERM, signal.SIGINT):
                    self._drain()
                elif number == signal.SIGUSR2:
                    self._dump_stacks([w for w in self._workers if w.pid])

    def _drain(self) -> None:
        self._board.phase = Phase.DRAINING
        if not self._stopping:
            self._close_at = monotonic() + self._config.drain_delay_s
        self._stopping = True
        for worker in self._workers:
            worker.due_at = None
            if worker.pid:
                os.kill(worker.pid, signal.SIGTERM)

    def _dump_stacks(self, workers: list[_Worker]) -> None:
        """One after the other: they write to one file."""
        for worker in workers:
            before = self._stack_bytes()
            os.kill(worker.pid, signal.SIGUSR2)
            deadline = monotonic() + STACK_S
            seen = before
            while monotonic() < deadline:
                select.select([], [], [], STACK_S / 10)
                size = self._stack_bytes()
                if size > before and size == seen:
                    break
                seen = size

    def _stack_bytes(self) -> int:
        path = self._config.stack_file
        try:
            return os.stat(path).st_size if path is not None else 0
        except OSError:
            return 0

    # -- looking after -------------------------------------------------------------------------------

    def _look(self) -> None:
        now = monotonic()
        if self._close_at is not None and now >= self._close_at:
            self._close_at = None
            self._socket.close()  # else clients would wait in a queue that nobody empties
        if self._log_file is not None and now >= self._next_log:
            self._next_log = now + CHECK_EVERY_S
            with contextlib.suppress(OSError):  # a full disk must not end the rotation for good
                self._log_file.rotate_if_full()
        if now >= self._next_beats:
            self._next_beats = now + BEATS_EVERY_S
            self._look_for_hung(now)
        if self._serving and now >= self._next_memory:
            self._board.memory_bytes = proportional_bytes({os.getpid(), *with_children(w.pid for w in self._workers)})
            self._next_memory = now + max(MEMORY_EVERY_S, (monotonic() - now) / MEMORY_SHARE)

    def _look_for_hung(self, now: float) -> None:
        for worker in self._workers:
            if not worker.pid:
                continue
            if worker.ready_at is None:
                limit = self._start_within_s
                if limit is not None and now - worker.started_at > limit and not self._stopping:
                    if not self._serving:
                        raise CannotStart(worker.slot, None)
                    self._kill_hung(worker, limit)
            elif perf_counter_ns() - self._board.beaten_ns(worker.slot) > self._config.worker_hang_s * 1e9:
                self._kill_hung(worker, self._config.worker_hang_s)

    def _kill_hung(self, worker: _Worker, limit_s: float) -> None:
        before = self._stack_bytes()
        self._dump_stacks([worker])
        text = ""
        if self._config.stack_file is not None:
            with contextlib.suppress(OSError):
                text = "\n" + Path(self._config.stack_file).read_bytes()[before:].decode(errors="replace").rstrip()
        log.error(
            "worker %d (process %d) has not turned for %g s; killing it%s", worker.slot + 1, worker.pid, limit_s, text
        )
        os.kill(worker.pid, signal.SIGKILL)

    def _pause_ms(self) -> float:
        """Until something is due."""
        due = [self._next_beats]
        if self._log_file is not None:
            due.append(self._next_log)
        if self._close_at is not None:
            due.append(self._close_at)
        due += [w.due_at for w in self._workers if w.due_at is not None]
        return max(1.0, (min(due) - monotonic()) * 1000)


def supervise(
    config: ServerConfig,
    opened: socket.socket,
    board: Board,
    starter: Starter,
    log_file: RotatingLog | None,
    *,
    start_within_s: float | None,
) -> int:
    """Run the workers; removes the socket file afterwards. The exit code; may end the process by a signal.

    Raises :class:`CannotStart`; then ``opened`` and its file are as they were.
    """
    address = bound_address(opened, config.listen)
    inode = socket_inode(address)
    workers = Workers(config, opened, board, starter, log_file, start_within_s=start_within_s)
    status = workers.run()
    opened.close()
    remove_socket(address, inode)
    if status < 0:
        end_by(-status)
    return status


def supervise_spawned(config_file: Path, listening: int) -> int:
    """Be the parent of workers that load the model by themselves. The exit code, as of :func:`supervise`."""
    origin = Origin.now()
    origin = Origin(origin.argv[: origin.argv.index(SUPERVISE)], origin.cwd, origin.environ)
    config = read_config(config_file)
    log_file = open_log(config)
    os.set_inheritable(listening, False)
    opened = socket.socket(fileno=listening)
    board = Board.create(config.options.workers)
    board.mode = StartMode.SPAWN
    starter = SpawnStarter(board, origin, listening)
    try:
        return supervise(config, opened, board, starter, log_file, start_within_s=None)
    except CannotStart as error:
        log.error("%s", error)
        opened.close()
        if error.status is not None and error.status < 0:
            end_by(-error.status)
        return 1 if error.status is None else error.status


def end_by(number: int) -> None:
    """End as a process does that is killed by that signal; returns when it does not kill."""
    faulthandler.disable()
    with contextlib.suppress(OSError, ValueError):
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
    os.kill(os.getpid(), number)


@contextlib.contextmanager
def _signals() -> Iterator[int]:
    """The descriptor on which the numbers of signals arrive as bytes. Outside the signals are blocked: none is lost."""
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    faulthandler.unregister(signal.SIGUSR2)
    before = {number: signal.signal(number, _noted) for number in SIGNALS}
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    try:
        yield reading
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        os.close(reading)
        os.close(writing)


def _noted(number: int, frame: object) -> None:
    """It is in the wakeup descriptor."""


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
