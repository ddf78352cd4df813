"""LocalScalingFunctions: users' scaling functions, each in a process of its own that is watched while it answers.

A process is started when its function is first asked, and asked again and again after that. It is killed when it takes
longer than it may, needs more memory than it may, or says what is no answer; the next call starts another one, after a
pause that grows while that goes on (:mod:`headway.adapters.local.backoff`). An exception in the function is an answer
of a kind and costs the process nothing. One that has not been asked for a while is ended.

What the function prints comes over the process's stderr into this process's log, so much of it and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from headway.adapters.local import backoff
from headway.adapters.local.launch import INHERITED, Launcher
from headway.adapters.local.memory_limit import prefer_as_victim
from headway.adapters.local.process import Exit
from headway.domain import quantities
from headway.domain.errors import SignalLost
from headway.domain.replicas import THREAD_VARIABLES
from headway.domain.scaling_spec import PythonTrigger
from headway.ports.clock import Clock

log = logging.getLogger(__name__)

START_S: Final = 20.0
"""For a process to start and to import the function."""
IDLE_PERIODS: Final = 4
"""A process that was not asked for this many of its trigger's intervals is ended; at least :data:`IDLE_LEAST_S`."""
IDLE_LEAST_S: Final = 60.0
MAX_ANSWER_BYTES: Final = 64 * 1024
LOGGED_LINES: Final = 50
"""Of what is printed, for each call."""
LOGGED_CHARS: Final = 500
MOST: Final = 1000


@dataclass(frozen=True, slots=True)
class _Orders:
    """What a process is started with; when that changes it is another process."""

    python: str
    bundle: Path
    entrypoint: str
    memory_bytes: int


class LocalScalingFunctions:
    """The ``ScalingFunctions`` port on Linux processes.

    ``home`` is Headway's home; ``server_env`` the environment of which functions inherit what replicas inherit.
    """

    def __init__(self, home: Path, *, clock: Clock, server_env: Mapping[str, str]) -> None:
        self._launcher = Launcher(home.resolve(), {}, None)
        self._clock = clock
        self._env = {n: v for n, v in server_env.items() if n in INHERITED or n.startswith("LC_")}
        self._env |= dict.fromkeys(THREAD_VARIABLES, "1")
        self._env |= {"PYTHONUNBUFFERED": "1", "PYTHONPATH": str(self._launcher.library)}
        self._functions: dict[tuple[str, str, str], _Function] = {}
        self._functions_may_start = False
        """What they import of Headway is where they look for it."""
        self._closed = False

    async def call(
        self,
        model: str,
        version: str,
        python: str,
        bundle: Path,
        trigger: PythonTrigger,
        context: Mapping[str, Any],
    ) -> float:
        """See the port."""
        if self._closed:
            raise SignalLost("scaling functions are not run any more: this process is ending")
        key = (model, version, trigger.entrypoint)
        function = self._functions.get(key)
        if function is None:
            name = f"{trigger.entrypoint} of {model} {version}"
            function = self._functions[key] = _Function(name, self._clock, self._env)
        try:
            line = json.dumps(dict(context), allow_nan=False).encode() + b"\n"
        except (TypeError, ValueError) as error:
            raise SignalLost(f"{function.name}: its context is no JSON: {error}") from error
        orders = _Orders(python, bundle, trigger.entrypoint, quantities.byte_count(trigger.memory))
        if not self._functions_may_start:
            try:
                self._launcher.prepare()
            except OSError as error:
                raise SignalLost(f"{function.name} cannot be started: {error}") from error
            self._functions_may_start = True
        idle_s = max(IDLE_LEAST_S, IDLE_PERIODS * quantities.seconds(trigger.every))
        return await function.call(orders, line, quantities.seconds(trigger.timeout), idle_s)

    async def close(self) -> None:
        """See the port."""
        self._closed = True
        functions, self._functions = self._functions, {}
        await asyncio.gather(*(function.close() for function in functions.values()))


