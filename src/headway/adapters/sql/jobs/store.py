"""SqlJobs: the four job ports on one database."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, Self

from headway.adapters.sql.appends import Appends
from headway.adapters.sql.jobs import requests as q
from headway.adapters.sql.jobs.committer import GroupCommitter
from headway.adapters.sql.jobs.files import ContentFiles
from headway.adapters.sql.jobs.group import INLINE_BYTES, Finished, Steps
from headway.adapters.sql.jobs.questions import Questions
from headway.adapters.sql.jobs.sqlite import SqliteEngine
from headway.adapters.sql.jobs.statements import Statements
from headway.adapters.sql.jobs.transaction import Cleared, Settled, Taken, transaction
from headway.domain.errors import StorageFailed
from headway.domain.job_order import Reminders
from headway.domain.jobs import (
    Beat,
    BeatVerdict,
    Claim,
    Delivery,
    Job,
    JobCount,
    JobError,
    JobEvent,
    JobQuery,
    Lease,
    NewJob,
    Outcome,
    Submitted,
    Swept,
)
from headway.ports.clock import Clock
from headway.ports.job_store import Content

_MAX_CURSOR: Final = 2**63 - 1
_ORPHANS_AT_ONCE: Final = 500
REGRANTED_S: Final = 15.0
"""Leases last that long again after the store was away."""


class Engine(Protocol):
    """A database that runs steps."""

    statements: Statements
    shared: bool
    """Whether other processes may use the same database at the same time."""

    async def open(self, heard: Callable[[int], None]) -> None: ...
    async def close(self) -> None: ...
    async def transact(self, make: Callable[[], Steps]) -> Any: ...
    async def ask(self, make: Callable[[], Steps]) -> Any: ...


class SqlJobs:
    """JobStore, JobLeases, JobFeed and WebhookOutbox, for one event loop.

    ``fenced`` False takes fencing away, only to show by experiment that it is needed.
    """

    def __init__(self, engine: Engine, files: Path | None, *, fenced: bool = True, poll_s: float = 0.5) -> None:
        self._engine = engine
        self._files = ContentFiles(files or Path("/nowhere"))
        self._inline_bytes = INLINE_BYTES if files is not None else sys.maxsize
        self._fenced = fenced
        self._poll_s = poll_s
        self._questions = Questions(engine.statements)
        self._reminders = Reminders()
        self._appends = Appends()
        self._committer = GroupCommitter(self._commit)
        self._changing = asyncio.Lock()
        self._started = False

    @classmethod
    def open_sqlite(cls, path: Path, *, files: Path, clock: Clock, fenced: bool = True, owner: bool = True) -> Self:
        """On the file at ``path``, which :meth:`start` makes when it is not there. It has one owner at a time.

        ``owner`` False: another process owns it, and this one looks and changes single jobs beside it. What concerns
        all of them (after a start, or when the clock was set) is left to the owner.
        """
        return cls(SqliteEngine(path, clock, owner=owner), files, fenced=fenced)

    @classmethod
    def open_postgresql(cls, url: str, *, files: Path | None, fenced: bool = True) -> Self:
        """On the database at ``url``; several processes may, if they share the folder ``files``.

        None: large inputs and results lie in the database as well.
        """
        from headway.adapters.sql.jobs.postgresql import PostgresqlEngine

        return cls(PostgresqlEngine(url), files, fenced=fenced)

    async def start(self) -> None:
        """Make or migrate the schema and be ready. Again: nothing.

        Raises ``Unsupported`` for a database of a newer Headway, ``StorageFailed`` for one that cannot be used.
        """
        async with self._changing:
            if self._started:
                return
            await self._engine.open(self._appends.tell)
            self._committer.open()
            self._started = True
            if not self._engine.shared:
                await self._committer.ask(q.Regrant(REGRANTED_S))
            await self._clear_orphans()

    async def close(self) -> None:
        """Bring to an end what was asked, and let go of the database. Again: nothing."""
        async with self._changing:
            self._started = False
            await self._committer.close()
            await self._engine.close()

    # -- JobStore ----------------------------------------------------------------------------

    async def submit(self, jobs: Sequence[NewJob], *, most_queued: int | None = None) -> list[Submitted]:
        """See the port."""
        if not jobs:
            return []
        large = [new for new in jobs if len(new.body) > self._inline_bytes]
        files: dict[str, str] = {}
        try:
            for new in large:
                files[new.job_id] = await asyncio.to_thread(self._files.write, new.job_id, "input", new.body)
            request = q.Submit(jobs, most_queued, files)
            answers: list[Submitted] = await self._carry_out(request)
        except StorageFailed:
            raise  # the commit may have been carried out, and then names them; else they are cleared away later
        except Exception:
            await self._remove(files.values())
            raise
        created = {answer.job.job_id for answer in answers if answer.created}
        await self._remove(name for job_id, name in files.items() if job_id not in created)
        return answers

    async def get(self, job_id: str) -> Job:
        """See the port."""
        job: Job = await self._engine.ask(lambda: self._questions.get(job_id))
        return job

    async def place(self, job_id: str, most: int = 10_000) -> int | None:
        """See the port."""
        place: int | None = await self._engine.ask(lambda: self._questions.place(job_id, most))
        return place

    async def find(self, query: JobQuery) -> list[Job]:
        """See the port."""
        if query.limit <= 0:
            return []
        found: list[Job] = await self._engine.ask(lambda: self._questions.find(query))
        return found

    async def cancel(self, job_id: str) -> Job:
        """See the port."""
        job: Job = await self._carry_out(q.Cancel(job_id))
        return job

    async def content(self, job_id: str, which: Content) -> bytes:
        """See the port."""
        data, file = await self._engine.ask(lambda: self._questions.content(job_id, which))
        return await self._bytes(data, file)

    # -- JobLeases ---------------------------------------------------------------------------

    async def claim(self, claim: Claim) -> list[Lease]:
        """See the port. Leases that nobody waits for any more are given back."""
        asked = self._committer.ask(q.Take(claim))
        try:
            taken: list[Taken] = await asyncio.shield(asked)
        except asyncio.CancelledError:
            asked.add_done_callback(self._give_back)
            raise
        return [Lease(t.job, t.job.token, await self._bytes(t.data, t.file)) for t in taken]

    async def renew(self, worker: str, beats: Sequence[Beat], lease_s: float) -> list[BeatVerdict]:
        """See the port."""
        verdicts: list[BeatVerdict] = await self._carry_out(q.Renew(beats, lease_s)) if beats else []
        return verdicts

    async def finish(self, outcomes: Sequence[Outcome]) -> list[bool]:
        """See the port."""
        if not outcomes:
            return []
        files: dict[int, str] = {}
        try:
            for place, outcome in enumerate(outcomes):
                if len(outcome.body) > self._inline_bytes and outcome.error is None:
                    files[place] = await asyncio.to_thread(self._files.write, outcome.job_id, "result", outcome.body)
            finished: Finished = await self._carry_out(q.Finish(outcomes, files))
        except StorageFailed:
            raise  # the commit may have been carried out, and then names them; else they are cleared away later
        except Exception:
            await self._remove(files.values())
            raise
        await self._remove(name for place, name in files.items() if not finished.stored[place])
        return [*finished.accepted]

    async def abandon(self, worker: str, error: JobError) -> list[str]:
        """See the port."""
        held: list[str] = await self._carry_out(q.Abandon(worker, error))
        return held

    async def sweep(self, most: int = 1000) -> Swept:
        """See the port."""
        swept: Swept = await self._carry_out(q.Sweep(most))
        return swept

    async def clear(self, most: int = 1000) -> int:
        """See the port."""
        cleared: Cleared = await self._carry_out(q.Clear(most))
        await self._remove(cleared.files)
        return cleared.count

    # -- JobFeed -----------------------------------------------------------------------------

    async def events(
        self, *, after: int = 0, limit: int = 1000, model: str | None = None, job_id: str | None = None
    ) -> list[JobEvent]:
        """See the port."""
        if limit <= 0 or after >= _MAX_CURSOR:
            return []
        found: list[JobEvent] = await self._engine.ask(
            lambda: self._questions.events(max(after, 0), limit, model, job_id)
        )
        return found

    async def last_cursor(self) -> int:
        """See the port."""
        cursor: int = await self._engine.ask(self._questions.last_cursor)
        return cursor

    async def wait(self, after: int, timeout_s: float) -> bool:
        """See the port. What this process records wakes at once, what others do is seen within ``poll_s`` seconds."""
        return await self._appends.wait(after, timeout_s, poll_s=self._poll_s, look=self.last_cursor)

    async def counts(self) -> list[JobCount]:
        """See the port."""
        counts: list[JobCount] = await self._engine.ask(self._questions.counts)
        return counts

    # -- WebhookOutbox -----------------------------------------------------------------------

    async def due(self, most: int, hold_s: float) -> list[Delivery]:
        """See the port."""
        held: list[Delivery] = await self._carry_out(q.Due(most, hold_s))
        return held

    async def delivered(self, delivery: Delivery) -> bool:
        """See the port."""
        accepted: bool = await self._carry_out(q.Settle(delivery))
        return accepted

    async def postpone(self, delivery: Delivery, wait_s: float | None, reason: str) -> bool:
        """See the port."""
        accepted: bool = await self._carry_out(q.Settle(delivery, wait_s, reason))
        return accepted

    # -- what they share ---------------------------------------------------------------------

    async def _carry_out(self, request: q.Request) -> Any:
        return await asyncio.shield(self._committer.ask(request))

    async def _commit(self, group: Sequence[q.Request]) -> Sequence[Any]:
        statements = self._engine.statements
        settled: Settled = await self._engine.transact(
            lambda: transaction(statements, group, self._reminders, fenced=self._fenced)
        )
        self._appends.tell(settled.cursor)
        return settled.answers

    def _give_back(self, asked: asyncio.Future[list[Taken]]) -> None:
        if not asked.cancelled() and asked.exception() is None and self._started:
            outcomes = [Outcome(t.job.job_id, t.job.token, given_back=True) for t in asked.result()]
            self._committer.ask(q.Finish(outcomes)).add_done_callback(lambda f: f.cancelled() or f.exception())

    async def _bytes(self, data: bytes | None, file: str | None) -> bytes:
        return await asyncio.to_thread(self._files.read, file) if file is not None else data or b""

    async def _remove(self, names: Any) -> None:
        doomed = [*names]
        if doomed:
            await asyncio.to_thread(self._files.remove, doomed)

    async def _clear_orphans(self) -> None:
        """Remove files that no job names: of submissions and results that a crash cut off."""
        # Another process may have written a file that it is about to name.
        named = await asyncio.to_thread(lambda: [*self._files.names(3600.0 if self._engine.shared else 0.0)])
        for start in range(0, len(named), _ORPHANS_AT_ONCE):
            some = dict(named[start : start + _ORPHANS_AT_ONCE])
            await self._remove(await self._engine.ask(partial(self._questions.unknown_files, some)))
