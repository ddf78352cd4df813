"""A query log in memory, which says what the port means in plain Python. Nothing survives the process."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from headway.domain.errors import StorageFailed
from headway.domain.query_log import (
    QUANTILES,
    CompactionReport,
    Condition,
    GroupBy,
    IngestReport,
    Losses,
    Operator,
    QueryRecord,
    RecordQuery,
    Retention,
    Window,
    WindowQuery,
    WindowTable,
)

_HOLDS: Final[Mapping[Operator, Callable[[Any, Any], bool]]] = {
    Operator.EQ: operator.eq,
    Operator.NE: operator.ne,
    Operator.LT: operator.lt,
    Operator.LE: operator.le,
    Operator.GT: operator.gt,
    Operator.GE: operator.ge,
    Operator.LIKE: operator.contains,
}


class MemoryQueryLog:
    """Answers are always exact. ``add`` is how records get in, ``lose`` tells of some that did not."""

    def __init__(self, records: Iterable[QueryRecord] = ()) -> None:
        self._records: list[QueryRecord] = []
        self._lost: dict[str, Losses] = {}
        self._reported: dict[str, Losses] = {}
        self._new = 0
        self._closed = False
        self.add(records)

    def add(self, records: Iterable[QueryRecord]) -> None:
        """What writers would have written."""
        added = list(records)
        self._records = sorted([*self._records, *added], key=_place)
        self._new += len(added)

    def lose(self, model: str, losses: Losses) -> None:
        """From now on, all that is missing for ``model``."""
        self._lost[model] = losses

    async def ingest(self) -> IngestReport:
        records, self._new = self._new, 0
        newly = {model: lost for model, lost in self._lost.items() if lost != self._reported.get(model, Losses())}
        self._reported = dict(self._lost)
        return IngestReport(records=records, newly_lost=newly)

    async def windows(self, query: WindowQuery) -> WindowTable:
        self._check_open()
        groups: dict[tuple[int, tuple[str, ...]], list[QueryRecord]] = {}
        for record in self._chosen(query):
            number = (record.ts_ns - query.since_ns) // query.window_ns
            groups.setdefault((number, _group(record, query.by)), []).append(record)
        windows = tuple(_window(query, *key, groups[key]) for key in sorted(groups))
        return WindowTable(
            query=query, windows=windows, exact=True, relative_error=0.0, losses=await self.losses(query.model)
        )

    async def records(self, query: RecordQuery) -> list[QueryRecord]:
        self._check_open()
        found = [record for record in self._chosen(query) if query.after is None or _place(record) > query.after]
        if query.limit <= 0:
            return []
        return found[-query.limit :] if query.newest else found[: query.limit]

    async def losses(self, model: str) -> Losses:
        return self._lost.get(model, Losses())

    async def compact(self, now_ns: int, retention: Retention) -> CompactionReport:
        """Forgets what is too old; ``max_bytes`` has no meaning here."""
        if retention.max_age_s is not None:
            oldest_ns = now_ns - round(retention.max_age_s * 1e9)
            self._records = [record for record in self._records if record.ts_ns >= oldest_ns]
        return CompactionReport()

    async def close(self) -> None:
        self._closed = True

    def _check_open(self) -> None:
        if self._closed:
            raise StorageFailed("the query log is closed")

    def _chosen(self, query: WindowQuery | RecordQuery) -> list[QueryRecord]:
        return [
            record
            for record in self._records
            if record.model == query.model
            and query.since_ns <= record.ts_ns < query.until_ns
            and all(_meets(record, condition) for condition in query.where)
        ]


def _place(record: QueryRecord) -> tuple[int, str, int]:
    return record.ts_ns, record.stream, record.seq


def _meets(record: QueryRecord, condition: Condition) -> bool:
    value = getattr(record, condition.field)
    return value is not None and _HOLDS[condition.op](value, condition.value)


def _group(record: QueryRecord, by: Sequence[GroupBy]) -> tuple[str, ...]:
    return tuple(str(getattr(record, name)) for name in by)


def _window(query: WindowQuery, number: int, group: tuple[str, ...], records: Sequence[QueryRecord]) -> Window:
    timed = (r for r in records if r.status < 400 or r.status in (500, 504))
    values = sorted(v for r in timed if (v := getattr(r, f"{query.field}_ns")) is not None)
    p50, p75, p95, p99 = (quantile(values, q) for q in QUANTILES)
    start_ns = query.since_ns + number * query.window_ns
    return Window(
        start_ns=start_ns,
        end_ns=min(start_ns + query.window_ns, query.until_ns),
        group=group,
        count=len(records),
        timed=len(values),
        errors=sum(r.status >= 500 or r.status == 429 for r in records),
        average_ns=sum(values) / len(values) if values else None,
        p50_ns=p50,
        p75_ns=p75,
        p95_ns=p95,
        p99_ns=p99,
    )


def quantile(values: Sequence[int], q: float) -> float | None:
    """Of sorted ``values``, by linear interpolation between closest ranks (type 7 of Hyndman and Fan)."""
    if not values:
        return None
    place = (len(values) - 1) * q
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)
