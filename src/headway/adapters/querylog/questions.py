"""Questions as SQL for DuckDB, and as masks over NumPy columns for what is not in a file yet.

Both say the same of a condition: it is met where the field has a value for which it holds, so never by a duration
that there is none of. Text is compared by code points. Nothing of a question but its values comes from outside, and
values are passed as parameters.
"""

from __future__ import annotations

# ruff: noqa: S608 - values are parameters; names come from enumerations and from the fields of a record
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headway.adapters.querylog.columns import DURATIONS, NAMES, NONE_NS, NUMBERS, Columns
from headway.adapters.querylog.gateway_lines import Claim
from headway.domain.errors import InvalidInput
from headway.domain.query_log import QUANTILES, Condition, GroupBy, Operator, QueryRecord, RecordQuery, WindowQuery
from headway.domain.query_segments import ID_BYTES
from headway.domain.sketch import LatencySketch

FIELDS: Final = tuple(name for name in QueryRecord.__slots__ if name != "model")
"""Columns of a file of records."""
RELATIVE_ERROR: Final = LatencySketch.RELATIVE_ERROR
"""Of quantiles from sketches."""
LIVE: Final = "live_rows"
LIVE_GROUPS: Final = "live_groups"
SUPERSEDED: Final = "superseded"
"""Names of the tables that a question brings along."""
LOG_GAMMA: Final = LatencySketch.LOG_GAMMA
ZERO: Final = -(2**31)
"""The bucket of durations of 0."""
BUCKET: Final = (
    f"CASE WHEN value > 0 THEN CAST(ceil(ln(value) * {1 / LOG_GAMMA!r}) AS INTEGER) WHEN value = 0 THEN {ZERO} END"
)
"""Of a DDSketch (Masson, Rim, Lee: VLDB 2019); NULL where there is no value."""
TIMED: Final = "(status < 400 OR status = 500 OR status = 504)"
FAILED: Final = "(status >= 500 OR status = 429)"

_COMPARE: Final[Mapping[Operator, Callable[[Any, Any], Any]]] = {
    Operator.EQ: operator.eq,
    Operator.NE: operator.ne,
    Operator.LT: operator.lt,
    Operator.LE: operator.le,
    Operator.GT: operator.gt,
    Operator.GE: operator.ge,
    Operator.LIKE: operator.contains,
}
_SQL: Final = {op: op.value if op is not Operator.NE else "<>" for op in Operator if op is not Operator.LIKE}
_BOOLEANS: Final = frozenset(name for name, kind in NUMBERS.items() if kind == "?")


def check(conditions: Sequence[Condition]) -> None:
    """Raise ``InvalidInput`` for a condition that makes no sense."""
    for condition in conditions:
        name, value = condition.field, condition.value
        if name in _BOOLEANS:
            fits, wanted = isinstance(value, bool), "true or false"
        elif name in NUMBERS:
            fits = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63
            wanted = "a whole number of 64 bits"
        elif name in QueryRecord.__slots__:
            fits, wanted = isinstance(value, str), "text"
        else:
            raise InvalidInput(
                f"records have no field {name!r}", where="where", hint=f"fields: {', '.join(QueryRecord.__slots__)}"
            )
        if not fits:
            raise InvalidInput(f"{name} is compared with {wanted}, not with {value!r}", where="where")
        if condition.op is Operator.LIKE and not isinstance(value, str):
            raise InvalidInput(f"{name} is not text: ~ does not apply", where="where")


# -- columns that are in memory --------------------------------------------------------------------


def chosen(columns: Columns, model: str, conditions: Sequence[Condition], since_ns: int, until_ns: int) -> NDArray[Any]:
    """Places of the rows in ``[since_ns, until_ns)`` that meet all ``conditions``."""
    ts_ns = columns.numbers["ts_ns"]
    rows = np.flatnonzero((ts_ns >= since_ns) & (ts_ns < until_ns))
    for condition in conditions:
        if not len(rows):
            break
        rows = rows[_meets(columns, model, rows, condition)]
    return rows