class _Function:
    """One function's process, while there is one."""

    def __init__(self, name: str, clock: Clock, env: Mapping[str, str]) -> None:
        self.name = name
        self._clock = clock
        self._env = dict(env)
        self._turn = asyncio.Lock()
        self._running: _Running | None = None
        self._orders: _Orders | None = None
        self._crashes = 0.0
        self._not_before = 0.0
        self._reason = ""
        self._idle: asyncio.Task[None] | None = None
        self._closed = False

    async def call(self, orders: _Orders, line: bytes, timeout_s: float, idle_s: float) -> float:
        """One answer, from a process that is started if need be. Raises ``SignalLost``."""
        async with self._turn:
            self._forget_idle()
            if orders != self._orders:
                await self._end()
                self._orders, self._crashes, self._not_before = orders, 0.0, 0.0
            try:
                running = self._running or await self._start(orders)
                value = await self._ask(running, line, timeout_s)
                self._crashes = 0.0
                return value
            finally:
                if self._running is not None and self._running.intact:
                    self._idle = asyncio.create_task(self._end_when_idle(idle_s), name=f"idle {self.name}")
                else:  # cancelled too: its answer would be taken for that to the next question
                    await asyncio.shield(self._end())

    async def close(self) -> None:
        """End the process."""
        self._closed = True
        self._forget_idle()
        await self._end()

    async def _start(self, orders: _Orders) -> _Running:
        wait_s = self._not_before - self._clock.monotonic()
        if wait_s > 0:
            raise SignalLost(f"{self._reason}; tried again in {math.ceil(wait_s)} s")
        if self._closed:
            raise SignalLost(f"{self.name} is not run any more: this process is ending")
        argv = [orders.python, "-m", "headway.server.scaling_function", orders.entrypoint, str(orders.bundle)]
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                str(orders.memory_bytes),
                str(os.getpid()),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._env,
                cwd=orders.bundle,
                start_new_session=True,
                limit=MAX_ANSWER_BYTES,
            )
        except OSError as error:
            raise self._crashed(f"cannot be started: {error}") from error
        self._running = running = _Running(process, self.name)
        prefer_as_victim(process.pid)
        answer = await self._exchange(running, None, START_S, "was not imported")
        if answer.get("ready") is not True:
            raise self._crashed(f"answered {str(answer)[:100]} before it was asked")
        running.intact = True
        return running

    async def _ask(self, running: _Running, line: bytes, timeout_s: float) -> float:
        running.intact = False
        running.quota = LOGGED_LINES
        answer = await self._exchange(running, line, timeout_s, "did not answer")
        value = answer.get("value")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= MOST:  # NaN neither
            raise self._crashed(f"answered {str(answer)[:100]}")
        running.intact = True
        return float(value)

    async def _exchange(self, running: _Running, line: bytes | None, within_s: float, what: str) -> dict[str, Any]:
        """Send ``line``, if any, and read one. An error that the user's code made is raised as ``SignalLost``."""
        try:
            async with asyncio.timeout(within_s):
                raw = await running.exchange(line)
        except TimeoutError:
            raise self._crashed(f"{what} within {within_s:g} s; its process was killed") from None
        except ValueError:
            raise self._crashed(f"answered more than {MAX_ANSWER_BYTES} bytes") from None
        if not raw.endswith(b"\n"):
            raise self._crashed(f"has no process any more: it {await running.ended()}")
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise self._crashed(f"answered what is no answer: {raw[:100]!r}")
        if answer.get("out_of_memory"):
            assert self._orders is not None
            raise self._crashed(
                f"needs more memory than {quantities.show_bytes(self._orders.memory_bytes)}",
                hint="raise memory of the trigger, or keep less",
            )
        if "error" in answer:
            if line is None:
                raise self._crashed(str(answer["error"]), answer.get("where"), answer.get("hint"))
            running.intact = True
            raise SignalLost(f"{self.name}: {answer['error']}", where=answer.get("where"), hint=answer.get("hint"))
        return answer

    def _crashed(self, what: str, where: str | None = None, hint: str | None = None) -> SignalLost:
        """The error for a process that has to go, and the time before which there is no other."""
        self._crashes = backoff.score_after_crash(self._crashes, 0.0)
        self._not_before = self._clock.monotonic() + backoff.delay_s(self._crashes)
        lost = SignalLost(f"{self.name} {what}", where=where, hint=hint)
        self._reason = str(lost)
        log.warning("scaling function %s", lost)
        return lost

    async def _end(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            await running.kill()

    def _forget_idle(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    async def _end_when_idle(self, idle_s: float) -> None:
        await self._clock.sleep(idle_s)
        self._idle = None
        async with self._turn:
            await self._end()


class _Running:
    """A living process and the task that reads what it prints."""

    def __init__(self, process: asyncio.subprocess.Process, name: str) -> None:
        self._process = process
        self._name = name
        self.intact = False
        """It waits for a question."""
        self.quota = LOGGED_LINES
        """Lines that may still be logged."""
        self._reading = asyncio.create_task(self._read_prints(), name=f"prints of {name}")

    async def exchange(self, line: bytes | None) -> bytes:
        """One line back. ``ValueError``: it is too long."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        if line is not None:
            with contextlib.suppress(ConnectionError):  # it has ended: then there is no answer either
                stdin.write(line)
                await stdin.drain()
        return await stdout.readline()

    async def ended(self) -> str:
        """How it did, in words; it is killed if it has only closed its end."""
        await self.kill(grace_s=1.0)
        code = self._process.returncode
        return str(Exit() if code is None else Exit(code=code) if code >= 0 else Exit(signal=-code))

    async def kill(self, grace_s: float = 0.0) -> None:
        """End it and whatever it has started in its group; nothing is left when this returns."""
        if grace_s:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._process.wait()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if not grace_s:
            self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        # Its pipes too: whatever left the group may hold the other ends.
        self._process._transport.close()  # type: ignore[attr-defined]
        await self._process.wait()

    async def _read_prints(self) -> None:
        stderr = self._process.stderr
        assert stderr is not None
        rest = b""
        while chunk := await stderr.read(65536):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._log(line)
            if len(rest) > LOGGED_CHARS:
                self._log(rest)
                rest = b""
        if rest:
            self._log(rest)

    def _log(self, line: bytes) -> None:
        self.quota -= 1
        if self.quota >= 0:
            log.info("%s: %s", self._name, line[:LOGGED_CHARS].decode(errors="backslashreplace").rstrip())
        elif self.quota == -1:
            log.info("%s: it prints more than %d lines; the rest is left out", self._name, LOGGED_LINES)
