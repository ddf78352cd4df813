"""Group commit: whoever asks while a transaction runs shares the next one.

One transaction is under way at a time. With one caller each request is a commit of its own and waits for nobody; with
fifty, fifty requests share one fsync. When a group fails for a reason that may lie in one of its requests (a text that
the database cannot hold), each is tried alone, so that one does not spoil the others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from headway.adapters.sql.jobs.requests import Finish, Request, Submit
from headway.domain.errors import HeadwayError, StorageFailed

log = logging.getLogger(__name__)
MOST_ROWS: Final = 2000
"""Jobs that one transaction is about, if no single request is about more."""

Pending = tuple[Request, "asyncio.Future[Any]"]


class GroupCommitter:
    """Hands groups of requests to ``commit``, which answers each of them, with an error to raise for some."""

    def __init__(self, commit: Callable[[Sequence[Request]], Awaitable[Sequence[Any]]]) -> None:
        self._commit = commit
        self._pending: list[Pending] = []
        self._running: asyncio.Task[None] | None = None
        self._closed = True

    def open(self) -> None:
        """Take requests."""
        self._closed = False

    async def close(self) -> None:
        """Take no more, and bring to its end what was taken."""
        self._closed = True
        if self._running is not None:
            await self._running

    def ask(self, request: Request) -> asyncio.Future[Any]:
        """The answer to come. It is carried out even when nobody waits for it any more."""
        if self._closed:
            raise HeadwayError("the store of jobs is not open")
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._pending.append((request, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="job commits")
        return future

    async def _run(self) -> None:
        try:
            while self._pending:
                await self._settle(self._next_group())
        finally:
            self._running = None

    def _next_group(self) -> list[Pending]:
        rows = 0
        for number, (request, _) in enumerate(self._pending):
            rows += _rows(request)
            if number and rows > MOST_ROWS:
                group, self._pending = self._pending[:number], self._pending[number:]
                return group
        group, self._pending = self._pending, []
        return group

    async def _settle(self, group: list[Pending]) -> None:
        try:
            answers = await self._commit([request for request, _ in group])
        except StorageFailed as error:
            answers = [error] * len(group)
        except Exception as error:
            if len(group) > 1:
                for pending in group:
                    await self._settle([pending])
                return
            if isinstance(error, HeadwayError):
                answers = [error]
            else:
                log.exception("a transaction on jobs failed")
                answers = [StorageFailed(f"the database of jobs could not take this: {error}")]
        for (_, future), answer in zip(group, answers, strict=True):
            if future.done():  # whoever asked is gone
                continue
            if isinstance(answer, BaseException):
                future.set_exception(answer)
            else:
                future.set_result(answer)


def _rows(request: Request) -> int:
    match request:
        case Submit(jobs=jobs):
            return len(jobs)
        case Finish(outcomes=outcomes):
            return len(outcomes)
        case _:
            return 1
