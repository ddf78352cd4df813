"""Probes: Kubernetes' startup, readiness and liveness rules, asked over HTTP/1.1 on a local socket.

The rules are those of the kubelet (*Pod Lifecycle: Container probes*): a status from 200 to 399 is a success;
a verdict needs ``success_threshold`` or ``failure_threshold`` equal answers in a row; nothing else is probed
until the startup probe has passed; delays count from the start of the process. Unlike the kubelet, a redirect
is not followed, it just counts as a success.

A replica that is ready after 0.7 s should not be noticed after 10: until it is ready it is asked every 0.1 s
as well (every 2 % of its age once that is more, at most 1 s). Such an early answer counts when it is good
and is forgotten when it is bad, so the startup budget stays ``failure_threshold * period_s``.

One probe is one connection and one small write, about 0.2 ms; the replicas' probes are spread over the period
so that fifty idle models are a trickle and not a beat.
"""

from __future__ import annotations

import asyncio
import errno
import urllib.parse
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from headway.domain.replicas import Probe, Probes
from headway.ports.clock import Clock

EARLY_S = 0.1
EARLY_LONGEST_S = 1.0
EARLY_SHARE = 0.02
_STATUS_LINE_BYTES = 1024

_OWN_TROUBLE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS})


@dataclass(frozen=True, slots=True)
class Answer:
    """``good`` None: it could not be asked, for reasons of our own. That is no answer, and changes nothing."""

    good: bool | None
    problem: str = ""


GOOD = Answer(True)
Ask = Callable[[Probe], Awaitable[Answer]]
"""Asks once."""


@dataclass(slots=True)
class Tally:
    """Counts equal answers in a row."""

    success_threshold: int
    failure_threshold: int
    successes: int = 0
    failures: int = 0

    def add(self, success: bool | None) -> bool | None:
        """True: passing. False: failing. None: not enough in a row to say anything new."""
        if success is None:
            return None
        if success:
            self.successes, self.failures = self.successes + 1, 0
            return True if self.successes >= self.success_threshold else None
        self.successes, self.failures = 0, self.failures + 1
        return False if self.failures >= self.failure_threshold else None


