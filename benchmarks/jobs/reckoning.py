"""What became of the jobs, read from the database when all is over and compared with what was acknowledged."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from headway.domain.jobs import Job, JobQuery
from headway.domain.lifecycle import JobState
from headway.ports.job_store import JobFeed, JobStore

PAGE = 1000
END_EVENTS = frozenset({"job_succeeded.v1", "job_failed.v1", "job_canceled.v1", "job_expired.v1"})


class Jobs(JobStore, JobFeed, Protocol):
    """Both sides of one store."""


@dataclass(slots=True)
class Reckoning:
    """``faults``: what must not be, one line each."""

    faults: list[str] = field(default_factory=list)
    states: Counter[str] = field(default_factory=Counter)
    attempts: Counter[int] = field(default_factory=Counter)
    stored: int = 0

    def fault(self, text: str) -> None:
        self.faults.append(text)


async def reckon(jobs: Jobs, model: str, acknowledged: dict[int, str]) -> Reckoning:
    """Every acknowledged job is there, ended exactly once, with the right result; and there is no other."""
    told = Reckoning()
    stored: dict[str, Job] = {}
    before: str | None = None
    while True:
        page = await jobs.find(JobQuery(model, before=before, limit=PAGE))
        stored |= {job.job_id: job for job in page}
        if len(page) < PAGE:
            break
        before = page[-1].job_id
    told.stored = len(stored)
    ends = await _ends(jobs, model)
    for number, job_id in acknowledged.items():
        job = stored.pop(job_id, None)
        if job is None:
            told.fault(f"job {number} ({job_id}) was acknowledged and is not there")
            continue
        told.states[job.state] += 1
        told.attempts[job.attempts] += 1
        if not job.ended:
            told.fault(f"job {number} ({job_id}) is stuck: {job.state}, attempt {job.attempts}, worker {job.worker}")
        elif job.state is not JobState.SUCCEEDED:
            told.fault(f"job {number} ({job_id}) ended {job.state}: {job.error}")
        elif (result := json.loads(await jobs.content(job_id, "result"))) != {"predictions": [[2.0 * number]]}:
            told.fault(f"job {number} ({job_id}) has the result {result}")
        if job.ended and ends[job_id] != 1:
            told.fault(f"job {number} ({job_id}) ended {ends[job_id]} times")
    for job_id in stored:
        told.fault(f"job {job_id} is there twice or was never acknowledged")
    return told


async def _ends(jobs: Jobs, model: str) -> Counter[str]:
    ends: Counter[str] = Counter()
    after = 0
    while events := await jobs.events(after=after, limit=PAGE, model=model):
        ends.update(event.job_id for event in events if event.type in END_EVENTS)
        after = events[-1].cursor
    return ends
