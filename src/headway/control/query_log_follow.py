"""Records of the query log as they appear.

The log is asked by arrival, but a record appears when its request is answered. So every look asks for what *ended*
since shortly before the last one: recent arrivals, and earlier ones that took long. Requests of more than a minute are
rare and looked for less often, so that a follower costs little. What of all that is new, the marks of
:mod:`headway.domain.query_cursors` tell.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import replace
from typing import Final

from headway.domain.query_cursors import Cursor
from headway.domain.query_log import Condition, Operator, QueryRecord, RecordQuery
from headway.ports.clock import Clock
from headway.ports.query_log import QueryLog

SECOND_NS: Final = 1_000_000_000
LOOK_S: Final = 0.5
"""Between looks: a record is told within a second."""
SLOW_LOOK_S: Final = 15.0
"""Between looks for requests of :data:`SLOW_NS` and more."""
LAG_NS: Final = 2 * SECOND_NS
"""From a request's end to its record's appearance, at most."""
BRISK_NS: Final = SECOND_NS // 2
SLOW_NS: Final = 60 * SECOND_NS
LONGEST_NS: Final = 2 * 3600 * SECOND_NS
"""A spec allows time limits of an hour, in the gateway's queue and in the replica's each."""
STEP_NS: Final = 60 * SECOND_NS
"""A follower that is behind catches up in steps of this: what it holds in memory at once."""
AHEAD_NS: Final = 2 * SECOND_NS
"""Records may seem to come from the future: clocks are set back, at times by a little only."""
PAGE: Final = 5000

Told = tuple[QueryRecord, Cursor]
"""A record, and where to go on after it."""


def ended_ns(record: QueryRecord) -> int:
    """Wall clock when the request was answered."""
    return record.ts_ns + record.total_ns


def marks_of(records: Iterable[QueryRecord], asof_ns: int) -> dict[str, int]:
    """Last sequence numbers of the streams whose records a follower that starts at ``asof_ns`` meets again."""
    lane = _Lane(asof_ns)
    for record in records:
        lane.mark(record)
    return lane.recent_marks()


async def pages(
    ask: Callable[[RecordQuery], Awaitable[list[QueryRecord]]], query: RecordQuery, most: int | None = None
) -> AsyncGenerator[list[QueryRecord], None]:
    """All records of ``query``'s span, or the first ``most``; each page of ``query.limit`` is asked for by itself."""
    left = most
    while True:
        size = query.limit if left is None else min(left, query.limit)
        page = await ask(replace(query, limit=size))
        yield page
        left = None if left is None else left - len(page)
        if len(page) < size or left == 0:
            return
        query = replace(query, after=Cursor.of(page[-1]).place, since_ns=page[-1].ts_ns)


class _Lane:
    """What has been told of one class of records: what had ended by ``asof_ns``, and the marks.

    Of streams without a mark, what ended at ``asof_ns`` or later is new, and what arrived after ``place``.
    """

    def __init__(self, asof_ns: int, place: tuple[int, str, int] | None = None) -> None:
        self.asof_ns = asof_ns
        self._begun_ns = asof_ns
        self._place = place
        self._marks: dict[str, tuple[int, int]] = {}
        """By stream, the latest told last: its last sequence number, its latest end."""

    def fresh(self, records: Iterable[QueryRecord], since_ns: int, until_ns: int | None) -> list[QueryRecord]:
        """Those that are new among what ended in ``[since_ns, until_ns)``, by end, each stream in its own order."""
        ends: dict[str, int] = {}
        found = []
        for record in sorted(records, key=lambda record: record.seq):
            end = ends[record.stream] = max(ended_ns(record), ends.get(record.stream, 0))
            if ended_ns(record) >= since_ns and (until_ns is None or end < until_ns) and self._is_new(record):
                found.append((end, record.stream, record.seq, record))
        return [record for *_, record in sorted(found, key=lambda one: one[:3])]

    def _is_new(self, record: QueryRecord) -> bool:
        mark = self._marks.get(record.stream)
        if mark is not None:
            return record.seq > mark[0]
        if ended_ns(record) >= self._begun_ns:
            return True
        return self._place is not None and (record.ts_ns, record.stream, record.seq) > self._place

    def set_back(self, now_ns: int) -> None:
        """The wall clock was: what ends from now on is new even though it seems to end before this began."""
        self.asof_ns = now_ns
        self._begun_ns = min(self._begun_ns, now_ns)

    def mark(self, record: QueryRecord) -> None:
        self.set_mark(record.stream, record.seq, ended_ns(record))

    def set_mark(self, stream: str, seq: int, end_ns: int) -> None:
        # None is ever forgotten: when a clock is set back, records of streams long gone are met again.
        known, end = self._marks.pop(stream, (-1, 0))
        self._marks[stream] = max(known, seq), max(end, end_ns)

    def recent_marks(self) -> dict[str, int]:
        """Of the streams whose records are met again by whoever goes on from here."""
        return {stream: seq for stream, (seq, end) in self._marks.items() if end >= self.asof_ns - LAG_NS}