class Prober:
    """Probes one process from its start to its end and tells ``on_change`` of every new verdict.

    ``age_s`` is how long the process runs already and ``ready`` what was known of it, for an adopted one
    (which has passed its startup probe when it was ready, or ``started``). ``spread`` in [0, 1) says where in
    the period this replica's probes fall.
    """

    def __init__(
        self,
        probes: Probes,
        ask: Ask,
        clock: Clock,
        on_change: Callable[[], None],
        *,
        spread: float,
        age_s: float = 0.0,
        started: bool = False,
        ready: bool = False,
    ) -> None:
        self.ready = ready
        self.startup_problem: str | None = None
        """Set when the startup probe has failed: what its last answer was. Nothing is probed after that."""
        self.liveness_problem: str | None = None
        """Likewise for liveness."""
        self._probes = probes
        self._ask = ask
        self._clock = clock
        self._on_change = on_change
        self._spread = spread
        self._started = started or ready
        self._begin = clock.monotonic() - age_s
        self._now = asyncio.Event()

    async def run(self) -> None:
        """Until cancelled, or until a verdict is in after which the process has to go."""
        if not self._started:
            await self._watch_startup()
        if self.startup_problem is None:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._watch_readiness())
                group.create_task(self._watch_liveness())

    def ask_now(self) -> None:
        """It serves its socket, so somebody says: no need to wait for the next question."""
        self._now.set()

    async def _watch_startup(self) -> None:
        probe = self._probes.startup
        tally = Tally(probe.success_threshold, probe.failure_threshold)
        await self._until(self._begin + probe.initial_delay_s)
        # The first period has to pass before a failure counts: budget = failure_threshold * period_s.
        due = max(self._begin + probe.initial_delay_s, self._clock.monotonic() - probe.period_s) + probe.period_s
        while True:
            counted = self._clock.monotonic() >= due
            if counted:
                due += probe.period_s
            answer = await self._ask(probe)
            if answer.good is False and not counted:
                tally.successes = 0
            else:
                verdict = tally.add(answer.good)
                if verdict is False:
                    self.startup_problem = answer.problem
                    self._on_change()
                if verdict is not None:
                    return
            await self._until_news(min(due, self._clock.monotonic() + self._early_pause()))

    async def _watch_readiness(self) -> None:
        probe = self._probes.readiness
        tally = Tally(probe.success_threshold, probe.failure_threshold)
        known = self.ready
        await self._until(self._begin + probe.initial_delay_s)
        while True:
            verdict = tally.add((await self._ask(probe)).good)
            if verdict is not None and verdict != self.ready:
                self.ready = verdict
                self._on_change()
                if not known:
                    known = True
                    await self._clock.sleep(self._spread * probe.period_s)
                    continue
            await self._clock.sleep(probe.period_s if known else min(probe.period_s, self._early_pause()))

    async def _watch_liveness(self) -> None:
        probe = self._probes.liveness
        tally = Tally(probe.success_threshold, probe.failure_threshold)
        await self._until(self._begin + probe.initial_delay_s)
        await self._clock.sleep(self._spread * probe.period_s)
        while True:
            answer = await self._ask(probe)
            if tally.add(answer.good) is False:
                self.liveness_problem = answer.problem
                self._on_change()
                return
            await self._clock.sleep(probe.period_s)

    def _early_pause(self) -> float:
        age = self._clock.monotonic() - self._begin
        return max(EARLY_S, min(EARLY_LONGEST_S, EARLY_SHARE * age))

    async def _until_news(self, moment: float) -> None:
        """As :meth:`_until`, but no longer than until :meth:`ask_now`."""
        pause = asyncio.ensure_future(self._until(moment))
        news = asyncio.ensure_future(self._now.wait())
        try:
            await asyncio.wait({pause, news}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            pause.cancel()
            news.cancel()
            await asyncio.gather(pause, news, return_exceptions=True)
            self._now.clear()

    async def _until(self, moment: float) -> None:
        await self._clock.sleep(max(0.0, moment - self._clock.monotonic()))


class SocketProbe:
    """Asks over a Unix socket: ``GET`` on a fresh connection, of whose answer only the status counts."""

    def __init__(self, socket: str) -> None:
        self._socket = socket

    async def ask(self, probe: Probe) -> Answer:
        """Good is a status from 200 to 399 within the probe's timeout. Never raises."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[int] = loop.create_future()
        path = urllib.parse.quote(probe.path, safe="/?&=%:@,;+~!$'()*-._")
        request = f"GET {path} HTTP/1.1\r\nHost: replica\r\nUser-Agent: headway-probe\r\nConnection: close\r\n\r\n"
        transport: asyncio.Transport | None = None
        try:
            async with asyncio.timeout(probe.timeout_s):
                transport, _ = await loop.create_unix_connection(lambda: _StatusLine(answer), self._socket)
                transport.write(request.encode())
                status = await answer
        except TimeoutError:
            return Answer(False, f"no answer from {probe.path} within {probe.timeout_s:g} s")
        except (OSError, EOFError) as error:
            own = isinstance(error, OSError) and error.errno in _OWN_TROUBLE
            return Answer(None if own else False, f"no answer from {probe.path}: {error}")
        finally:
            answer.cancel()
            if transport is not None:
                transport.abort()
        return GOOD if 200 <= status < 400 else Answer(False, f"{probe.path} answered {status}")


class _StatusLine(asyncio.Protocol):
    """Sets ``answer`` to the status code of what comes in."""

    def __init__(self, answer: asyncio.Future[int]) -> None:
        self._answer = answer
        self._seen = b""

    def data_received(self, data: bytes) -> None:
        if self._answer.done():
            return
        self._seen += data
        line, ended, _ = self._seen.partition(b"\r\n")
        if ended or len(line) > _STATUS_LINE_BYTES:
            words = line.split(b" ", 2)
            if ended and len(words) >= 2 and words[0].startswith(b"HTTP/1.") and words[1].isdigit():
                self._answer.set_result(int(words[1]))
            else:
                self._answer.set_exception(OSError("the answer is not HTTP/1.1"))

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answer.done():
            self._answer.set_exception(exc or EOFError("the connection was closed before an answer"))
