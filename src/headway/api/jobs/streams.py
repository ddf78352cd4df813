"""Server-sent events of jobs (WHATWG HTML, *Server-sent events*).

The id of each is its cursor, so a client that was cut off goes on with ``Last-Event-ID``. No stream lasts longer than
:data:`LONGEST_S`: the gateway looks at the token when a stream begins, and one that was revoked must not see events for
ever. Clients come again by themselves.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Final

from headway.api.jobs.views import ProgressView, encode, event_view, job_view
from headway.control.jobs.news import JobNews, Listener
from headway.control.jobs.service import JobService
from headway.domain.jobs import Job, JobEvent, Progress
from headway.ports.clock import Clock
from headway.ports.job_store import JobFeed

LONGEST_S: Final = 300.0
KEEP_ALIVE_S: Final = 15.0
PROGRESS_LOOK_S: Final = 1.0
PAGE: Final = 500
HELLO: Final = b"retry: 1000\n: events follow\n\n"
STILL_HERE: Final = b": still here\n\n"


def frame(event: JobEvent) -> bytes:
    """One event of a job."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.cursor, event.type.encode("ascii"), encode(event_view(event)))


def progress_frame(progress: Progress) -> bytes:
    """What the model said. It has no id: what was said before is not said again."""
    return b"event: progress\ndata: %s\n\n" % encode(ProgressView(progress.fraction, progress.note))


class JobStreams:
    """Makes the streams; each is one client's."""

    def __init__(self, service: JobService, feed: JobFeed, news: JobNews, clock: Clock) -> None:
        self._service = service
        self._feed = feed
        self._news = news
        self._clock = clock

    async def over(self, job: Job, after: int) -> bool:
        """Whether the stream of ``job`` has nothing more to tell after ``after``."""
        return job.ended and not await self._feed.events(after=after, limit=1, job_id=job.job_id)

    async def of_job(self, job: Job, after: int) -> AsyncGenerator[bytes, None]:
        """Events of ``job`` after ``after``, its progress while it runs; after the last one the job itself."""
        end_at = self._clock.monotonic() + LONGEST_S
        quiet_at = self._clock.monotonic() + KEEP_ALIVE_S
        progress: Progress | None = None
        async with self._news.of_job(job.job_id) as listener:
            yield HELLO
            behind = True
            while self._clock.monotonic() < end_at:
                # The job first: events that are read after it include its end if it has ended.
                job = await self._service.get(job.model, job.job_id)
                reading = behind or job.ended
                told = await self._read(after, reading, listener, job_id=job.job_id)
                behind = reading and len(told) == PAGE
                for event in told:
                    if event.cursor > after:
                        after = event.cursor
                        yield frame(event)
                if behind:
                    continue
                if job.ended:
                    yield b"event: job\ndata: %s\n\n" % encode(job_view(job, self._clock.now()))
                    return
                if job.progress is not None and job.progress != progress:
                    progress = job.progress
                    yield progress_frame(progress)
                    quiet_at = self._clock.monotonic() + KEEP_ALIVE_S
                elif self._clock.monotonic() >= quiet_at:
                    quiet_at = self._clock.monotonic() + KEEP_ALIVE_S
                    yield STILL_HERE
                await listener.wait(self._clock, PROGRESS_LOOK_S if job.started_at is not None else KEEP_ALIVE_S)

    async def of_model(self, model: str, after: int | None) -> AsyncGenerator[bytes, None]:
        """Events of all jobs of ``model`` after ``after`` (None: from now on)."""
        end_at = self._clock.monotonic() + LONGEST_S
        async with self._news.of_model(model) as listener:
            yield HELLO
            behind = after is not None
            told_to = after or 0
            while self._clock.monotonic() < end_at:
                found = await self._read(told_to, behind, listener, model=model)
                behind = behind and len(found) == PAGE
                for event in found:
                    if event.cursor > told_to:
                        told_to = event.cursor
                        yield frame(event)
                if not behind and not await listener.wait(self._clock, KEEP_ALIVE_S):
                    yield STILL_HERE

    async def _read(
        self, after: int, behind: bool, listener: Listener, *, model: str | None = None, job_id: str | None = None
    ) -> list[JobEvent]:
        """What there is after ``after``: out of the feed when ``behind``, else what the listener was told."""
        if not behind and not listener.missed:
            return listener.take()
        listener.missed = False
        if not behind:
            listener.take()
        return list(await self._feed.events(after=after, limit=PAGE, model=model, job_id=job_id))
