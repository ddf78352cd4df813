"""Makes the parts of one source: its records, sorted into their hours."""

from __future__ import annotations

import numpy as np

from headway.adapters.querylog.columns import Columns
from headway.adapters.querylog.manifest import HOUR_NS, Account, Holding
from headway.adapters.querylog.part_files import duck
from headway.adapters.querylog.store import PartStore


def add_columns(
    store: PartStore,
    model: str,
    source: str,
    columns: Columns,
    account: Account | None,
    now_ns: int,
    *,
    empty_hour: int | None = None,
) -> None:
    """Put the records of one source into a part for each of their hours, the account into the first."""
    hours = columns.numbers["ts_ns"] // HOUR_NS
    wanted = [int(hour) for hour in np.unique(hours)]
    if not wanted and empty_hour is not None:
        wanted = [empty_hour]
    for hour in wanted:
        rows = columns.take(hours == hour)
        hold = Holding(source=source, rows=len(rows), spans=_spans(rows), account=account)
        with duck(store.place.scratch) as connection:
            connection.register("records", rows.table())
            store.add(model, hour, "SELECT * FROM records", hold, connection, now_ns)
        account = None


def _spans(columns: Columns) -> tuple[tuple[str, int, int], ...]:
    streams, seqs = columns.names["stream"], columns.numbers["seq"]
    found = []
    for place in np.unique(streams.places).tolist():
        own = seqs[streams.places == place]
        found.append((streams.names[place], int(own.min()), int(own.max())))
    return tuple(sorted(found))