def _meets(columns: Columns, model: str, rows: NDArray[Any], condition: Condition) -> NDArray[np.bool_]:
    name, value, compare = condition.field, condition.value, _COMPARE[condition.op]
    if name == "model":
        return np.full(len(rows), compare(model, value))
    if name in NAMES:
        column = columns.names[name]
        by_name: NDArray[np.bool_] = np.array([compare(text, value) for text in column.names], bool)
        return np.asarray(by_name[column.places[rows]], bool)
    if name == "request_id":
        return _ids_meet(columns, rows, condition)
    numbers = columns.numbers[name][rows]
    met: NDArray[np.bool_] = np.asarray(compare(numbers, value), bool)
    if name in DURATIONS:
        met &= numbers != NONE_NS
    return met


def _ids_meet(columns: Columns, rows: NDArray[Any], condition: Condition) -> NDArray[np.bool_]:
    ids, text, compare = columns.ids[rows], str(condition.value), _COMPARE[condition.op]
    encoded = text.encode("utf-8", "surrogatepass")
    met: NDArray[np.bool_]
    if condition.op is Operator.LIKE:
        met = np.strings.find(ids, encoded) >= 0
    else:
        met = compare(ids, np.bytes_(encoded))
    if columns.long_ids or len(encoded) >= ID_BYTES:
        for place in np.flatnonzero(np.strings.str_len(ids) == ID_BYTES).tolist():
            row = int(rows[place])
            whole = columns.long_ids.get(row) or columns.ids[row].decode("utf-8", "replace")
            met[place] = compare(whole, text)
    return met


@dataclass(frozen=True, slots=True)
class LiveRows:
    """What a question needs of rows in memory, for DuckDB to read."""

    table: Mapping[str, NDArray[Any]]
    """``ts_ns``, ``status``, ``value`` and ``place``, which names a row of ``groups``."""
    groups: Mapping[str, NDArray[Any]]
    """``place``, ``g0``, ``g1``, …"""


def live_rows(query: WindowQuery, chunks: Sequence[Columns]) -> LiveRows | None:
    """The rows of ``chunks`` that ``query`` is about; None: there are none."""
    value_field = f"{query.field}_ns"
    pieces: list[tuple[NDArray[Any], ...]] = []
    known: dict[tuple[str, ...], int] = {}
    for columns in chunks:
        rows = chosen(columns, query.model, query.where, query.since_ns, query.until_ns)
        if len(rows):
            numbers = columns.numbers
            places = _group_places(columns, rows, query.by, known)
            pieces.append((numbers["ts_ns"][rows], numbers["status"][rows], numbers[value_field][rows], places))
    if not pieces:
        return None
    joined = (np.concatenate(column) for column in zip(*pieces, strict=True))
    table = dict(zip(("ts_ns", "status", "value", "place"), joined, strict=True))
    if (table["value"] == NONE_NS).any():
        table["value"] = np.ma.masked_equal(table["value"], NONE_NS)
    groups: dict[str, NDArray[Any]] = {"place": np.fromiter(known.values(), np.int32, len(known))}
    for number in range(len(query.by)):
        groups[f"g{number}"] = np.array([group[number] for group in known], dtype=object)
    return LiveRows(table, groups)


def _group_places(
    columns: Columns, rows: NDArray[Any], by: Sequence[GroupBy], known: dict[tuple[str, ...], int]
) -> NDArray[np.int32]:
    """For each row the place of its group in ``known``, which grows."""
    combined = np.zeros(len(rows), np.int64)
    names: list[Sequence[str]] = []
    for group in by:
        if group is GroupBy.STATUS:
            statuses, places = np.unique(columns.numbers["status"][rows], return_inverse=True)
            texts: Sequence[str] = [str(status) for status in statuses.tolist()]
        else:
            column = columns.names[str(group)]
            texts, places = column.names, column.places[rows]
        names.append(texts)
        if len(texts) > 1:
            combined = combined * len(texts) + places
    if not any(len(texts) > 1 for texts in names):
        place = known.setdefault(tuple(texts[0] for texts in names), len(known))
        return np.full(len(rows), place, np.int32)
    present, inverse = _distinct(combined)
    moved = np.empty(len(present), np.int32)
    for number, code in enumerate(present.tolist()):
        group_texts: list[str] = []
        for texts in reversed(names):
            code, place = divmod(code, len(texts))
            group_texts.append(texts[place])
        moved[number] = known.setdefault(tuple(reversed(group_texts)), len(known))
    return moved[inverse]


