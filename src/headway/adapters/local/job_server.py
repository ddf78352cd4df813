"""LocalJobServer: looks after the job server of a home, a process that outlives the control plane.

It is known by what stands in its environment: whose home it serves, and a mark of the version and the settings that it
was started with. One with the same mark is adopted; another one is ended and replaced. One that dies is started again,
after a pause that grows while that goes on (:mod:`headway.adapters.local.backoff`).

SIGUSR1 tells it that everything is about to stop: calls that wait are answered, streams end, and workers are still
listened to. SIGTERM ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headway.adapters.local import backoff, procfs
from headway.adapters.local.launch import HOME_VARIABLE
from headway.adapters.local.process import Exit, ReplicaProcess
from headway.adapters.local.sockets import job_socket
from headway.ports.clock import Clock

log = logging.getLogger(__name__)

MARK_VARIABLE: Final = "HEADWAY_JOB_SERVER"
MODULE: Final = "headway.job_server"
WITHHELD: Final = frozenset({"HEADWAY_TOKEN", "HEADWAY_URL"})
"""Variables of the control plane that are none of its business."""
GRACE_S: Final = 20.0
"""From SIGTERM to SIGKILL."""
LOOK_S: Final = 10.0
ANSWER_S: Final = 5.0
SILENT_LOOKS: Final = 6
"""So often in a row it may be silent when it is asked: a minute, in which it may be starting, too."""


@dataclass(frozen=True, slots=True)
class FoundJobServer:
    """A living job server of a home."""

    pid: int
    start_ticks: int
    mark: str


def find_job_servers(home: Path) -> list[FoundJobServer]:
    """Those of ``home``, oldest first. Reads all of ``/proc``."""
    found = []
    for pid in procfs.pids():
        marks = procfs.environ(pid)
        mark = marks.get(MARK_VARIABLE)
        if mark is None or marks.get(HOME_VARIABLE) != str(home) or pid == os.getpid():
            continue
        seen = procfs.stat(pid)
        if seen is not None and not seen.dead and seen.session == pid:
            found.append(FoundJobServer(pid, seen.start_ticks, mark))
    return sorted(found, key=lambda one: one.start_ticks)


def log_file(home: Path) -> Path:
    """What it prints, and is told by it to rotate."""
    return home / "job-server.log"


class LocalJobServer:
    """``env``: the control plane's environment; ``mark``: of version and settings; ``arguments``: for experiments."""

    def __init__(
        self, home: Path, run_dir: Path, clock: Clock, env: Mapping[str, str], mark: str, arguments: Sequence[str] = ()
    ) -> None:
        self._home = home.resolve()
        self._socket = job_socket(run_dir)
        self._clock = clock
        self._mark = mark
        self._arguments = arguments
        self._env = {n: v for n, v in env.items() if n not in WITHHELD}
        self._env |= {HOME_VARIABLE: str(self._home), MARK_VARIABLE: mark, "PYTHONUNBUFFERED": "1"}
        self._process: ReplicaProcess | None = None
        self._watch: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()
        self.adopted = False
        """Whether it ran already when this was started."""

    @property
    def pid(self) -> int | None:
        """None while it does not run."""
        process = self._process
        return process.pid if process is not None and process.exit is None else None

    async def start(self) -> None:
        """Adopt the one that runs, or start one; a second call changes nothing.

        It is not waited for: whoever calls it meanwhile tries again, and what keeps it from coming up (a database that
        cannot be reached) must not keep models from being served.
        """
        async with self._changing:
            if self._watch is None:
                self._process = await self._adopt()
                self.adopted = self._process is not None
                self._watch = asyncio.create_task(self._keep_running(), name="job server watchdog")

    async def quiesce(self) -> None:
        """Have it answer what waits, and make nobody wait any more."""
        if self._process is not None:
            self._process.send(signal.SIGUSR1)

    async def stop(self, *, stop_server: bool) -> None:
        """Stop looking after it; with ``stop_server`` end it. A second call changes nothing."""
        async with self._changing:
            watch, self._watch = self._watch, None
            if watch is not None:
                watch.cancel()
                await asyncio.gather(watch, return_exceptions=True)
            process, self._process = self._process, None
            if process is not None:
                if stop_server:
                    await _end(process)
                process.close()

    async def _adopt(self) -> ReplicaProcess | None:
        adopted: ReplicaProcess | None = None
        for found in await asyncio.to_thread(find_job_servers, self._home):
            process = ReplicaProcess.adopt(found.pid, found.start_ticks, _nothing)
            if process is None:
                continue
            if found.mark == self._mark and adopted is None:
                adopted = process
                continue
            log.info("replacing the job server (pid %d): it is of another version or other settings", found.pid)
            await _end(process)
            process.close()
        return adopted

    def _spawn(self) -> ReplicaProcess:
        argv = [sys.executable, "-m", MODULE, *self._arguments]
        return ReplicaProcess.spawn(argv, env=self._env, cwd=self._home, log=log_file(self._home), on_exit=_nothing)

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(ANSWER_S):
                reader, writer = await asyncio.open_unix_connection(str(self._socket))
                try:
                    writer.write(b"GET /health HTTP/1.1\r\nhost: headway\r\nconnection: close\r\n\r\n")
                    return (await reader.readline()).startswith(b"HTTP/1.1 200")
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
        except (OSError, TimeoutError):
            return False

    async def _keep_running(self) -> None:
        score = 0.0
        while True:
            began = self._clock.monotonic()
            try:
                if self._process is None:
                    self._process = self._spawn()
                ended = str(await self._end_of(self._process))
            except OSError as error:
                ended = f"cannot be started: {error}"
            self._process = None
            score = backoff.score_after_crash(score, self._clock.monotonic() - began)
            pause_s = backoff.delay_s(score)
            log.error("the job server %s; started again in %g s (see %s)", ended, pause_s, log_file(self._home))
            await self._clock.sleep(pause_s)

    async def _end_of(self, process: ReplicaProcess) -> Exit:
        """How ``process`` ended, by itself or because it did not answer any more."""
        ended = asyncio.ensure_future(process.wait())
        silent = 0
        try:
            while silent < SILENT_LOOKS:
                looked = asyncio.ensure_future(self._clock.sleep(LOOK_S))
                await asyncio.wait({ended, looked}, return_when=asyncio.FIRST_COMPLETED)
                looked.cancel()
                if ended.done():
                    return ended.result()
                silent = 0 if await self._answers() else silent + 1
            log.error("the job server (pid %d) does not answer and is killed", process.pid)
            process.kill()
            return await ended
        finally:
            ended.cancel()


async def end_job_servers(home: Path) -> bool:
    """End every job server of ``home`` without a control plane; whether there was one."""
    processes = _all_of(home)
    await asyncio.gather(*(_end(process) for process in processes))
    for process in processes:
        process.close()
    return bool(processes)


def quiesce_job_servers(home: Path) -> None:
    """As :meth:`LocalJobServer.quiesce`, without a control plane."""
    for process in _all_of(home):
        process.send(signal.SIGUSR1)
        process.close()


def _all_of(home: Path) -> list[ReplicaProcess]:
    found = (ReplicaProcess.adopt(one.pid, one.start_ticks, _nothing) for one in find_job_servers(home.resolve()))
    return [process for process in found if process is not None]


async def _end(process: ReplicaProcess) -> None:
    process.send(signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(GRACE_S):
            await process.wait()
            return
    process.kill()
    await process.wait()


def _nothing() -> None:
    """Its end is awaited, not told."""
