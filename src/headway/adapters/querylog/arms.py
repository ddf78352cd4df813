"""Figures of a split's versions as SQL: requests of files and of memory as one relation, feedback joined to it."""

from __future__ import annotations

# ruff: noqa: S608 - values are parameters; everything else stands here
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import numpy as np
from numpy.typing import NDArray

from headway.adapters.querylog.columns import Columns
from headway.adapters.querylog.feedback_rows import TYPES, FeedbackRow, table_of
from headway.adapters.querylog.questions import FAILED, LOG_GAMMA, TIMED, Files, Statement
from headway.domain.arms import DRAWN, ArmFigures, ArmQuery, ArmTable, Moments

LIVE: Final = "live_requests"
LIVE_FEEDBACK: Final = "live_feedback"
_BUCKET: Final = f"CAST(ceil(ln(greatest(total_ns, 1)) * {1 / LOG_GAMMA!r}) AS INTEGER)"
_COLUMNS: Final = "ts_ns, version, status, cold_start, total_ns, request_id, drawn"
_FIGURES: Final = f"""
SELECT version, count(*), count(*) FILTER (WHERE {FAILED}), min(ts_ns), count(total_ns) FILTER (WHERE timed),
  avg(total_ns / 1e9) FILTER (WHERE timed), var_samp(total_ns / 1e9) FILTER (WHERE timed),
  skewness(total_ns / 1e9) FILTER (WHERE timed)
FROM requests WHERE drawn GROUP BY version"""
_BUCKETS: Final = f"""
SELECT version, {_BUCKET} AS bucket, count(*) FROM requests WHERE drawn AND timed GROUP BY version, bucket"""
_LAST: Final = """
CREATE TEMP TABLE last_feedback AS
SELECT request_id, metric, arg_max(value, {'a': at_ns, 'b': ts_ns, 'c': stream, 'd': seq}) AS value
FROM (FROM_FEEDBACK) GROUP BY request_id, metric"""
_FEEDBACK: Final = """
SELECT version, metric, count(*), avg(value), var_samp(value), bool_and(value IN (0, 1)), skewness(value)
FROM last_feedback JOIN (
  SELECT request_id, arg_max(version, ts_ns) AS version, arg_max(drawn, ts_ns) AS drawn
  FROM requests GROUP BY request_id
) USING (request_id) WHERE drawn GROUP BY version, metric"""
_UNMATCHED: Final = """
SELECT count(*) FROM last_feedback ANTI JOIN requests USING (request_id)"""


def arm_table(
    query: ArmQuery,
    cursor: duckdb.DuckDBPyConnection,
    pieces: Sequence[Columns],
    files: Files,
    feedback: Sequence[FeedbackRow],
    feedback_files: Sequence[Path],
) -> ArmTable:
    """Ask everything of one view of the log. Raises ``duckdb.Error``."""
    judged = bool(feedback or feedback_files)
    statement = Statement()
    requests = _requests(query, statement, cursor, pieces, files, with_ids=judged)

    def ask(select: str) -> list[tuple[Any, ...]]:
        return cursor.execute(f"WITH requests AS ({requests}) {select}", statement.parameters).fetchall()

    figures: dict[str, dict[str, Any]] = {version: {"version": version} for version in query.versions}
    if requests:
        for version, count, errors, first_ns, timed, mean, variance, skew in ask(_FIGURES):
            if version in figures:
                seconds = Moments(timed, mean or 0.0, variance or 0.0, skewness=_finite(skew))
                figures[version] |= {"requests": count, "errors": errors, "first_ns": first_ns, "seconds": seconds}
        buckets: dict[str, dict[int, int]] = {}
        for version, bucket, count in ask(_BUCKETS):
            buckets.setdefault(version, {})[bucket] = count
        for version in figures.keys() & buckets.keys():
            figures[version]["buckets"] = buckets[version]
    told = unmatched = 0
    if judged:
        told = unmatched = _last_feedback(query, cursor, feedback, feedback_files)
        values: dict[str, dict[str, Moments]] = {}
        if requests:
            for version, metric, count, mean, variance, binary, skew in ask(_FEEDBACK):
                values.setdefault(version, {})[metric] = Moments(count, mean, variance or 0.0, binary, _finite(skew))
            unmatched = ask(_UNMATCHED)[0][0]
        cursor.execute("DROP TABLE last_feedback")
        for version in figures.keys() & values.keys():
            figures[version]["feedback"] = values[version]
    arms = {version: ArmFigures(**of) for version, of in figures.items()}
    return ArmTable(query=query, arms=arms, feedback=told, unmatched=unmatched)


