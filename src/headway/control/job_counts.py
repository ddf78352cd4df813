"""JobCounts: how many jobs there are, looked at once a second; what is known stays, and ages, while nobody answers."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from headway.control.job_demand import demand_of
from headway.control.waits import within
from headway.domain.deployments import Deployment
from headway.domain.errors import HeadwayError
from headway.domain.jobs import JobCount, JobQuery
from headway.domain.lifecycle import JobState
from headway.ports.clock import Clock
from headway.ports.job_store import JobFeed, JobStore
from headway.scaling.samples import Reading

log = logging.getLogger(__name__)

TIMEOUT_S: Final = 3.0
"""For one answer of the database."""
MOST_RUNNING: Final = 10_000


class JobCounts:
    """What the database said last."""

    def __init__(self, feed: JobFeed, store: JobStore, clock: Clock) -> None:
        self._feed = feed
        self._store = store
        self._clock = clock
        self._counts: dict[str, list[JobCount]] = {}
        self._ran: dict[str, Mapping[str, int]] = {}
        self._seen_at: float | None = None
        """Monotonic."""
        self.error = ""
        """Why the latest look failed; empty when it did not."""
        self.failures = 0
        """Looks in a row that failed."""

    async def look(self) -> None:
        """Look again; a failure is kept, not raised."""
        began = self._clock.monotonic()
        try:
            counts, ran = await within(self._clock, TIMEOUT_S, self._read())
        except Exception as error:
            self.error = (error.message if isinstance(error, HeadwayError) else f"{type(error).__name__}: {error}")[
                :500
            ]
            if not self.failures:
                log.exception("jobs cannot be counted; workers stay as many as they are")
            self.failures += 1
        else:
            self._counts, self._ran, self._seen_at = counts, ran, began
            self.error, self.failures = "", 0

    def of(self, model: str) -> Sequence[JobCount]:
        """The counts of ``model``, as last seen; none for a model without open jobs."""
        return self._counts.get(model, ())

    def demand(self, deployment: Deployment) -> dict[str, int]:
        """Jobs that ask for workers, by version, as last seen."""
        name = deployment.name
        return demand_of(self.of(name), self._ran.get(name, {}), deployment.live)

    def reading(self, jobs: int) -> Reading:
        """``jobs`` as what a trigger reads: no value before the first answer."""
        if self._seen_at is None:
            return Reading(None, None, self.error, self.failures)
        age_s = max(0.0, self._clock.monotonic() - self._seen_at)
        return Reading(float(jobs), age_s, self.error, self.failures)

    async def _read(self) -> tuple[dict[str, list[JobCount]], dict[str, Mapping[str, int]]]:
        counts: dict[str, list[JobCount]] = {}
        for count in await self._feed.counts():
            counts.setdefault(count.model, []).append(count)
        ran: dict[str, Mapping[str, int]] = {}
        for model, own in counts.items():
            if any(count.version is None and count.running for count in own):
                running = JobQuery(model, states=frozenset({JobState.RUNNING}), limit=MOST_RUNNING)
                found = await self._store.find(running)
                ran[model] = Counter(job.ran_version for job in found if job.version is None and job.ran_version)
        return counts, ran
