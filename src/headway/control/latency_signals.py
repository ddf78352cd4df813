"""LatencySignals: windows of the query log, for latency triggers and for users' functions, asked beside the tick."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Final

from headway.control.questions import Question, Questions
from headway.control.signal_watch import SignalKey, SignalWatch
from headway.domain.query_log import Arm, Condition, LatencyField, Operator, Window, WindowQuery, WindowTable
from headway.ports.clock import Clock
from headway.ports.query_log import QueryLog
from headway.scaling.decision import LatencyState
from headway.scaling.policy import LatencyTrigger, Statistic
from headway.scaling.samples import LatencyReading, LatencyWindow

AT_ONCE: Final = 2
"""Questions to the query log at the same time; people ask it too."""
TIMEOUT_S: Final = 30.0
RETRY_S: Final = 15.0
"""After a failure, where the trigger's own interval is longer."""
LEAD_S: Final = 1.5
"""How long before a trigger is evaluated its windows are asked for: they are there, and fresh, at that tick."""
_FIGURE: Final[Mapping[Statistic, str]] = {
    Statistic.AVERAGE: "average_ns",
    Statistic.P50: "p50_ns",
    Statistic.P75: "p75_ns",
    Statistic.P95: "p95_ns",
    Statistic.P99: "p99_ns",
}


class LatencySignals:
    """One question per version and latency trigger."""

    def __init__(self, query_log: QueryLog, clock: Clock, watch: SignalWatch) -> None:
        self._log = query_log
        self._clock = clock
        self._watch = watch
        self._questions: Questions[tuple[LatencyWindow, ...]] = Questions(clock, AT_ONCE)

    def reading(
        self, key: SignalKey, trigger: LatencyTrigger, state: LatencyState | None, now: float, monotonic: float
    ) -> LatencyReading | None:
        """What is known by now; None before the first answer."""
        question = self._questions.of(key, trigger)
        if _due(question, trigger, state, now, monotonic):
            name = f"latency of {key.model} {key.version}"
            self._questions.ask(question, lambda: self._windows(key, trigger), name)
        if question.answered_at is None and not question.failures:
            return None
        self._watch.look(key, question.failures, question.error)
        if question.failures or question.answer is None:
            return LatencyReading((), None, question.error)
        return LatencyReading(question.answer, question.age_s(monotonic))

    def sweep(self) -> None:
        """End questions of triggers that are gone."""
        self._questions.sweep()

    async def close(self) -> None:
        """End every question."""
        await self._questions.close()

    async def _windows(self, key: SignalKey, trigger: LatencyTrigger) -> tuple[LatencyWindow, ...]:
        count = max(1, round(trigger.span_s / trigger.window_s))
        total, queue = await asyncio.gather(
            *(
                self._log.windows(query_of(self._clock, key.model, key.version or "", trigger.window_s, count, phase))
                for phase in (LatencyField.TOTAL, LatencyField.QUEUE)
            )
        )
        figure = _FIGURE[trigger.statistic]
        queues = {window.start_ns: window for window in queue.windows}
        found = {w.start_ns: _window(w, queues.get(w.start_ns), figure) for w in total.windows}
        starts = [total.query.since_ns + number * total.query.window_ns for number in range(count)]
        return tuple(found.get(start, _EMPTY) for start in starts)


def query_of(
    clock: Clock, model: str, version: str, window_s: float, count: int, phase: LatencyField = LatencyField.TOTAL
) -> WindowQuery:
    """The last ``count`` windows of one version, the newest of which ends now."""
    until_ns, window_ns = int(clock.now() * 1e9), round(window_s * 1e9)
    return WindowQuery(
        model=model,
        since_ns=until_ns - count * window_ns,
        until_ns=until_ns,
        window_ns=window_ns,
        field=phase,
        # Jobs run on workers, and how long they take says nothing of the replicas that answer.
        where=(Condition("version", Operator.EQ, version), Condition("arm", Operator.NE, Arm.JOB.value)),
    )


def window_documents(table: WindowTable) -> list[dict[str, Any]]:
    """As users' functions get them: oldest first, times in seconds, None for no data."""
    return [
        {
            "start": window.start_ns / 1e9,
            "count": window.count,
            "errors": window.errors,
            "rate_per_s": window.rate_per_s,
            "average_s": _seconds(window.average_ns),
            "p50_s": _seconds(window.p50_ns),
            "p95_s": _seconds(window.p95_ns),
            "p99_s": _seconds(window.p99_ns),
        }
        for window in table.windows
    ]


def _due(
    question: Question[tuple[LatencyWindow, ...]],
    trigger: LatencyTrigger,
    state: LatencyState | None,
    now: float,
    monotonic: float,
) -> bool:
    every_s = trigger.every_s
    if question.due(min(every_s, RETRY_S) if question.failures else every_s, TIMEOUT_S, monotonic):
        return True
    if state is None or state.evaluated_at is None or question.asked_at is None or question.task is not None:
        return False
    # Evaluations happen at ticks; each shall meet an answer of its own.
    wanted_at = monotonic - (now - state.evaluated_at) + every_s - min(LEAD_S, every_s / 2)
    return monotonic >= wanted_at > question.asked_at


def _window(total: Window, queue: Window | None, figure: str) -> LatencyWindow:
    value = getattr(total, figure)
    average = total.average_ns
    waited = queue.average_ns if queue is not None else None
    share = None if average is None or average <= 0 or waited is None else min(1.0, waited / average)
    return LatencyWindow(total.timed, _seconds(value), share)


def _seconds(nanoseconds: float | None) -> float | None:
    return None if nanoseconds is None else nanoseconds / 1e9


_EMPTY: Final = LatencyWindow(0, None, None)
