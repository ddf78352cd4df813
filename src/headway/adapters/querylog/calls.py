"""Blocks of records as an array of rows: those that are rows, and those of whole calls.

A block of a few records costs its reader more than they do, so what can be is done for all blocks together.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from headway.domain.query_segments import ARM_SHIFT, ID_BYTES

ROW_TYPE: Final = np.dtype(
    [
        *((name, "<i8") for name in ("received", "queued", "started", "predicted", "answered")),
        *((name, "<u4") for name in ("bytes_in", "bytes_out", "rows")),
        *((name, "<u2") for name in ("batch", "status")),
        *((name, "u1") for name in ("flags", "route", "format", "_1")),
        ("client", "<u2"),
        ("_2", "<u2"),
        ("request_id", f"S{ID_BYTES}"),
    ]
)
""":data:`headway.domain.query_segments.ROW`."""


Numbers = list[int]
_decode: Final = msgspec.msgpack.Decoder(
    tuple[
        int, int, int, int, int, int,
        Numbers, Numbers, Numbers, Numbers, Numbers, Numbers, Numbers,
        list[bytes], Numbers, Numbers,
    ]
).decode  # fmt: skip
"""Of ``CALL_FIELDS``."""


@dataclass(slots=True)
class Call:
    """One block."""

    numbers: tuple[int, ...]
    """started, predicted, batch, flags, route, format."""
    columns: NDArray[np.int64]
    """decode, queue, encode, bytes in, bytes out, rows, status, arm, client: a row each."""
    request_ids: list[bytes]

    @property
    def long_ids(self) -> list[tuple[int, bytes]]:
        """Places and whole request ids of those that a row has no room for."""
        if len(max(self.request_ids, key=len)) <= ID_BYTES:
            return []
        return [(place, one) for place, one in enumerate(self.request_ids) if len(one) > ID_BYTES]


def call_of(payload: memoryview, count: int) -> Call:
    """What a block of ``count`` records says. Raises ``ValueError`` when it says something else."""
    *numbers, decode, queue, encode, bytes_in, bytes_out, rows, status, ids, arms, clients = _decode(payload)
    lists = (decode, queue, encode, bytes_in, bytes_out, rows, status, arms or [0] * count, clients or [0] * count)
    if {len(ids), *map(len, lists)} != {count}:
        raise ValueError(f"not {count} records")
    try:
        array("q", numbers)
        columns = np.frombuffer(array("q", [*chain.from_iterable(lists)]), np.int64).reshape(len(lists), count)
    except OverflowError as error:
        raise ValueError(str(error)) from None
    return Call(tuple(numbers), columns, ids)


def rows_of(payloads: Sequence[memoryview | bytes | Call]) -> NDArray[Any]:
    """All their records in order, with long request ids cut."""
    found = []
    for _, group in groupby(payloads, lambda payload: isinstance(payload, Call)):
        mine = list(group)
        calls = [one for one in mine if isinstance(one, Call)]
        packed = [one for one in mine if not isinstance(one, Call)]
        found.append(_rows_of_calls(calls) if calls else np.frombuffer(b"".join(packed), ROW_TYPE))
    return found[0] if len(found) == 1 else np.concatenate(found)


def _rows_of_calls(calls: Sequence[Call]) -> NDArray[Any]:
    counts = np.array([len(call.request_ids) for call in calls])
    numbers = np.repeat(np.array([call.numbers for call in calls], np.int64), counts, axis=0)
    started, predicted, batch, flags, route, form = numbers.T
    columns = np.concatenate([call.columns for call in calls], axis=1)
    decode, queue, encode, bytes_in, bytes_out, sizes, status, arm, client = columns
    spent = np.cumsum(encode)
    starts = np.cumsum(counts) - counts
    before = np.where(starts > 0, spent[starts - 1], 0)
    rows = np.zeros(len(encode), ROW_TYPE)
    rows["received"] = started - queue - decode
    rows["queued"] = started - queue
    rows["started"], rows["predicted"] = started, predicted
    rows["answered"] = predicted + spent - np.repeat(before, counts)
    rows["bytes_in"], rows["bytes_out"], rows["rows"] = bytes_in, bytes_out, sizes
    rows["batch"], rows["status"] = batch, status
    rows["flags"] = flags | arm << ARM_SHIFT
    rows["route"], rows["format"], rows["client"] = route, form, client
    rows["request_id"] = list(chain.from_iterable(call.request_ids for call in calls))
    return rows
