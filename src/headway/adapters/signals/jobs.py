"""Headway's own queue of jobs: how many of a model's are due or run."""

from __future__ import annotations

from collections.abc import Callable

from headway.adapters.signals.question import Question, expect, reason
from headway.domain.errors import HeadwayError
from headway.domain.scaling_spec import ExternalTriggerSpec, JobsTrigger
from headway.ports.job_store import JobFeed


class JobsSource:
    """The ``MetricSource`` port on the counts of the jobs' store."""

    def __init__(self, feed: JobFeed, known: Callable[[str], bool]) -> None:
        """``known``: whether there is a model of that name. One that is not has no jobs for another reason than 0."""
        self._feed = feed
        self._known = known

    async def read(self, trigger: ExternalTriggerSpec) -> float:
        """As the port says."""
        trigger = expect(trigger, JobsTrigger)
        model = trigger.model or ""
        question = Question(f"jobs of {model}", "the queue of jobs", trigger.timeout)
        if not self._known(model):
            raise question.lost(f"there is no model {model!r}")
        async with question.limited():
            try:
                counts = await self._feed.counts()
            except (HeadwayError, OSError) as error:
                raise question.lost(error.message if isinstance(error, HeadwayError) else reason(error)) from None
        return float(sum(count.queued + count.running for count in counts if count.model == model))

    async def close(self) -> None:
        """Nothing of its own is open."""
