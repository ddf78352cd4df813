"""Planner: measures a model for a capacity plan, one load after the other.

Replicas are pinned while it works, and scaled as before when it is done, however it ends. A measurement at which the
generator and not the model was the bottleneck, time and again, ends it: no plan is better than one about the generator.
"""

from __future__ import annotations

import asyncio
import math
import statistics
import threading
from array import array
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

import numpy as np

from headway.control.load_test import LoadTester
from headway.domain.errors import HeadwayError, NotReady, PromiseBroken, VerdictRefused
from headway.domain.load_reports import Ending, LoadReport
from headway.domain.load_samples import failed
from headway.domain.load_shapes import LoadShape, rate, users
from headway.planning.course import Course
from headway.planning.measured import Load, Point, Run, Users, promised, size
from headway.planning.plan import Question, counted
from headway.planning.search import Search, Wanted
from headway.ports.clock import Clock
from headway.ports.load_generator import LoadRequest, LoadTarget
from headway.ports.model_watch import ModelWatch

T = TypeVar("T")

READY_S: Final = 180.0
LEAST_REQUESTS: Final = 200
"""In one run; slow models are measured for longer, up to :data:`LONGEST` times as long."""
LONGEST: Final = 6
PAUSES_S: Final = (1.0, 3.0, 10.0, 30.0)
"""Before each further attempt at a run in which the generator fell behind: something else may have had the machine."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long is measured."""

    runs: int
    """Of each load."""
    run_s: float
    warm_s: float
    """Before each run, at its load; not counted."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Step:
    """What the planner is doing, for whoever watches."""

    text: str
    point: Point | None = None
    """What came of it."""
    kept: bool | None = None


class Stopped(Exception):
    """It was told to stop. Not an error of Headway's tree: whoever stopped it knows."""


