"""Answers of the query log: as the JSON that :mod:`headway.api.schemas` describes, as rows, as CSV. Pure.

Plain dictionaries instead of views: an answer may hold a hundred thousand windows, and a view takes ten times as long.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, Final

from headway.domain.query_conditions import FLAGS, TEXTS
from headway.domain.query_log import GroupBy, Losses, QueryRecord, Window, WindowTable
from headway.domain.tables import Column, ColumnType, Row

_FIGURES: Final = ("average", "p50", "p75", "p95", "p99")
_FIELDS: Final = tuple(QueryRecord.__slots__)

RECORD_COLUMNS: Final = (
    Column("at", ColumnType.NUMBER),
    *(
        Column(
            name,
            ColumnType.TEXT if name in {*TEXTS, "model"} else ColumnType.FLAG if name in FLAGS else ColumnType.INTEGER,
        )
        for name in _FIELDS
    ),
)


def record_values(record: QueryRecord) -> dict[str, Any]:
    """A ``RecordView``."""
    values: dict[str, Any] = {"at": record.ts_ns / 1e9}
    for name in _FIELDS:
        values[name] = getattr(record, name)
    values["arm"] = str(record.arm)
    return values


def record_rows(records: Iterable[QueryRecord]) -> list[Row]:
    """Rows of :data:`RECORD_COLUMNS`."""
    return [tuple(record_values(record).values()) for record in records]


def losses_values(losses: Losses) -> dict[str, int]:
    """A ``LossesView``."""
    return asdict(losses)


def window_values(window: Window, by: Sequence[GroupBy]) -> dict[str, Any]:
    """A ``WindowView``."""
    return {
        "start": window.start_ns / 1e9,
        "end": window.end_ns / 1e9,
        "group": dict(zip(by, window.group, strict=True)),
        "count": window.count,
        "timed": window.timed,
        "errors": window.errors,
        "rate_per_s": window.rate_per_s,
        **_latencies(window),
    }


def _latencies(window: Window) -> dict[str, float | None]:
    found = ((name, getattr(window, f"{name}_ns")) for name in _FIGURES)
    return {f"{name}_ms": None if value is None else value / 1e6 for name, value in found}


def latency_values(table: WindowTable) -> dict[str, Any]:
    """A ``LatencyView``."""
    query = table.query
    return {
        "model": query.model,
        "since": query.since_ns / 1e9,
        "until": query.until_ns / 1e9,
        "window_s": query.window_ns / 1e9,
        "field": str(query.field),
        "by": [str(name) for name in query.by],
        "exact": table.exact,
        "relative_error": table.relative_error,
        "losses": losses_values(table.losses),
        "windows": [window_values(window, query.by) for window in table.windows],
    }


def window_columns(by: Sequence[GroupBy]) -> list[Column]:
    """Of a table of windows; each field that they are split by is a column of its own."""
    return [
        Column("start", ColumnType.NUMBER),
        Column("end", ColumnType.NUMBER),
        *(Column(str(name), ColumnType.TEXT) for name in by),
        *(Column(name, ColumnType.INTEGER) for name in ("count", "timed", "errors")),
        Column("rate_per_s", ColumnType.NUMBER),
        *(Column(f"{name}_ms", ColumnType.NUMBER) for name in _FIGURES),
    ]


def window_rows(table: WindowTable) -> list[Row]:
    """Rows of :func:`window_columns`."""
    rows: list[Row] = []
    for window in table.windows:
        start, end = window.start_ns / 1e9, window.end_ns / 1e9
        counts = (window.count, window.timed, window.errors, window.rate_per_s)
        rows.append((start, end, *window.group, *counts, *_latencies(window).values()))
    return rows


def csv_bytes(rows: Iterable[Row], columns: Sequence[Column] | None = None) -> bytes:
    """Rows as CSV (RFC 4180) in UTF-8, led by the names of ``columns`` if given.

    Nothing stands for what is missing; flags are ``true`` and ``false``. An empty text is missing, too: CSV cannot
    tell the two apart.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    if columns is not None:
        writer.writerow([column.name for column in columns])
    writer.writerows([_cell(cell) for cell in row] for row in rows)
    return text.getvalue().encode("utf-8", "replace")


def _cell(cell: Any) -> Any:
    return str(cell).lower() if isinstance(cell, bool) else cell
