"""OutsideSignals: numbers from other systems, asked for at each trigger's own interval, beside the tick."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from headway.control.questions import Questions
from headway.control.scaling_plan import Asked
from headway.control.signal_watch import SignalKey, SignalWatch
from headway.domain.cluster_objects import Name
from headway.domain.errors import SignalLost
from headway.ports.clock import Clock
from headway.ports.metric_source import MetricSource
from headway.scaling.samples import Reading

AT_ONCE: Final = 200
"""Questions that are open at the same time. Sources bound each by its trigger's timeout."""
SLACK_S: Final = 2.0
"""Beyond that timeout, for sources that do not keep to it."""


class OutsideSignals:
    """One question per deployment and trigger: its versions share the answer, each by its part of the traffic."""

    def __init__(
        self,
        sources: Mapping[str, MetricSource],
        clock: Clock,
        watch: SignalWatch,
        of_secret: Callable[[Name], Awaitable[Mapping[str, MetricSource]]] | None = None,
    ) -> None:
        """``of_secret``: the sources for a trigger that names a Secret."""
        self._sources = sources
        self._of_secret = of_secret
        self._clock = clock
        self._watch = watch
        self._questions: Questions[float] = Questions(clock, AT_ONCE)

    def reading(self, key: SignalKey, trigger: Asked, share: float, monotonic: float) -> Reading | None:
        """What is known by now, times ``share``; None before the first answer."""
        question = self._questions.of(key, trigger)
        if question.due(trigger.every_s, trigger.timeout_s + SLACK_S, monotonic):
            self._questions.ask(question, lambda: self._read(trigger), f"{trigger.spec.type} for {key.model}")
        value = question.answer
        if value is None and not question.failures:
            return None
        self._watch.look(key, question.failures, question.error, source=trigger.spec.type)
        return Reading(
            None if value is None else value * share, question.age_s(monotonic), question.error, question.failures
        )

    def sweep(self) -> None:
        """End questions of triggers that are gone."""
        self._questions.sweep()

    async def close(self) -> None:
        """End every question, then let go of the sources' connections."""
        await self._questions.close()
        for source in {id(source): source for source in self._sources.values()}.values():
            await source.close()

    async def _read(self, trigger: Asked) -> float:
        sources = self._sources
        if trigger.secret is not None and self._of_secret is not None:
            sources = await self._of_secret(trigger.secret)
        source = sources.get(trigger.spec.type)
        if source is None:
            raise SignalLost(f"this control plane cannot ask {trigger.spec.type}")
        return await source.read(trigger.spec)
