"""The query log on files, asked with DuckDB.

A question first looks at what is *live* (segments, the gateway's latest lines), then asks the store for parts that hold
the rest: what becomes a part in between is left out of the parts by its name. What vanishes before it was read makes
the question start over. Both go to DuckDB as one relation, so quantiles are of all records.

Exact quantiles need every value in memory, 8 bytes each, and those of one window are looked for by one thread. So a
question that does not insist is answered by counting buckets of a DDSketch above ``exact_records``, and above
``EXACT_WINDOW`` for each window: that takes a third less time for few windows, and next to no memory.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, Final, TypeVar

import duckdb
import numpy as np

from headway.adapters.querylog.arms import arm_table
from headway.adapters.querylog.columns import Columns, from_records
from headway.adapters.querylog.compaction import Compaction
from headway.adapters.querylog.feedback_rows import feedback_beside
from headway.adapters.querylog.gateway_lines import Claims
from headway.adapters.querylog.losses import losses_of
from headway.adapters.querylog.manifest import NO_MODEL
from headway.adapters.querylog.questions import (
    FIELDS,
    LIVE,
    LIVE_GROUPS,
    RELATIVE_ERROR,
    SUPERSEDED,
    Files,
    Statement,
    check,
    chosen,
    claimed_sql,
    live_rows,
    records_sql,
    sketched,
    windows_sql,
)
from headway.adapters.querylog.store import Part, PartStore, in_thread
from headway.adapters.querylog.tail import MAX_ROWS, Tail, View
from headway.domain.arms import ArmQuery, ArmTable
from headway.domain.errors import StorageFailed
from headway.domain.names import MODEL_NAME
from headway.domain.query_log import (
    Arm,
    CompactionReport,
    IngestReport,
    Losses,
    QueryRecord,
    RecordQuery,
    Retention,
    Window,
    WindowQuery,
    WindowTable,
)

EXACT_RECORDS: Final = 20_000_000
"""Records in the files of a question above which it is answered by a sketch, unless it insists: 160 MB."""
EXACT_WINDOW: Final = 1_000_000
"""The same for the records of one window, on average."""
MOST_AT_ONCE: Final = 4
"""Questions that are worked on; others wait for their turn."""
_EVER_NS: Final = 2**62
_TRIES: Final = 5
_PART: Final = ""
"""Stands for all parts as a source of records."""
_NOTHING: Final[list[Any]] = [0, 0, 0, None, None]
"""Figures of a window without records."""
T = TypeVar("T")


class DuckdbQueryLog:
    """The query log in ``root``: ``segments/``, ``gateway/``; its parts are in ``store``."""

    def __init__(
        self, root: Path, store: PartStore, *, max_live_rows: int = MAX_ROWS, exact_records: int = EXACT_RECORDS
    ) -> None:
        self._store = store
        self._feedback = feedback_beside(store)
        self._tail = Tail(root / "segments", root / "gateway", max_rows=max_live_rows)
        self._compaction = Compaction(root / "segments", root / "gateway", store)
        self._exact_records = exact_records
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)
        self._database: duckdb.DuckDBPyConnection | None = duckdb.connect(
            config={
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "python_enable_replacements": False,
                "preserve_insertion_order": False,
            }
        )
        self._database.execute("SET GLOBAL parquet_metadata_cache = true")

    async def ingest(self) -> IngestReport:
        """See the port."""
        records, newly_lost = await in_thread(self._tail.look)
        return IngestReport(records=records, newly_lost=newly_lost)

    async def windows(self, query: WindowQuery) -> WindowTable:
        """See the port."""
        check(query.where)

        def ask(source: _Source) -> tuple[tuple[Window, ...], bool, View]:
            exact = query.exact if query.exact is not None else source.rows <= self._most_exact(query)
            return _windows(query, source, sketch=not exact), exact, source.view

        async with self._turns:
            windows, exact, view = await self._ask(query.model, query.since_ns, query.until_ns, ask)
        losses = await self._losses(query.model, view)
        error = 0.0 if exact else RELATIVE_ERROR
        return WindowTable(query=query, windows=windows, exact=exact, relative_error=error, losses=losses)

    def _most_exact(self, query: WindowQuery) -> int:
        windows = -(-(query.until_ns - query.since_ns) // query.window_ns)
        return min(self._exact_records, windows * EXACT_WINDOW)

    async def records(self, query: RecordQuery) -> list[QueryRecord]:
        """See the port."""
        check(query.where)
        if query.limit <= 0:
            return []
        since_ns = query.since_ns if query.after is None else max(query.since_ns, query.after[0])
        async with self._turns:
            return await self._ask(query.model, since_ns, query.until_ns, lambda source: _records(query, source))

    async def arms(self, query: ArmQuery) -> ArmTable:
        """See :class:`headway.ports.arm_log.ArmLog`."""

        def ask(source: _Source) -> ArmTable:
            rows = [row for rows in source.view.feedback for row in rows]
            paths = [part.path for part in source.feedback]
            pieces = source.pieces()  # first: it settles what files leave out
            return arm_table(query, source.cursor, pieces, source.files, rows, paths)

        async with self._turns:
            return await self._ask(query.model, query.since_ns, query.until_ns, ask, with_feedback=True)

    async def losses(self, model: str) -> Losses:
        """See the port."""
        return await self._losses(model, await in_thread(lambda: self._tail.view(model, 0, 0)))

    async def _losses(self, model: str, view: View) -> Losses:
        """What parts and all that is live say of themselves: a view has every live account, whatever its time."""
        if not _is_model(model):
            return Losses(missing=view.lines_missing if model == NO_MODEL else 0)
        stored = await self._store.accounts(model)
        return losses_of([*stored.accounts, *view.accounts]) + Losses(torn=stored.damaged)

    async def compact(self, now_ns: int, retention: Retention) -> CompactionReport:
        """See the port."""
        return await self._compaction.run(now_ns, retention)

    async def close(self) -> None:
        """See the port."""
        database, self._database = self._database, None
        if database is not None:
            database.close()

    async def _ask(
        self,
        model: str,
        since_ns: int,
        until_ns: int,
        question: Callable[[_Source], T],
        *,
        with_feedback: bool = False,
    ) -> T:
        """The answer of ``question`` on all that there is of a model and a time, and on feedback since then."""
        for _ in range(_TRIES):
            view = await in_thread(lambda: self._tail.view(model, since_ns, until_ns))
            parts = await self._store.parts(model, since_ns, until_ns, live=view.names) if _is_model(model) else []
            feedback: list[Part] = []
            if with_feedback and _is_model(model):
                feedback = await self._feedback.parts(model, since_ns, _EVER_NS, live=view.names)
            if self._database is None:
                raise StorageFailed("the query log is closed")
            source = _Source(view, parts, feedback, since_ns, until_ns, self._database.cursor())
            try:
                return await _interruptible(source.cursor, lambda source=source: question(source))  # type: ignore[misc]
            except FileNotFoundError as error:
                gone: Exception = error
            except duckdb.IOException as error:
                if all(part.path.exists() for part in (*parts, *feedback)):
                    raise StorageFailed(f"the query log could not be read: {error}") from error
                gone = error
            except duckdb.Error as error:
                raise StorageFailed(f"the query log could not be asked: {error}") from error
            finally:
                source.cursor.close()
        raise StorageFailed(f"files of the query log vanish while they are read: {gone}") from gone


async def _interruptible(cursor: duckdb.DuckDBPyConnection, work: Callable[[], T]) -> T:
    """``work()`` in a thread; a question that nobody waits for any more is broken off."""
    task = asyncio.ensure_future(in_thread(work))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        while not task.done():
            cursor.interrupt()
            await asyncio.wait([task], timeout=0.02)
        task.exception()
        raise


class _Source:
    """What a question is asked of. Used in one thread."""

    def __init__(
        self,
        view: View,
        parts: Sequence[Part],
        feedback: Sequence[Part],
        since_ns: int,
        until_ns: int,
        cursor: duckdb.DuckDBPyConnection,
    ) -> None:
        self.view = view
        self.feedback = feedback
        self.cursor = cursor
        near = [part for part in parts if part.first_ns < until_ns and part.last_ns >= since_ns]
        inside = [part for part in near if since_ns <= part.first_ns and part.last_ns < until_ns]
        crossing = [part for part in near if part not in inside]
        self.files = Files(tuple(str(part.path) for part in inside), tuple(str(part.path) for part in crossing))
        self.rows = sum(part.rows for part in near)

    def pieces(self) -> list[Columns]:
        """Live records that count; from now on ``files`` leave out records that do not."""
        pieces = list(self.view.pieces())
        if not self.view.claims:
            return [columns for _, columns in pieces]
        claims = Claims(self.view.claims)
        starts: dict[str, int] = defaultdict(int)
        for source, columns in pieces:
            claims.match(columns, source, starts[source])
            starts[source] += len(columns)
        self._match_files(claims)
        starts.clear()
        kept = []
        for source, columns in pieces:
            first, starts[source] = starts[source], starts[source] + len(columns)
            gone = [row - first for row in claims.gone(source) if first <= row < first + len(columns)]
            if gone:
                keep = np.ones(len(columns), bool)
                keep[gone] = False
                columns = columns.take(keep)
            kept.append(columns)
        return kept

    def _match_files(self, claims: Claims) -> None:
        if not self.files:
            return
        statement = Statement()
        sql = claimed_sql(self.view.claims, statement, self.files)
        rows = self.cursor.execute(sql, statement.parameters).fetchall()
        found = from_records([_record("", row) for row in rows])
        claims.match(found, _PART)
        gone = sorted(claims.gone(_PART))
        if gone:
            out = found.take(np.array(gone))
            streams, seqs = out.names["stream"].texts(), out.numbers["seq"]
            self.cursor.register(SUPERSEDED, {"stream": streams, "seq": seqs})
            self.files = replace(self.files, less=True)


def _windows(query: WindowQuery, source: _Source, *, sketch: bool) -> tuple[Window, ...]:
    live = live_rows(query, source.pieces())
    if live is None and not source.files:
        return ()
    if live is not None:
        source.cursor.register(LIVE, dict(live.table))
        if query.by:
            source.cursor.register(LIVE_GROUPS, dict(live.groups))
    statement = Statement()
    sql = windows_sql(query, statement, source.files, live=live is not None, sketch=sketch)
    rows = source.cursor.execute(sql, statement.parameters).fetchall()
    windows = []
    for (number, *group), both in groupby(rows, key=lambda row: row[: 1 + len(query.by)]):
        refused, timed = _NOTHING, _NOTHING
        for row in both:
            is_timed, *figures = row[1 + len(query.by) :]
            refused, timed = (refused, figures) if is_timed else (figures, timed)
        count, values, _, average, found = timed
        quantiles = sketched(found, values) if sketch else found
        p50, p75, p95, p99 = quantiles or (None, None, None, None)
        start_ns = query.since_ns + number * query.window_ns
        windows.append(
            Window(
                start_ns=start_ns,
                end_ns=min(start_ns + query.window_ns, query.until_ns),
                group=tuple(group),
                count=count + refused[0],
                timed=values,
                errors=timed[2] + refused[2],
                average_ns=average,
                p50_ns=p50,
                p75_ns=p75,
                p95_ns=p95,
                p99_ns=p99,
            )
        )
    return tuple(windows)


def _records(query: RecordQuery, source: _Source) -> list[QueryRecord]:
    found: list[QueryRecord] = []
    for columns in source.pieces():
        rows = chosen(columns, query.model, query.where, query.since_ns, query.until_ns)
        ts_ns = columns.numbers["ts_ns"][rows]
        if query.after is not None:
            rows, ts_ns = rows[ts_ns >= query.after[0]], ts_ns[ts_ns >= query.after[0]]
        if query.after is None and len(rows) > query.limit:
            # Those of the last instant that is in are all kept: the order among them is decided below.
            last = np.partition(ts_ns, -query.limit if query.newest else query.limit - 1)[
                -query.limit if query.newest else query.limit - 1
            ]
            rows = rows[ts_ns >= last] if query.newest else rows[ts_ns <= last]
        found += columns.take(rows).records(query.model)
    if source.files:
        statement = Statement()
        sql = records_sql(query, statement, source.files)
        found += [_record(query.model, row) for row in source.cursor.execute(sql, statement.parameters).fetchall()]
    if query.after is not None:
        found = [record for record in found if _place(record) > query.after]
    found.sort(key=_place)
    return found[-query.limit :] if query.newest else found[: query.limit]


def _is_model(name: str) -> bool:
    """Whether there can be parts of it: a name is also a folder's."""
    return MODEL_NAME.fullmatch(name) is not None


def _place(record: QueryRecord) -> tuple[int, str, int]:
    return record.ts_ns, record.stream, record.seq


def _record(model: str, row: Sequence[Any]) -> QueryRecord:
    fields = dict(zip(FIELDS, row, strict=True))
    return QueryRecord(model=model, **{**fields, "arm": Arm(fields["arm"])})
