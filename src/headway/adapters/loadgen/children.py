"""Children: the processes of a load generator, which never outlive it.

Each is the head of a session of its own, so that Ctrl-C reaches this process alone, which then ends them in order.
"""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

GRACE_S = 5.0
"""From SIGTERM to SIGKILL."""


async def first_of(*waits: Coroutine[Any, Any, object], raising: bool = False) -> None:
    """Until one of them is over; the others are canceled. ``raising``: what the first one raised is raised here."""
    tasks = [asyncio.create_task(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if raising and tasks[0].done():
            tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Children:
    """Use as an asynchronous context manager: at its end no process is left."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._processes: list[Process] = []
        self._own_codes: list[int] | None = None
        """Of those that had ended before they were asked to."""

    async def __aenter__(self) -> Children:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await self.end()

    async def start(self, command: Sequence[str], env: Mapping[str, str]) -> Process:
        """A child whose output goes to the log."""
        with self._log.open("ab") as stream:
            process = await asyncio.create_subprocess_exec(
                *command, env={**os.environ, **env}, stdin=DEVNULL, stdout=stream, stderr=stream, start_new_session=True
            )
        self._processes.append(process)
        return process

    def terminate(self) -> None:
        """Ask all to end."""
        if self._own_codes is None:
            self._own_codes = self.codes()
        for process in self._processes:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)

    async def end(self) -> None:
        """Ask all to end, and make them. Idempotent."""
        self.terminate()
        waiting = [asyncio.create_task(process.wait()) for process in self._processes]
        if waiting:
            await asyncio.wait(waiting, timeout=GRACE_S)
        for process in self._processes:
            # The group, whatever became of its head: a child of a child is ours too.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        await asyncio.gather(*waiting)

    async def wait(self) -> None:
        """Until all have ended, or one has failed."""
        waiting = {asyncio.create_task(process.wait()) for process in self._processes}
        try:
            while waiting and not any(self.codes()):
                _, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def wait_first(self) -> None:
        """Until the one that was started first has ended, or any other has failed."""
        await first_of(self._processes[0].wait(), self.wait())

    def codes(self) -> list[int]:
        """Exit codes of those that have ended."""
        return [process.returncode for process in self._processes if process.returncode is not None]

    def ends(self) -> str:
        """How those ended that did not end well: ``exit code 1, signal 9``; each once, first by themselves."""
        codes = sorted({code for code in self._own_codes or () if code} or {code for code in self.codes() if code})
        return ", ".join(f"signal {-code}" if code < 0 else f"exit code {code}" for code in codes)

    def said(self, lines: int = 15) -> str:
        """The last lines of the log."""
        with suppress(OSError):
            return "\n".join(self._log.read_text("utf-8", "replace").splitlines()[-lines:])
        return ""