class Planner:
    """One plan at a time."""

    def __init__(
        self,
        tester: LoadTester,
        watch: ModelWatch,
        clock: Clock,
        target: LoadTarget,
        requests: Sequence[LoadRequest],
        pace: Pace,
        tell: Callable[[Step], None],
    ) -> None:
        self._tester, self._watch, self._clock = tester, watch, clock
        self._target, self._requests, self._pace, self._tell = target, requests, pace, tell
        self._stopped = False
        self._stopping = asyncio.Event()
        self._pinned: int | None = None
        self._seed = pace.seed
        self._unloaded: list[float] = []

    def stop(self) -> None:
        """End it at once; :meth:`run` then raises :class:`Stopped`."""
        self._stopped = True
        self._stopping.set()
        self._tester.stop()

    async def run(self, question: Question) -> dict[str, Any]:
        """Measure, fit, try a prediction, and conclude: the plan's document.

        Raises ``VerdictRefused`` when the generator was the bottleneck, ``NotReady`` when replicas do not come,
        ``PromiseBroken`` when even one user alone is not served as promised, :class:`Stopped`.
        """
        try:
            return await self._run(question)
        finally:
            await asyncio.shield(self._watch.restore())

    async def _run(self, question: Question) -> dict[str, Any]:
        course = Course(question, self._pace.seed)
        while (wanted := await self._wanted(course)) is not None:
            try:
                point, times_s = await self._measure(wanted, question)
            except VerdictRefused as refused:
                if not course.refused():
                    raise
                self._tell(Step(f"it could not be measured, the plan goes on without: {refused.message}"))
                continue
            tried = course.found(point, times_s)
            told = wanted.why if tried is None else f"{wanted.why}: {tried.error:+.0%}"
            self._tell(Step(told, point, course.search.kept(point)))
        if course.search.hopeless():
            raise _broken(course.search)
        return await self._think(course.document)

    async def _wanted(self, course: Course) -> Wanted | None:
        """What to measure next; to know it takes seconds of a core once the search is over."""
        if course.searching:
            return course.wanted()
        if not course.search.hopeless():
            self._tell(Step("fitting queues and the scalability law"))
        return await self._think(course.wanted)

    async def _measure(self, wanted: Wanted, question: Question) -> tuple[Point, list[float]]:
        """The runs, and what single requests took when it was one user alone."""
        await self._pin(wanted.replicas)
        runs: list[Run] = []
        self._unloaded = []
        last: Run | None = None
        for number in range(self._pace.runs):
            told = f"{wanted.replicas} × {_told(wanted.load)}, run {number + 1} of {self._pace.runs}: {wanted.why}"
            self._tell(Step(told))
            last = await self._one(wanted, question, last)
            runs.append(last)
        return Point(wanted.replicas, wanted.load, tuple(runs)), self._unloaded

    async def _pin(self, replicas: int) -> None:
        if self._pinned == replicas:
            return
        self._check()
        self._tell(Step(f"{counted(replicas)}, triggers off"))
        await self._watch.set_replicas(replicas)
        deadline = self._clock.monotonic() + READY_S
        while True:
            look = await self._watch.look()
            if look is not None and look.ready == look.wished == replicas:
                break
            self._check()
            if self._clock.monotonic() > deadline:
                what = f"{counted(replicas)} wished, not ready after {READY_S:.0f} s"
                raise NotReady(what, hint=f"headway status {self._target.model}")
            await self._clock.sleep(0.2)
        self._pinned = replicas

    async def _one(self, wanted: Wanted, question: Question, before: Run | None) -> Run:
        pace = self._pace
        expected = before.rate_per_s if before is not None else size(wanted.load) if not _closed(wanted.load) else None
        run_s = pace.run_s
        if expected:
            run_s = min(max(run_s, LEAST_REQUESTS / expected), LONGEST * run_s)
        for pause_s in (0.0, *PAUSES_S):
            await self._pause(pause_s)
            self._check()
            self._seed += 1
            shape = _shape(wanted.load, pace.warm_s + run_s, self._seed)
            report = await self._tester.run(self._target, shape, self._requests, promises=(question.promise,))
            self._check()
            if report.ending is Ending.FAILED:
                raise HeadwayError(f"the load could not be sent: {'; '.join(report.notes[1:])}")
            if not report.health.saturated:
                break
            self._tell(Step(f"once more, the generator was the bottleneck: {'; '.join(report.health.reasons)}"))
        else:
            raise VerdictRefused(
                f"at {wanted.replicas} × {_told(wanted.load)} the load generator was the bottleneck, not the model: "
                + "; ".join(report.health.reasons),
                hint="fewer replicas (--max-replicas), more time (--sla), or send from another machine",
            )
        return self._counted(report, wanted, question, run_s)

    def _counted(self, report: LoadReport, wanted: Wanted, question: Question, run_s: float) -> Run:
        samples, warm_s = report.samples, self._pace.warm_s
        due, done = _numbers(samples.due_s), _numbers(samples.done_s)
        status = np.frombuffer(samples.status, dtype=np.int16) if len(samples) else np.zeros(0, dtype=np.int16)
        inside = (due >= warm_s) & (due < warm_s + run_s)
        bad = np.array([failed(int(code)) for code in status], dtype=bool)
        times = (done - due)[inside & ~bad]
        if not len(times):
            what = f"nothing was answered at {wanted.replicas} × {_told(wanted.load)}"
            raise NotReady(what, where=self._target.model, hint="headway status and headway log tell why")
        answered = int(((done >= warm_s) & (done < warm_s + run_s) & ~bad).sum())
        if isinstance(wanted.load, Users) and wanted.load.count == 1 and wanted.load.think_s == 0:
            self._unloaded += times.tolist()
        cores = [
            one.cpu_cores
            for one in report.points
            if one.cpu_cores is not None and warm_s <= one.begin_s < warm_s + run_s
        ]
        cpu = statistics.fmean(cores) / (wanted.replicas * question.each.cores) if cores else None
        value = float(promised(question.promise, times))
        return Run(
            int(inside.sum()), max(answered, 1) / run_s, float(times.mean()), value, int((inside & bad).sum()), cpu
        )

    async def _pause(self, pause_s: float) -> None:
        """Or until it is told to stop."""
        waits: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._clock.sleep(pause_s)),
            asyncio.create_task(self._stopping.wait()),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _think(self, call: Callable[[], T]) -> T:
        """What ``call`` returns; raises :class:`Stopped` as soon as it is told to stop.

        Not on a thread of the event loop's own: those are waited for when the loop is closed.
        """
        loop = asyncio.get_running_loop()
        thought: asyncio.Future[T] = loop.create_future()

        def settle(found: T | None, error: Exception | None) -> None:
            if thought.done():
                return
            if error is not None:
                thought.set_exception(error)
            else:
                thought.set_result(cast("T", found))

        def think() -> None:
            found, failure = None, None
            try:
                found = call()
            except Exception as error:
                failure = error
            with suppress(RuntimeError):  # the loop is closed, since this was stopped
                loop.call_soon_threadsafe(settle, found, failure)

        threading.Thread(target=think, name="planner", daemon=True).start()
        waits: list[asyncio.Future[Any]] = [thought, asyncio.create_task(self._stopping.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            self._check()
            return await thought
        finally:
            for wait in waits:
                wait.cancel()

    def _check(self) -> None:
        if self._stopped:
            raise Stopped


def _broken(search: Search) -> PromiseBroken:
    """What a search that is hopeless found."""
    worst = search.points[-1]
    if worst.failed_share > search.most_failed:
        return PromiseBroken(
            f"{worst.failed_share:.1%} of the requests of one user alone fail, {search.most_failed:.1%} are promised",
            where="--sla",
            hint="headway log tells which and why; to plan all the same, promise it: --sla 'errors<5%'",
        )
    return PromiseBroken(
        f"{search.promise.text} is not kept even by one user alone: {worst.value_s * 1000:.1f} ms",
        where="--sla",
        hint="more replicas do not make a single request faster; promise more time, or make the model faster",
    )


def _closed(load: Load) -> bool:
    return isinstance(load, Users)


def _numbers(column: array[float]) -> np.ndarray:
    return np.frombuffer(column, dtype=np.float64) if len(column) else np.zeros(0)


def _shape(load: Load, duration_s: float, seed: int) -> LoadShape:
    if isinstance(load, Users):
        return users(load.count, duration_s, think_time_s=load.think_s, seed=seed)
    return rate(load.per_s, duration_s, seed=seed)


def _told(load: Load) -> str:
    if isinstance(load, Users):
        return f"{load.count} user{'s' if load.count != 1 else ''}"
    digits = max(0, 2 - math.floor(math.log10(load.per_s))) if load.per_s < 100 else 0
    return f"{load.per_s:.{digits}f} requests/s"


__all__ = ["Pace", "Planner", "Step", "Stopped"]
