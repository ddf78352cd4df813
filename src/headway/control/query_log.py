"""The query log's keeper and its questions.

The keeper takes in what is written, keeps house, and says in events what is missing from the log or keeps it from
being kept. Questions do not need it: they take in for themselves what is new.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import asdict
from typing import Final

from headway.control.query_log_follow import RecordFollower, Told, marks_of, pages
from headway.control.waits import pause
from headway.domain.errors import HeadwayError, ModelNotFound
from headway.domain.events import EventType, NewEvent
from headway.domain.query_cursors import Cursor
from headway.domain.query_log import Condition, Losses, QueryRecord, RecordQuery, Retention, WindowQuery, WindowTable
from headway.ports.clock import Clock
from headway.ports.event_log import EventLog
from headway.ports.payload_log import PayloadLog
from headway.ports.query_log import QueryLog

log = logging.getLogger(__name__)

INGEST_S: Final = 1.0
COMPACT_S: Final = 10.0
TELL_S: Final = 60.0
"""Between two events about what a model's log lacks."""
STOP_S: Final = 10.0
"""How long a step under way may take to end when the keeper is stopped."""
_NOTHING: Final = Losses()


class QueryLogKeeper:
    """Ingests every second, compacts every ``compact_s``, and tells what goes wrong. No failure ends it.

    Sampled payloads, which need no more than to go when they are too old, expire when the log is compacted.
    """

    def __init__(
        self,
        query_log: QueryLog,
        events: EventLog,
        clock: Clock,
        retention: Retention,
        *,
        payloads: PayloadLog,
        payload_retention: Retention,
        compact_s: float = COMPACT_S,
    ) -> None:
        self._log = query_log
        self._events = events
        self._clock = clock
        self._retention = retention
        self._payloads = payloads
        self._payload_retention = payload_retention
        self._compact_s = compact_s
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self._compact_at = 0.0
        self._lost: dict[str, Losses] = {}
        """By model, what no event tells of yet."""
        self._told_at: dict[str, float] = {}
        self._faults: dict[str, str] = {}
        """What keeps a step from being done, by step."""
        self._failed_at: float | None = None
        """Since when an event says that the log fails."""

    async def start(self) -> None:
        """Begin; a second call changes nothing."""
        if self._task is None:
            self._stopping = asyncio.Event()
            self._task = asyncio.create_task(self._loop(self._stopping), name="query log keeper")

    async def stop(self) -> None:
        """Take in what is left, tell what is missing, end. A second call changes nothing.

        Call it after the writers have stopped.
        """
        task, self._task = self._task, None
        if task is None:
            return
        self._stopping.set()
        _, late = await asyncio.wait({task}, timeout=STOP_S)
        for one in late:
            one.cancel()
        await asyncio.gather(task, return_exceptions=True)
        if not late:
            await self._step("ingest", self._ingest)
            await self._tell_losses(at_once=True)

    async def _loop(self, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            await self.round()
            await pause(self._clock, INGEST_S, stopping)

    async def round(self) -> None:
        """Everything that is due. Raises nothing but cancellation."""
        await self._step("ingest", self._ingest)
        if self._clock.monotonic() >= self._compact_at:
            await self._step("compact", self._compact)
            await self._step("expire payloads", self._expire_payloads)
            self._compact_at = self._clock.monotonic() + self._compact_s
        await self._tell_losses()
        await self._tell_faults()

    async def _ingest(self) -> None:
        report = await self._log.ingest()
        for model, lost in report.newly_lost.items():
            if lost.any:
                self._lost[model] = self._lost.get(model, _NOTHING) + lost

    async def _compact(self) -> None:
        await self._log.compact(int(self._clock.now() * 1e9), self._retention)

    async def _expire_payloads(self) -> None:
        await self._payloads.expire(int(self._clock.now() * 1e9), self._payload_retention)

    async def _step(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        try:
            await run()
        except Exception as error:
            text = str(error) if isinstance(error, HeadwayError) else f"{type(error).__name__}: {error}"
            if self._faults.get(name) != text:  # every second the same trace would bury everything else
                log.exception("the query log's %s failed; trying again", name)
            self._faults[name] = text
        else:
            if self._faults.pop(name, None) is not None:
                log.info("the query log's %s works again", name)

    async def _tell_losses(self, *, at_once: bool = False) -> None:
        now = self._clock.monotonic()
        due = [model for model in sorted(self._lost) if at_once or now - self._told_at.get(model, -TELL_S) >= TELL_S]
        for model in due:
            lost = self._lost[model]
            if await self._append(EventType.QUERY_LOG_INCOMPLETE, asdict(lost), model):
                del self._lost[model]
                self._told_at[model] = now

    async def _tell_faults(self) -> None:
        now = self._clock.monotonic()
        if self._faults and self._failed_at is None:
            step, message = next(iter(self._faults.items()))
            if await self._append(EventType.QUERY_LOG_FAILED, {"step": step, "message": message}):
                self._failed_at = now
        elif not self._faults and self._failed_at is not None:
            data = {"failed_s": round(now - self._failed_at, 3)}
            if await self._append(EventType.QUERY_LOG_RECOVERED, data):
                self._failed_at = None

    async def _append(self, kind: EventType, data: Mapping[str, object], model: str | None = None) -> bool:
        """Whether the event is recorded; otherwise the next round tries again."""
        try:
            await self._events.append([NewEvent(self._clock.now(), kind, model, data=data)])
        except Exception:
            log.exception("cannot record %s; trying again", kind)
            return False
        return True


class QueryLogService:
    """Questions about models, deployed or not: a deleted one's records stay until they are too old."""

    def __init__(self, query_log: QueryLog, clock: Clock, deployed: Callable[[str], bool]) -> None:
        self._log = query_log
        self._clock = clock
        self._deployed = deployed

    def now_ns(self) -> int:
        """Nanoseconds since the epoch."""
        return int(self._clock.now() * 1e9)

    async def windows(self, query: WindowQuery) -> WindowTable:
        """The port's. Raises ``ModelNotFound`` when there neither is nor was such a model."""
        table = await self._log.windows(query)
        if not table.windows:
            await self.check_known(query.model)
        return table

    async def records(self, query: RecordQuery) -> list[QueryRecord]:
        """The port's. Raises ``ModelNotFound`` when there neither is nor was such a model."""
        records = await self._log.records(query)
        if not records:
            await self.check_known(query.model)
        return records

    async def page(self, query: RecordQuery, asof_ns: int | None) -> tuple[list[QueryRecord], Cursor | None]:
        """Records, and where to go on; None where there are none.

        ``asof_ns``: the present instant, if the span reaches to it; then the last page's cursor is good for
        following too.
        """
        records = await self.records(query)
        if not records:
            return [], None
        if asof_ns is None or (len(records) == query.limit and not query.newest):
            return records, Cursor.of(records[-1])
        return records, Cursor.of(records[-1], asof_ns, marks_of(records, asof_ns))

    async def pages(self, query: RecordQuery, most: int | None) -> AsyncGenerator[list[QueryRecord], None]:
        """All records of the span, or the first ``most``, ``query.limit`` at a time; raises as :meth:`records`."""
        async for page in pages(self.records, query, most):
            yield page

    async def losses(self, model: str) -> Losses:
        """Everything known to be missing for ``model``."""
        return await self._log.losses(model)

    async def follow(
        self,
        model: str,
        where: tuple[Condition, ...],
        *,
        since_ns: int | None,
        newest: int | None,
        after: Cursor | None,
    ) -> AsyncGenerator[list[Told], None]:
        """Batches of records as they appear, many of them empty.

        Begins after the cursor; else with the ``newest`` so many, or all, that arrived since ``since_ns``; else now.
        Raises ``ModelNotFound``.
        """
        await self.check_known(model)
        follower = RecordFollower(self._log, self._clock, model, where)
        if after is not None:
            return follower.after(after)
        if newest is not None:
            return follower.newest(since_ns or 0, newest)
        return follower.from_now() if since_ns is None else follower.since(since_ns)

    async def check_known(self, model: str) -> None:
        """Raises ``ModelNotFound`` for a model that is not deployed and has no records."""
        if self._deployed(model):
            return
        ever = RecordQuery(model=model, since_ns=0, until_ns=self.now_ns() + 10**9, limit=1)
        if not await self._log.records(ever):
            raise ModelNotFound(f"there is no model {model!r}, and no record of one", hint="headway list")
