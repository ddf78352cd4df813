"""Feedback on its way through segments into parts: rows, and the parts of one source.

Rows lie in parts like records do, in a place of their own beside theirs (``feedback/model=…/hour=…``), by the hour in
which they came.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from headway.adapters.querylog.manifest import HOUR_NS, Holding
from headway.adapters.querylog.part_files import duck
from headway.adapters.querylog.store import PartStore

PLACE: Final = "feedback"
"""No model's folder is called that: theirs begin with ``model=``."""
TYPES: Final[Mapping[str, str]] = {
    "ts_ns": "BIGINT",
    "stream": "VARCHAR",
    "seq": "BIGINT",
    "request_id": "VARCHAR",
    "metric": "VARCHAR",
    "value": "DOUBLE",
    "at_ns": "BIGINT",
}
"""Columns of a file of feedback."""


class FeedbackRow(NamedTuple):
    """One piece of feedback, as :data:`TYPES` has it."""

    ts_ns: int
    """Wall clock when it was written."""
    stream: str
    seq: int
    """Counts the stream's feedback."""
    request_id: str
    metric: str
    value: float
    at_ns: int


def feedback_beside(store: PartStore) -> PartStore:
    """Where the feedback on what ``store`` keeps is kept."""
    return store.beside(PLACE, TYPES)


def rows_in(payload: bytes, stream: str, wall_ns: int) -> list[FeedbackRow]:
    """Of a ``FEEDBACK`` block. Raises ``ValueError``, ``KeyError`` or ``TypeError`` when it makes no sense."""
    block = json.loads(payload)
    first = int(block["first"])
    rows = [
        FeedbackRow(wall_ns, stream, first + place, str(request_id), str(metric), float(value), int(at_ns))
        for place, (request_id, metric, value, at_ns) in enumerate(block["items"])
    ]
    if not all(math.isfinite(row.value) for row in rows):
        raise ValueError("a value that is none")
    return rows


def table_of(rows: Sequence[FeedbackRow]) -> dict[str, NDArray[Any]]:
    """In a form that DuckDB reads; at least one row."""
    kinds = {"VARCHAR": np.dtype(object), "DOUBLE": np.dtype(float), "BIGINT": np.dtype(np.int64)}
    return {
        name: np.array(column, dtype=kinds[kind])
        for (name, kind), column in zip(TYPES.items(), zip(*rows, strict=True), strict=True)
    }


def add_feedback(store: PartStore, model: str, source: str, rows: Iterable[FeedbackRow], now_ns: int) -> None:
    """Put the feedback of one source into a part for each of its hours."""
    for hour, found in groupby(sorted(rows), key=lambda row: row.ts_ns // HOUR_NS):
        of_hour = list(found)
        streams: dict[str, list[int]] = {}
        for row in of_hour:
            streams.setdefault(row.stream, []).append(row.seq)
        spans = tuple((stream, min(seqs), max(seqs)) for stream, seqs in sorted(streams.items()))
        with duck(store.place.scratch) as connection:
            connection.register("feedback", table_of(of_hour))
            hold = Holding(source=source, rows=len(of_hour), spans=spans)
            store.add(model, hour, "SELECT * FROM feedback", hold, connection, now_ns)
