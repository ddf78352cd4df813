"""JobReporter: tells the job server which jobs are still worked at and how others ended, until it has heard.

One report is under way at a time, and whatever happens meanwhile goes into the next one: few reports when jobs are
many, and none waits when they are few. While the job server is away outcomes are kept, and told when it is back: they
count unless somebody else has got the job meanwhile, which only the job server can say.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Final

from headway.domain.job_wire import REPORT, Report, ReportAnswer, WireOutcome
from headway.domain.jobs import BeatVerdict
from headway.server.job_link import Link
from headway.server.job_run import JobRun

log = logging.getLogger("headway.server")

REPORT_BYTES: Final = 16 * 1024 * 1024
"""Of results in one report; a larger one goes alone."""
KEPT_BYTES: Final = 32 * 1024 * 1024
"""Of results that wait to be told; beyond it no more jobs are asked for."""
BEAT_S: Final = 2.0
"""Between two reports of a job, at most: so soon its worker hears that it is to be canceled."""
NEWS_S: Final = 0.5
"""Between two reports of its progress, at least."""
ANSWER_S: Final = 10.0
LONGEST_PAUSE_S: Final = 2.0


def pause_s(failures: int) -> float:
    """After so many failures in a row: up to 0.1, 0.2, 0.4 … 2 s, at random so that workers do not come together."""
    return min(LONGEST_PAUSE_S, 0.1 * 2.0 ** min(failures - 1, 10)) * random.uniform(0.5, 1.0)  # noqa: S311


class JobReporter:
    """Used on the loop. ``runs`` are the jobs in hand; ``heard`` is told the job server's verdict on each."""

    def __init__(
        self,
        link: Link,
        worker: str,
        runs: dict[tuple[str, int], JobRun],
        heard: Callable[[JobRun, BeatVerdict], None],
    ) -> None:
        self._link = link
        self._worker = worker
        self._runs = runs
        self._heard = heard
        self._outcomes: deque[WireOutcome] = deque()
        self._kept_bytes = 0
        self._wake = asyncio.Event()
        self._told = asyncio.Event()
        self._failures = 0
        self.lease_s = 15.0
        self.refused = 0
        """Outcomes that came too late."""
        self.on_told: Callable[[], None] = _nobody
        """Called when all outcomes are told."""

    @property
    def idle(self) -> bool:
        """Whether the job server knows of everything that has ended."""
        return not self._outcomes

    @property
    def full(self) -> bool:
        """Whether so much waits to be told that there should be no more of it."""
        return self._kept_bytes > KEPT_BYTES

    @property
    def beat_s(self) -> float:
        """Between two reports of a job that goes on."""
        return min(BEAT_S, self.lease_s / 4)

    def add(self, outcome: WireOutcome) -> None:
        """Tell it soon."""
        self._outcomes.append(outcome)
        self._kept_bytes += len(outcome.body)
        self._told.clear()
        self._wake.set()

    def hold(self, run: JobRun, now: float) -> None:
        """``run`` is in hand from now on."""
        run.beat_at = now + self.beat_s
        self._runs[run.job.job_id, run.job.token] = run
        self._wake.set()

    def news(self, run: JobRun) -> None:
        """The model has said how far ``run`` is."""
        run.beat_at = min(run.beat_at, max(monotonic(), run.beaten_at + NEWS_S))
        self._wake.set()

    async def drained(self, within_s: float) -> bool:
        """Wait until every outcome is told; False when that takes longer."""
        try:
            async with asyncio.timeout(within_s):
                while self._outcomes:
                    self._told.clear()
                    await self._told.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await self._until_due()
            try:
                await self._report()
                self._failures = 0
            except OSError as error:
                self._failures += 1
                if self._failures == 1:
                    log.warning("the job server cannot be told (%s); it is tried again, what runs goes on", error)
                await asyncio.sleep(pause_s(self._failures))

    async def _until_due(self) -> None:
        while not self._outcomes:
            self._wake.clear()
            next_at = min((run.beat_at for run in self._runs.values()), default=None)
            if next_at is None:
                await self._wake.wait()
                continue
            left_s = next_at - monotonic()
            if left_s <= 0:
                return
            try:
                async with asyncio.timeout(left_s):
                    await self._wake.wait()
            except TimeoutError:
                return

    async def _report(self) -> None:
        now = monotonic()
        outcomes = self._next_outcomes()
        soon = now + self.beat_s / 4
        beating = [run for run in self._runs.values() if run.beat_at <= soon]
        report = Report(worker=self._worker, beats=[run.beat() for run in beating], outcomes=outcomes)
        answer = await self._link.ask(REPORT, report, ReportAnswer, ANSWER_S)
        if (len(answer.verdicts), len(answer.accepted)) != (len(beating), len(outcomes)):
            raise ConnectionError("it answered for other jobs than it was told of")
        if self._failures:
            log.info("the job server is back")
        for outcome, accepted in zip(outcomes, answer.accepted, strict=True):
            self._outcomes.popleft()
            self._kept_bytes -= len(outcome.body)
            if not accepted:
                self.refused += 1
                log.info("job %s: what became of it was told too late, the lease had ended", outcome.job_id)
        for run, verdict in zip(beating, answer.verdicts, strict=True):
            run.beaten_at, run.beat_at = now, now + self.beat_s
            if (run.job.job_id, run.job.token) in self._runs:
                self._heard(run, verdict)
        if not self._outcomes:
            self._told.set()
            self.on_told()

    def _next_outcomes(self) -> list[WireOutcome]:
        taken, size = list[WireOutcome](), 0
        for outcome in self._outcomes:
            size += len(outcome.body)
            if taken and size > REPORT_BYTES:
                break
            taken.append(outcome)
        return taken


def _nobody() -> None:
    """Nobody wants to know."""
