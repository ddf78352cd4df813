"""JobDesk: what the control plane itself does with jobs: see how many are open, and call all of a model's off."""

from __future__ import annotations

import asyncio
from typing import Final

from headway.domain.jobs import OPEN, JobQuery
from headway.ports.job_store import JobFeed, JobStore

PAGE: Final = 500
AT_ONCE: Final = 100
"""Cancellations under way at the same time: they share commits."""


class JobDesk:
    """On the jobs' own database."""

    def __init__(self, store: JobStore, feed: JobFeed) -> None:
        self._store = store
        self._feed = feed

    async def open(self, model: str) -> int:
        """Jobs of ``model`` that have not ended. Raises what the store raises when nobody can tell."""
        found = [count for count in await self._feed.counts() if count.model == model]
        return sum(count.queued + count.delayed + count.running for count in found)

    async def cancel_all(self, model: str) -> int:
        """Cancel every open job of ``model``; how many were asked to end. Running ones end in a moment."""
        asked, before = 0, None
        while True:
            page = await self._store.find(JobQuery(model, states=OPEN, before=before, limit=PAGE))
            ids = [job.job_id for job in page if job.cancel_at is None]
            for start in range(0, len(ids), AT_ONCE):
                await asyncio.gather(*(self._store.cancel(job_id) for job_id in ids[start : start + AT_ONCE]))
            asked += len(ids)
            if len(page) < PAGE:
                return asked
            before = page[-1].job_id
