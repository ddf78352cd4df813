"""JobWorker: takes jobs from the job server and has the application carry them out, as it does requests.

Jobs run on the predicting thread, never on the loop, so that reports go on while the model works. What is claimed and
not begun waits here, not in the application's queue: it can be given back at any moment.

A call that has to end (its time is over, its job was canceled, its lease is lost) and does not, can only be ended with
the process: the job server is told first, then this process leaves with :data:`~headway.server.process_end.EXIT_JOB`
and whoever looks after it starts a fresh one. A call that keeps even this loop from running is ended by the kernel
(:mod:`headway.server.job_alarm`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from time import monotonic
from typing import Any, Final

from headway.domain.errors import HeadwayError, JobTimedOut, WorkerLost
from headway.domain.job_wire import CLAIM, ClaimAnswer, ClaimRequest, WireOutcome
from headway.domain.jobs import BeatVerdict
from headway.domain.query_segments import CLIENT_CLOSED
from headway.server.app import Application
from headway.server.config import FailureReport, ServerConfig
from headway.server.failures import place_now, well_formed
from headway.server.http import Response
from headway.server.job_alarm import Alarm
from headway.server.job_claims import HELD_S, ClaimSize
from headway.server.job_link import Link
from headway.server.job_reports import JobReporter, pause_s
from headway.server.job_run import JobExecution, JobRun
from headway.server.placement import Placement
from headway.server.process_end import EXIT_BROKEN, EXIT_JOB

log = logging.getLogger("headway.server")

WAIT_S: Final = 20.0
"""How long a claim waits for work."""
CANCEL_GRACE_S: Final = 5.0
"""From being told that nobody wants the result to the end of the process."""
LOOK_S: Final = 0.1
FLUSH_S: Final = 2.0
"""For the job server to hear what is left to tell, when the process has to end."""
LAST_CLAIM_S: Final = 1.0
"""For a claim under way to come back, when there are to be no more."""
MODEL_MODULE: Final = "headway.jobs"


class JobWorker:
    """``start`` once, then ``drain``, on the loop. ``end`` ends the process with a code, and a report of why."""

    def __init__(
        self,
        config: ServerConfig,
        app: Application,
        execution: JobExecution,
        claims: Link,
        reports: Link,
        alarm: Alarm,
        end: Callable[[int, FailureReport | None], None],
    ) -> None:
        self._config = config
        self._app = app
        self._execution = execution
        self._end = end
        self._claim_link = claims
        self._report_link = reports
        self._name = config.worker_name or config.replica_id
        self._loop = asyncio.get_running_loop()
        self._runs: dict[tuple[str, int], JobRun] = {}
        """All jobs in hand, by id and token."""
        self._queue: deque[JobRun] = deque()
        """Of them, those that are not begun."""
        self._aside: JobRun | None = None
        """One that has to run with nothing else in hand, until it has ended."""
        self._called: set[JobRun] = set()
        """Those that the application has."""
        self._called_at = 0.0
        self._size = ClaimSize()
        self._room = asyncio.Event()
        self._reporter = JobReporter(reports, self._name, self._runs, self._heard)
        self._reporter.on_told = self._go_on
        self._feeding = False
        self._draining = False
        self._over_at = float("inf")
        self._leaving = False
        self._look_due = False
        self._tasks: list[asyncio.Task[None]] = []
        self.ended: dict[str, int] = dict.fromkeys(("succeeded", "failed", "canceled", "given_back", "dropped"), 0)
        execution.alarm = alarm
        app.predictor.placement = Placement(elsewhere=True)
        app.telemetry.gauges.append(
            ("headway_worker_jobs_held", "Jobs claimed and not ended.", lambda: len(self._runs))
        )
        app.telemetry.counters.append(("headway_worker_jobs_total", "Jobs that ended in this worker.", self._samples))

    def start(self) -> None:
        """Begin to ask for jobs."""
        log.info("takes jobs from %s as %s", self._config.job_server, self._name)
        self._tasks = [
            self._loop.create_task(self._claim(), name="claims"),
            self._loop.create_task(self._reporter.run(), name="reports"),
        ]
        for task in self._tasks:
            task.add_done_callback(self._broken)

    def _broken(self, task: asyncio.Task[None]) -> None:
        """A worker that claims but does not report, or the other way round, would hold jobs that nobody carries out."""
        error = None if task.cancelled() else task.exception()
        if error is None or self._leaving:
            return
        self._leaving = True
        log.error("the worker's %s broke off; this process ends", task.get_name(), exc_info=error)
        text = f"the worker's {task.get_name()} broke off: {type(error).__name__}: {well_formed(str(error))[:500]}"
        self._end(EXIT_BROKEN, FailureReport(stage="serve", code=WorkerLost.code, message=text))

    def hurry(self) -> None:
        """Take the grace of :meth:`drain` for over."""
        self._over_at = 0.0
        self._room.set()

    async def drain(self) -> None:
        """Take no more; give back what is not begun, finish what is, or give it back before the grace is over."""
        self._draining = True
        grace_s = self._config.job_grace_s
        self._over_at = monotonic() + max(0.0, grace_s - min(FLUSH_S, grace_s / 4))
        self._give_back_waiting()
        self._room.set()
        if self._tasks:
            self._claim_link.hush()
            await asyncio.wait(self._tasks[:1], timeout=LAST_CLAIM_S)
            self._tasks[0].cancel()
        while self._called and (left_s := self._over_at - monotonic()) > 0:
            self._room.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._room.wait()
        if self._called:
            log.warning("the grace is over; what still runs is given back")
            for run in tuple(self._called):
                self._tell(run, run.given_back(), "given_back", CLIENT_CLOSED)
            await self._leave(0, None)
        await self._reporter.drained(max(FLUSH_S, self._over_at - monotonic()))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._claim_link.close()
        self._report_link.close()

    # -- jobs that come ----------------------------------------------------------------------------

    async def _claim(self) -> None:
        failures = 0
        while not self._draining:
            most = 0 if self._aside is not None or self._reporter.full else self._size.most(len(self._runs))
            if most == 0 or self._leaving:
                self._room.clear()
                await self._room.wait()
                continue
            began = monotonic()
            question = ClaimRequest(
                worker=self._name, model=self._config.model, version=self._config.version, most=most, wait_s=WAIT_S
            )
            try:
                answer = await self._claim_link.ask(CLAIM, question, ClaimAnswer, WAIT_S + 10)
            except OSError as error:
                failures += 1
                if failures == 1 and not self._draining:
                    log.warning("no jobs from the job server (%s); it is asked again", error)
                if not self._draining:
                    await asyncio.sleep(pause_s(failures))
                continue
            failures = 0
            self._take(answer)
            if not answer.jobs and monotonic() - began < 1.0 and not self._draining:
                await asyncio.sleep(pause_s(1))  # it is about to stop

    def _take(self, answer: ClaimAnswer) -> None:
        now = monotonic()
        self._reporter.lease_s = answer.lease_s
        runs = [JobRun(job, now, self._settled, self._told) for job in answer.jobs]
        for run in runs:
            self._reporter.hold(run, now)
        busy = bool(self._called) and now - self._called_at > HELD_S
        if self._draining or self._leaving or busy or self._aside is not None:
            self._give_back(runs)
            return
        suspects = [run for run in runs if run.suspect]
        self._queue.extend(run for run in runs if not run.suspect)
        if suspects:
            self._size.one_at_a_time()
            self._aside = suspects[0]
            self._give_back(suspects[1:])
        self._go_on()
        self._look_later()

    def _go_on(self) -> None:
        """Begin the next jobs, if none are under way."""
        if self._feeding:
            return
        self._feeding = True
        try:
            while not self._called and not self._leaving:
                batch = self._next()
                if not batch:
                    break
                now = self._called_at = monotonic()
                self._called.update(batch)
                for run in batch:
                    request = run.begin(now)
                    response = self._app.handle(request)
                    if response is not None:
                        run.settle(request, response)
        finally:
            self._feeding = False
        self._room.set()

    def _next(self) -> list[JobRun]:
        if self._queue:
            # A model that speaks of one job at a time is given one at a time.
            alone = not self._size.several or not self._execution.model.together or MODEL_MODULE in sys.modules
            return [self._queue.popleft() for _ in range(1 if alone else len(self._queue))]
        aside = self._aside
        return [aside] if aside is not None and self._reporter.idle and len(self._runs) == 1 else []

    # -- jobs that go ------------------------------------------------------------------------------

    def _settled(self, run: JobRun, response: Response) -> None:
        """The application has answered."""
        call = run.call
        if call is not None and call.job_s is not None:
            self._size.observe(call.job_s)
            call.job_s = None
        if run.verdict == "lost":
            self._forget(run, "dropped")
        elif run.verdict == "cancel":
            self._tell(run, run.canceled(), "canceled")
        else:
            outcome = run.outcome(response)
            self._tell(run, outcome, "succeeded" if outcome.error is None else "failed")
        if not self._called:
            self._go_on()

    def _tell(self, run: JobRun, outcome: WireOutcome, how: str, status: int | None = None) -> None:
        """Report ``outcome``; with ``status`` the query log has it too, which no answer of the application's does."""
        if self._forget(run, how):
            self._reporter.add(outcome)
            if status is not None and run.request is not None:
                self._app.unhandled(run.request, status, 0)

    def _forget(self, run: JobRun, how: str) -> bool:
        self._called.discard(run)
        if run is self._aside:
            self._aside = None
        known = self._runs.pop((run.job.job_id, run.job.token), None) is not None
        if known:
            self.ended[how] += 1
            self._room.set()
        return known

    def _give_back(self, runs: Iterable[JobRun]) -> None:
        for run in runs:
            self._tell(run, run.given_back(), "given_back")

    def _give_back_waiting(self) -> None:
        self._give_back([run for run in self._runs.values() if run not in self._called])
        self._queue.clear()

    # -- what others say ---------------------------------------------------------------------------

    def _heard(self, run: JobRun, verdict: BeatVerdict) -> None:
        if verdict == "go_on" or run.verdict is not None:
            return
        if run in self._called:
            run.verdict, run.stop_at = verdict, monotonic() + CANCEL_GRACE_S
            if run.call is not None:
                together = [other for other in self._called if other.call is run.call]
                run.call.canceled = all(other.verdict is not None for other in together)
            return
        if run is not self._aside:
            self._queue.remove(run)
        if verdict == "cancel":
            self._tell(run, run.canceled(), "canceled")
        else:
            self._forget(run, "dropped")

    def _told(self) -> None:
        """The model has spoken of its progress; on a thread of its own."""
        self._loop.call_soon_threadsafe(self._news)

    def _news(self) -> None:
        for run in self._called:
            if run.call is not None and run.call.spoke:
                self._reporter.news(run)

    # -- time --------------------------------------------------------------------------------------

    def _look_later(self) -> None:
        if not self._look_due and self._runs:
            self._look_due = True
            self._loop.call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._look_due = False
        if self._leaving:
            return
        now = monotonic()
        late = [run for run in self._called if run.deadline_at <= now and run.verdict is None]
        stopped = next((run for run in self._called if run.stop_at is not None and run.stop_at <= now), None)
        if late:
            self._time_out(late)
        elif stopped is not None:
            self._stop(stopped)
        elif self._called and now - self._called_at > HELD_S and len(self._runs) > len(self._called):
            self._size.one_at_a_time()  # longer than others were: what waits behind it is for others to take
            self._give_back_waiting()
        self._look_later()

    def _place(self, run: JobRun) -> str | None:
        """Where the model is with ``run``."""
        return None if run.call is None else place_now(run.call.thread, Path(self._config.bundle_path))

    def _time_out(self, late: list[JobRun]) -> None:
        where = self._place(late[0])
        for run in late:
            error = JobTimedOut(
                f"the attempt took longer than {run.job.timeout_s:.4g} s, the time limit; its worker was ended",
                where=where,
                hint="raise spec.jobs.timeout if it really takes longer",
            )
            self._tell(run, run.failed(error), "failed", error.status)
        self._leave_soon(error, f"job {late[0].job.job_id}: {error.message}")

    def _stop(self, run: JobRun) -> None:
        what = "was canceled" if run.verdict == "cancel" else "is no longer this worker's"
        where = self._place(run)
        text = f"job {run.job.job_id} {what}, and predict has not returned within {CANCEL_GRACE_S:g} s"
        for other in tuple(self._called):
            if other.verdict == "cancel":
                self._tell(other, other.canceled(), "canceled", CLIENT_CLOSED)
            elif other.verdict == "lost":
                self._forget(other, "dropped")
        self._leave_soon(WorkerLost(text, where=where, hint="headway.jobs.canceled() tells a model to return"), text)

    def _leave_soon(self, error: HeadwayError, text: str) -> None:
        """End this process because of its present call."""
        self._leaving = True
        lost = WorkerLost("its worker was ended because of another job in the same call of predict")
        for other in tuple(self._called):
            if other.call is None:  # the application has it, the model has not
                self._tell(other, other.given_back(), "given_back", CLIENT_CLOSED)
            else:
                self._tell(other, other.failed(lost), "failed", lost.status)
        self._give_back_waiting()
        report = FailureReport(stage="job", code=error.code, message=text, where=error.where, hint=error.hint)
        self._tasks.append(self._loop.create_task(self._leave(EXIT_JOB, report), name="leave"))

    async def _leave(self, code: int, report: FailureReport | None) -> None:
        self._leaving = True
        await self._reporter.drained(FLUSH_S)
        if report is not None:
            log.warning(
                "%s; this process ends%s", report.message, f" (it was at {report.where})" if report.where else ""
            )
        self._end(code, report)

    def _samples(self) -> Iterable[tuple[Any, float]]:
        return [((("outcome", how),), count) for how, count in self.ended.items()]