def _finite(value: float | None) -> float:
    return 0.0 if value is None or not math.isfinite(value) else value


def _requests(
    query: ArmQuery,
    statement: Statement,
    cursor: duckdb.DuckDBPyConnection,
    pieces: Sequence[Columns],
    files: Files,
    *,
    with_ids: bool,
) -> str:
    """The relation ``requests``; empty when there are none."""
    arms = ", ".join(f"'{arm}'" for arm in DRAWN)
    relations = []
    if files:
        span = statement.span(query.since_ns, query.until_ns)
        drawn = f"(route <> '' AND arm IN ({arms})) AS drawn"
        columns = _COLUMNS.replace("drawn", drawn)
        relations.append(f"SELECT {columns} FROM {files.sql(statement)} WHERE {span}")
    live = _live(query, pieces, with_ids=with_ids)
    if live is not None:
        cursor.register(LIVE, dict(live))
        relations.append(f"SELECT {_COLUMNS} FROM {LIVE}")
    if not relations:
        return ""
    return f"SELECT *, (NOT cold_start AND {TIMED}) AS timed FROM ({' UNION ALL '.join(relations)})"


def _live(query: ArmQuery, pieces: Sequence[Columns], *, with_ids: bool) -> Mapping[str, NDArray[Any]] | None:
    """Requests that are in no file yet; ids, which are dear to make, only where feedback is to be joined."""
    parts: list[tuple[NDArray[Any], ...]] = []
    for columns in pieces:
        ts_ns = columns.numbers["ts_ns"]
        rows = columns.take(np.flatnonzero((ts_ns >= query.since_ns) & (ts_ns < query.until_ns)))
        if not len(rows):
            continue
        arms, routes, numbers = rows.names["arm"], rows.names["route"], rows.numbers
        of_split = np.array([name in DRAWN for name in arms.names], bool)[arms.places]
        routed = np.array([name != "" for name in routes.names], bool)[routes.places]
        ids = np.array(rows.request_ids(), dtype=object) if with_ids else np.full(len(rows), "", dtype=object)
        plain = [numbers[name] for name in ("status", "cold_start", "total_ns")]
        parts.append((numbers["ts_ns"], rows.names["version"].texts(), *plain, ids, of_split & routed))
    if not parts:
        return None
    names = _COLUMNS.split(", ")
    return {name: np.concatenate(column) for name, column in zip(names, zip(*parts, strict=True), strict=True)}


def _last_feedback(
    query: ArmQuery, cursor: duckdb.DuckDBPyConnection, rows: Sequence[FeedbackRow], files: Sequence[Path]
) -> int:
    """Make the table ``last_feedback``, of what came since the span began; how much that is."""
    statement = Statement()
    columns = ", ".join(TYPES)
    relations = []
    if files:
        relations.append(f"SELECT {columns} FROM read_parquet({statement.value([str(path) for path in files])})")
    if rows:
        cursor.register(LIVE_FEEDBACK, dict(table_of(rows)))
        relations.append(f"SELECT {columns} FROM {LIVE_FEEDBACK}")
    source = f"SELECT * FROM ({' UNION ALL '.join(relations)}) WHERE ts_ns >= {statement.value(query.since_ns)}"
    cursor.execute(_LAST.replace("FROM_FEEDBACK", source), statement.parameters)
    told = cursor.execute("SELECT count(*) FROM last_feedback").fetchone()
    return int(told[0]) if told else 0