def _distinct(codes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As ``np.unique`` with the inverse; without sorting where there are few codes."""
    highest = int(codes.max())
    if highest > 4 * len(codes) + 1000:
        present, inverse = np.unique(codes, return_inverse=True)
        return present, inverse
    present = np.flatnonzero(np.bincount(codes, minlength=highest + 1))
    place = np.zeros(highest + 1, np.int64)
    place[present] = np.arange(len(present))
    return present, place[codes]


# -- SQL -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Files:
    """Files of records."""

    inside: tuple[str, ...] = ()
    """Whose records are all of the question's time: looking at it costs a tenth of the answer."""
    crossing: tuple[str, ...] = ()
    less: bool = False
    """Without the records that the table ``superseded`` names."""

    def __bool__(self) -> bool:
        return bool(self.inside or self.crossing)

    def sql(self, statement: Statement) -> str:
        """All of them."""
        return self._sql(self.inside + self.crossing, statement)

    def groups(self, statement: Statement, since_ns: int, until_ns: int) -> list[tuple[str, str]]:
        """Tables, and the condition on the time that each needs."""
        found = [(self._sql(self.inside, statement), "TRUE")] if self.inside else []
        if self.crossing:
            found.append((self._sql(self.crossing, statement), statement.span(since_ns, until_ns)))
        return found

    def _sql(self, paths: tuple[str, ...], statement: Statement) -> str:
        table = f"read_parquet({statement.value(list(paths))})"
        return f"{table} ANTI JOIN {SUPERSEDED} USING (stream, seq)" if self.less else table


@dataclass(slots=True)
class Statement:
    """SQL with its parameters."""

    parameters: dict[str, Any] = field(default_factory=dict)

    def value(self, value: object) -> str:
        """A place for ``value``."""
        name = f"p{len(self.parameters)}"
        self.parameters[name] = value
        return f"${name}"

    def span(self, since_ns: int, until_ns: int) -> str:
        return f"ts_ns >= {self.value(since_ns)} AND ts_ns < {self.value(until_ns)}"

    def conditions(self, model: str, conditions: Sequence[Condition]) -> str:
        """`` AND …`` for each."""
        return "".join(f" AND {self._condition(model, condition)}" for condition in conditions)

    def _condition(self, model: str, condition: Condition) -> str:
        if condition.field == "model":
            return "TRUE" if _COMPARE[condition.op](model, condition.value) else "FALSE"
        column = FIELDS[FIELDS.index(condition.field)]
        if condition.op is Operator.LIKE:
            return f"contains({column}, {self.value(condition.value)})"
        return f"{column} {_SQL[condition.op]} {self.value(condition.value)}"


def windows_sql(query: WindowQuery, statement: Statement, files: Files, *, live: bool, sketch: bool) -> str:
    """Rows ``window, g0, …, timed, count, count of values, errors, average, quantiles``, in order.

    A window's records that are timed and those that are not have a row each: that takes half the time of leaving
    the latter out of some figures. For a sketch the last is a list of buckets: :func:`sketched`.
    """
    groups = [f"g{number}" for number in range(len(query.by))]
    relations: list[str] = []
    columns = "".join(f", {_group_sql(group)} AS {name}" for name, group in zip(groups, query.by, strict=True))
    for table, span in files.groups(statement, query.since_ns, query.until_ns):
        where = f"{span}{statement.conditions(query.model, query.where)}"
        relations.append(f"SELECT ts_ns, status, {query.field}_ns AS value{columns} FROM {table} WHERE {where}")
    if live:
        columns = "".join(f", {name}" for name in groups)
        join = f" JOIN {LIVE_GROUPS} USING (place)" if groups else ""
        relations.append(f"SELECT ts_ns, status, value{columns} FROM {LIVE}{join}")
    if query.window_ns >= query.until_ns - query.since_ns:
        window = "0"  # one for all: of files that are inside nobody has to read when a record was
    else:
        window = f"(ts_ns - {statement.value(query.since_ns)}) // {statement.value(query.window_ns)}"
    keys = ", ".join(["w", *groups, "timed"])
    source = f"SELECT {', '.join([f'{window} AS w', *groups])}, {TIMED} AS timed, {FAILED} AS failed, value"
    source += f" FROM ({' UNION ALL '.join(relations)})"
    if sketch:
        return _sketch_sql(source, keys)
    quantiles = ", ".join(map(str, QUANTILES))
    return (
        f"SELECT {keys}, count(*), count(value), count(*) FILTER (WHERE failed), avg(value),"
        f" quantile_cont(value, [{quantiles}]) FROM ({source}) GROUP BY {keys} ORDER BY {keys}"
    )


def _sketch_sql(source: str, keys: str) -> str:
    """Quantiles by counting buckets: for each the buckets of the two values that it lies between."""
    ranks = [
        f"min(bucket) FILTER (until > {round_to}((known - 1) * {q}))"
        for q in QUANTILES
        for round_to in ("floor", "ceil")
    ]
    return (
        f"WITH counted AS (SELECT {keys}, {BUCKET} AS bucket, count(*) AS records, count(value) AS counted,"
        f" count(*) FILTER (WHERE failed) AS failed, sum(value) AS total FROM ({source}) GROUP BY {keys}, bucket),"
        f" ranked AS (SELECT *, sum(counted) OVER (PARTITION BY {keys} ORDER BY bucket NULLS LAST) AS until,"
        f" sum(counted) OVER (PARTITION BY {keys}) AS known FROM counted)"
        f" SELECT {keys}, sum(records)::BIGINT, sum(counted)::BIGINT, sum(failed)::BIGINT, sum(total) / sum(counted),"
        f" [{', '.join(ranks)}] FROM ranked GROUP BY {keys} ORDER BY {keys}"
    )


def sketched(buckets: Sequence[int | None] | None, timed: int) -> list[float | None]:
    """Quantiles from what the SQL of a sketch returns for one window."""
    if buckets is None:
        return []
    values: list[float | None] = []
    for number, q in enumerate(QUANTILES):
        low, high = buckets[2 * number], buckets[2 * number + 1]
        if low is None or high is None:
            values.append(None)
        else:
            share = (timed - 1) * q % 1
            values.append(_middle(low) * (1 - share) + _middle(high) * share)
    return values


def _middle(bucket: int) -> float:
    return 0.0 if bucket == ZERO else LatencySketch.middle(bucket)


def _group_sql(group: GroupBy) -> str:
    return "CAST(status AS VARCHAR)" if group is GroupBy.STATUS else str(group)


def records_sql(query: RecordQuery, statement: Statement, files: Files) -> str:
    """Records in files: all fields but the model, in the order of ``FIELDS``."""
    where = statement.span(query.since_ns, query.until_ns) + statement.conditions(query.model, query.where)
    if query.after is not None:
        ts_ns, stream, seq = map(statement.value, query.after)
        same_stream = f"stream = {stream} AND seq > {seq}"
        where += f" AND (ts_ns > {ts_ns} OR (ts_ns = {ts_ns} AND (stream > {stream} OR ({same_stream}))))"
    order = " DESC" if query.newest else ""
    return (
        f"SELECT {', '.join(FIELDS)} FROM {files.sql(statement)} WHERE {where}"
        f" ORDER BY ts_ns{order}, stream{order}, seq{order} LIMIT {statement.value(query.limit)}"
    )


def claimed_sql(claims: Sequence[Claim], statement: Statement, files: Files) -> str:
    """Records in files that claims may be about: all fields but the model, in the order of ``FIELDS``."""
    ids = statement.value(sorted({claim.request_id for claim in claims}))
    span = statement.span(min(claim.from_ns for claim in claims), max(claim.until_ns for claim in claims) + 1)
    return f"SELECT {', '.join(FIELDS)} FROM {files.sql(statement)} WHERE {span} AND list_contains({ids}, request_id)"
