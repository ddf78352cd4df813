"""A query log in memory, which says what the port means in plain Python. Nothing survives the process."""

from __future__ import annotations

import operator
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from headway.domain.arms import DRAWN, ArmFigures, ArmQuery, ArmTable, Moments
from headway.domain.errors import StorageFailed
from headway.domain.feedback import Feedback
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
from headway.domain.sketch import LatencySketch

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
        self._feedback: dict[str, list[Feedback]] = {}
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

    def say(self, model: str, feedback: Iterable[Feedback]) -> None:
        """Feedback that comes now, in this order."""
        self._feedback.setdefault(model, []).extend(feedback)

    async def arms(self, query: ArmQuery) -> ArmTable:
        """See :class:`headway.ports.arm_log.ArmLog`. Feedback counts as having come at the time that it says."""
        self._check_open()
        inside = [r for r in self._records if r.model == query.model and query.since_ns <= r.ts_ns < query.until_ns]
        by_id = {record.request_id: record for record in inside}
        last: dict[tuple[str, str], Feedback] = {}
        for one in sorted(self._feedback.get(query.model, ()), key=lambda one: one.at_ns):
            if one.at_ns >= query.since_ns:
                last[one.request_id, one.metric] = one
        arms = {version: _figures(version, inside, by_id, last.values()) for version in query.versions}
        unmatched = sum(one.request_id not in by_id for one in last.values())
        return ArmTable(query=query, arms=arms, feedback=len(last), unmatched=unmatched)

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


def _figures(
    version: str, records: Sequence[QueryRecord], by_id: Mapping[str, QueryRecord], feedback: Iterable[Feedback]
) -> ArmFigures:
    own = [r for r in records if _drawn(r) and r.version == version]
    timed = [r.total_ns for r in own if not r.cold_start and (r.status < 400 or r.status in (500, 504))]
    values: dict[str, list[float]] = {}
    for one in feedback:
        record = by_id.get(one.request_id)
        if record is not None and _drawn(record) and record.version == version:
            values.setdefault(one.metric, []).append(one.value)
    return ArmFigures(
        version=version,
        requests=len(own),
        errors=sum(r.status >= 500 or r.status == 429 for r in own),
        first_ns=min((r.ts_ns for r in own), default=None),
        buckets=Counter(LatencySketch.bucket(max(ns, 1)) for ns in timed),
        seconds=replace(_moments([ns / 1e9 for ns in timed]), binary=False),
        feedback={metric: _moments(of) for metric, of in values.items()},
    )


def _drawn(record: QueryRecord) -> bool:
    return record.arm in DRAWN and record.route != ""


def _moments(values: Sequence[float]) -> Moments:
    if not values:
        return Moments(0, 0.0, 0.0)
    variance = statistics.variance(values) if len(values) > 1 else 0.0
    mean, count = statistics.fmean(values), len(values)
    spread = sum((value - mean) ** 2 for value in values) / count
    skewness = 0.0
    if count > 2 and spread > 0:
        third = sum((value - mean) ** 3 for value in values) / count
        skewness = third / spread**1.5 * (count * (count - 1)) ** 0.5 / (count - 2)
    return Moments(count, mean, variance, all(value in (0, 1) for value in values), skewness)


def quantile(values: Sequence[int], q: float) -> float | None:
    """Of sorted ``values``, by linear interpolation between closest ranks (type 7 of Hyndman and Fan)."""
    if not values:
        return None
    place = (len(values) - 1) * q
    low = int(place)
    high = min(low + 1, len(values) - 1)
    return values[low] + (values[high] - values[low]) * (place - low)
