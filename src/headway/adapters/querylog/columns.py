"""Records as NumPy columns: what segments and gateway lines become, and what DuckDB is given.

Text of few values is kept as places in a list of names, durations that there are none of as ``NONE_NS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from headway.domain.query_log import Arm, QueryRecord
from headway.domain.query_segments import ID_BYTES

IDS: Final = np.dtype(f"S{ID_BYTES}")

_FIRST: Final = np.zeros(1, np.uint16)

NONE_NS: Final = -1
"""In a column of durations: the request did not get that far."""

NUMBERS: Final[Mapping[str, str]] = {
    "ts_ns": "i8",
    "seq": "i8",
    "status": "i4",
    "rows": "i8",
    "batch": "i4",
    "bytes_in": "i8",
    "bytes_out": "i8",
    "total_ns": "i8",
    "queue_ns": "i8",
    "decode_ns": "i8",
    "predict_ns": "i8",
    "encode_ns": "i8",
    "cold_start": "?",
    "shed": "?",
    "expired": "?",
}
"""Fields of a record that are numbers, and their types."""
DURATIONS: Final = ("queue_ns", "decode_ns", "predict_ns", "encode_ns")
"""Those that may be missing."""
NAMES: Final = ("version", "replica", "stream", "route", "format", "client", "arm")
"""Fields of a record that are text of few values."""


@dataclass(frozen=True, slots=True)
class Names:
    """A column of text: ``names[places[i]]`` is the text of row ``i``."""

    places: NDArray[Any]
    names: tuple[str, ...]

    def __getitem__(self, rows: Any) -> Names:
        return Names(self.places[rows], self.names)

    def text(self, row: int) -> str:
        """Of one row."""
        return self.names[int(self.places[row])]

    def texts(self) -> NDArray[np.object_]:
        """As an array of ``str``."""
        texts: NDArray[np.object_] = np.array(self.names, dtype=object)[self.places]
        return texts

    @classmethod
    def one(cls, name: str, count: int) -> Names:
        """``count`` times the same, in no memory."""
        return cls(np.broadcast_to(_FIRST, count), (name,))

    @classmethod
    def of(cls, texts: Sequence[str]) -> Names:
        """From the texts of each row."""
        known: dict[str, int] = {}
        places = np.fromiter((known.setdefault(text, len(known)) for text in texts), np.int32, len(texts))
        return cls(places, tuple(known) or ("",))


@dataclass(frozen=True, slots=True)
class Columns:
    """Records of one model; every column has ``len(self)`` rows."""

    numbers: Mapping[str, NDArray[Any]]
    names: Mapping[str, Names]
    ids: NDArray[np.bytes_]
    """Request ids, cut to their first 36 bytes."""
    long_ids: Mapping[int, str] = field(default_factory=dict)
    """Row to request id, where it was cut."""

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[Any]) -> Columns:
        """The rows that a mask or a list of places chooses."""
        long_ids: dict[int, str] = {}
        if self.long_ids:
            chosen = np.arange(len(self))[rows].tolist()
            long_ids = {new: self.long_ids[old] for new, old in enumerate(chosen) if old in self.long_ids}
        return Columns(
            {name: values[rows] for name, values in self.numbers.items()},
            {name: values[rows] for name, values in self.names.items()},
            self.ids[rows],
            long_ids,
        )

    def request_ids(self) -> list[str]:
        """Whole, as text."""
        texts = [value.decode("utf-8", "replace") for value in self.ids.tolist()]
        for row, text in self.long_ids.items():
            texts[row] = text
        return texts

    def table(self) -> dict[str, NDArray[Any]]:
        """Every field of :class:`QueryRecord` but ``model``, in a form that DuckDB reads; no value is NULL there."""
        columns: dict[str, NDArray[Any]] = {}
        for name in QueryRecord.__slots__:
            if name in self.numbers:
                values = self.numbers[name]
                columns[name] = np.ma.masked_equal(values, NONE_NS) if name in DURATIONS else values
            elif name in self.names:
                columns[name] = self.names[name].texts()
            elif name == "request_id":
                columns[name] = np.array(self.request_ids(), dtype=object)
        return columns

    def records(self, model: str) -> list[QueryRecord]:
        """As records, in the order of the rows."""
        fields: dict[str, list[Any]] = {name: values.tolist() for name, values in self.numbers.items()}
        for name in DURATIONS:
            fields[name] = [None if value == NONE_NS else value for value in fields[name]]
        for name, column in self.names.items():
            fields[name] = [column.names[place] for place in column.places.tolist()]
        fields["arm"] = [Arm(text) for text in fields["arm"]]
        fields["request_id"] = self.request_ids()
        return [
            QueryRecord(model=model, **dict(zip(fields, values, strict=True)))
            for values in zip(*fields.values(), strict=True)
        ]


def concatenate(parts: Sequence[Columns]) -> Columns:
    """All rows of ``parts`` (at least one), one after the other."""
    if len(parts) == 1:
        return parts[0]
    long_ids: dict[int, str] = {}
    start = 0
    for part in parts:
        long_ids.update({start + row: text for row, text in part.long_ids.items()})
        start += len(part)
    return Columns(
        {name: np.concatenate([part.numbers[name] for part in parts]) for name in NUMBERS},
        {name: concatenate_names([part.names[name] for part in parts]) for name in NAMES},
        np.concatenate([part.ids for part in parts]),
        long_ids,
    )


def concatenate_names(parts: Sequence[Names]) -> Names:
    """All rows of ``parts``, with one list of names."""
    longest = max((part.names for part in parts), key=len)
    if all(part.names == longest[: len(part.names)] for part in parts):
        if len(longest) == 1:
            return Names.one(longest[0], sum(len(part.places) for part in parts))
        return Names(np.concatenate([part.places for part in parts]), longest)
    known: dict[str, int] = {}
    places = []
    for part in parts:
        moved = np.array([known.setdefault(name, len(known)) for name in part.names], np.int32)
        places.append(moved[part.places])
    return Names(np.concatenate(places), tuple(known))


def from_records(records: Iterable[QueryRecord]) -> Columns:
    """The columns of ``records`` (their ``model`` is left out)."""
    rows = list(records)

    def column(name: str, of: Callable[[Any], Any] = lambda value: value) -> list[Any]:
        return [of(getattr(row, name)) for row in rows]

    numbers = {
        name: np.array(
            column(name, lambda value: NONE_NS if value is None else value) if name in DURATIONS else column(name), kind
        )
        for name, kind in NUMBERS.items()
    }
    encoded = [row.request_id.encode() for row in rows]
    long_ids = {place: rows[place].request_id for place, text in enumerate(encoded) if len(text) > ID_BYTES}
    return Columns(
        numbers,
        {name: Names.of(column(name, str)) for name in NAMES},
        np.array([text[:ID_BYTES] for text in encoded], dtype=IDS),
        long_ids,
    )


EMPTY: Final = from_records([])