class RecordFollower:
    """Tells every record of ``model`` that satisfies ``where``, once, from some point on. One use.

    A record that a retry of the gateway makes void may have been told before that. Resumed after a cursor of its
    own, it tells nothing twice but requests of more than a minute that ended shortly before; resumed while it was
    still telling the past, it does not tell requests that were under way then.
    """

    def __init__(self, query_log: QueryLog, clock: Clock, model: str, where: tuple[Condition, ...]) -> None:
        self._log = query_log
        self._clock = clock
        self._model = model
        self._where = where
        self._brisk = _Lane(0)
        self._slow = _Lane(0)
        self._slow_at = 0.0

    async def from_now(self) -> AsyncGenerator[list[Told], None]:
        """What ends from now on."""
        self._begin(self._now_ns())
        async for batch in self._live():
            yield batch

    async def since(self, since_ns: int) -> AsyncGenerator[list[Told], None]:
        """What arrived at ``since_ns`` or later."""
        async for batch in self._past(since_ns, None):
            yield batch

    async def newest(self, since_ns: int, count: int) -> AsyncGenerator[list[Told], None]:
        """The newest ``count`` of those that arrived at ``since_ns`` or later, then what comes."""
        asof_ns = self._now_ns()
        query = self._query(since_ns, asof_ns)
        records = await self._log.records(replace(query, limit=count, newest=True))
        self._begin(asof_ns, Cursor.of(records[-1]).place if records else None)
        for lane in (self._brisk, self._slow):
            for record in records:
                lane.mark(record)
        yield [(record, Cursor.of(record)) for record in records]
        async for batch in self._live():
            yield batch

    async def after(self, cursor: Cursor) -> AsyncGenerator[list[Told], None]:
        """What the reader who got that cursor has not been told."""
        if cursor.asof_ns is None:
            async for batch in self._past(cursor.ts_ns, cursor.place):
                yield batch
            return
        self._brisk = _Lane(cursor.asof_ns, cursor.place)
        for stream, seq in cursor.marks.items():
            self._brisk.set_mark(stream, seq, cursor.asof_ns)
        self._slow = _Lane(cursor.asof_ns - int(SLOW_LOOK_S * 1e9), cursor.place)
        async for batch in self._live():
            yield batch

    def _now_ns(self) -> int:
        return int(self._clock.now() * 1e9)

    def _begin(self, asof_ns: int, place: tuple[int, str, int] | None = None) -> None:
        self._brisk = _Lane(asof_ns, place)
        self._slow = _Lane(asof_ns, place)

    def _query(self, since_ns: int, until_ns: int, *more: Condition) -> RecordQuery:
        return RecordQuery(
            model=self._model,
            since_ns=max(0, since_ns),
            until_ns=until_ns,
            where=(*self._where, *more),
            limit=PAGE,
        )

    async def _past(self, since_ns: int, place: tuple[int, str, int] | None) -> AsyncGenerator[list[Told], None]:
        """What surely had appeared when this began, in the order of arrival; then the rest and what comes.

        Pages are asked for one after the other. What ends meanwhile may arrive behind the page that it belongs to,
        and so is left to the looks that follow.
        """
        asof_ns = self._now_ns()
        async for page in pages(self._log.records, replace(self._query(since_ns, asof_ns), after=place)):
            yield [(record, Cursor.of(record)) for record in page if ended_ns(record) < asof_ns - LAG_NS]
        self._begin(asof_ns, place or (since_ns, "", -1))
        async for batch in self._live():
            yield batch

    async def _live(self) -> AsyncGenerator[list[Told], None]:
        """Batches, one a look, empty ones too."""
        while True:
            now_ns = self._now_ns()
            if now_ns < self._brisk.asof_ns:
                yield await self._look(self._brisk.asof_ns, late=False)  # what ended right before
                self._brisk.set_back(now_ns)
                self._slow.set_back(now_ns)
            late = self._brisk.asof_ns + STEP_NS < now_ns
            yield await self._look(self._brisk.asof_ns + STEP_NS if late else now_ns, late)
            if late:
                continue
            if self._clock.monotonic() >= self._slow_at:
                self._slow_at = self._clock.monotonic() + SLOW_LOOK_S
                yield await self._look_for_slow(now_ns)
            await self._clock.sleep(LOOK_S)

    async def _look(self, until_ns: int, late: bool) -> list[Told]:
        """What ended by ``until_ns``; unless that is ``late``, whatever has appeared."""
        since_ns = self._brisk.asof_ns - LAG_NS
        brisk = Condition("total_ns", Operator.GE, BRISK_NS)
        found: list[QueryRecord] = []
        for query in (
            self._query(since_ns - SLOW_NS, since_ns - BRISK_NS, brisk),
            self._query(since_ns - BRISK_NS, until_ns if late else until_ns + AHEAD_NS),
        ):
            found += [one async for page in pages(self._log.records, query) for one in page if one.total_ns < SLOW_NS]
        fresh = self._brisk.fresh(found, since_ns, until_ns if late else None)
        told = [self._told(record, self._brisk) for record in fresh]
        self._brisk.asof_ns = until_ns
        return told

    async def _look_for_slow(self, now_ns: int) -> list[Told]:
        since_ns = self._slow.asof_ns - LAG_NS
        slow = Condition("total_ns", Operator.GE, SLOW_NS)
        query = self._query(since_ns - LONGEST_NS, now_ns + AHEAD_NS, slow)
        found = [one async for page in pages(self._log.records, query) for one in page]
        told = [self._told(record, self._slow) for record in self._slow.fresh(found, since_ns, None)]
        self._slow.asof_ns = now_ns
        return told

    def _told(self, record: QueryRecord, lane: _Lane) -> Told:
        lane.mark(record)
        return record, Cursor.of(record, self._brisk.asof_ns, self._brisk.recent_marks())
