"""What an R model returned, as what every wire format takes: lists, dicts, and for data frames a :class:`Frame`.

Vectors and factors become lists (of labels), matrices lists of rows, named lists dicts. Dates and times become ISO 8601
text, times in UTC; time differences seconds. NA is None, and NaN in numbers. Names of a vector's elements are dropped.
"""

from __future__ import annotations

import datetime
import math
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

from headway.server.r_serial import RValue

_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_SECONDS: Final = {"secs": 1.0, "mins": 60.0, "hours": 3600.0, "days": 86400.0, "weeks": 604800.0}


class Column(list[Any]):
    """One column of a :class:`Frame`."""

    def to_numpy(self) -> Any:
        """As an array: missing numbers are NaN."""
        import numpy

        kinds = set(map(type, self)) - {type(None)}
        if kinds and kinds <= {int, float, bool}:
            missing = None in self
            return numpy.array([math.nan if value is None else value for value in self] if missing else list(self))
        found = numpy.empty(len(self), dtype=object)
        found[:] = self
        return found


class Frame:
    """A data frame, with as much of pandas' manners as the wire formats ask of one."""

    def __init__(self, columns: dict[str, list[Any]], rows: int) -> None:
        self._columns = columns
        self.shape = (rows, len(columns))

    @property
    def columns(self) -> list[str]:
        """Their names."""
        return list(self._columns)

    @property
    def iloc(self) -> Frame:
        """Rows by their places."""
        return self

    def __iter__(self) -> Iterator[str]:
        return iter(self._columns)

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, slice):
            rows = len(range(*item.indices(self.shape[0])))
            return Frame({name: values[item] for name, values in self._columns.items()}, rows)
        return Column(self._columns[item])

    def to_dict(self, orient: str = "records") -> list[dict[str, Any]]:
        """One dict per row."""
        names = self.columns
        return [dict(zip(names, row, strict=True)) for row in zip(*self._columns.values(), strict=True)]


def result_of(value: RValue | None) -> Any:
    """See the module's docstring."""
    if value is None:
        return None
    classes = value.strings("class")
    if value.kind == "raw":
        return value.values
    if value.kind == "list":
        return _list(value, framed="data.frame" in classes)
    found = _atomic(value, classes)
    shape = value.attributes.get("dim")
    return found if shape is None else _nested(found, [int(size) for size in shape.values])


def unboxed(value: RValue | None) -> Any:
    """The same for what is no prediction: vectors of one element are that element."""
    if value is not None and value.kind == "list":
        parts = [unboxed(item) for item in value.values]
        names = value.strings("names")
        return dict(zip(names, parts, strict=True)) if names else parts
    found = result_of(value)
    return found[0] if isinstance(found, list) and len(found) == 1 else found


def _list(value: RValue, *, framed: bool) -> Any:
    parts = [result_of(item) for item in value.values]
    names = value.strings("names")
    if framed:
        rows = value.attributes["rows"]
        assert rows is not None
        return Frame(dict(zip(names, parts, strict=True)), int(rows.values[0]))
    if not names:
        return parts
    return {name or str(place): part for place, (name, part) in enumerate(zip(names, parts, strict=True), 1)}


def _atomic(value: RValue, classes: tuple[str, ...]) -> list[Any]:
    values: list[Any] = value.values
    if "factor" in classes:
        levels = value.strings("levels")
        return [None if code is None else levels[code - 1] for code in values]
    if "Date" in classes:
        return _each(_day, values)
    if "POSIXct" in classes:
        return _each(_instant, values)
    if "difftime" in classes:
        factor = _SECONDS.get(next(iter(value.strings("units")), "secs"), 1.0)
        return [None if number is None else number * factor for number in values]
    if "integer64" in classes:  # of the package bit64: whole numbers in the bytes of doubles
        whole = struct.unpack(f"={len(values)}q", struct.pack(f"={len(values)}d", *values))
        return [None if number == -(2**63) else number for number in whole]
    return values


def _each(convert: Callable[[float], str], values: list[Any]) -> list[str | None]:
    return [convert(number) if number is not None and math.isfinite(number) else None for number in values]


def _day(number: float) -> str:
    try:
        return (_EPOCH + datetime.timedelta(days=math.floor(number))).date().isoformat()
    except OverflowError:
        raise ValueError("a date outside of the years 1 to 9999 has no ISO 8601 form") from None


def _instant(number: float) -> str:
    try:
        found = _EPOCH + datetime.timedelta(microseconds=round(number * 1e6))
    except OverflowError:
        raise ValueError("a time outside of the years 1 to 9999 has no ISO 8601 form") from None
    return found.isoformat().replace("+00:00", "Z")


def _nested(values: list[Any], shape: list[int]) -> list[Any]:
    """Rows first; R keeps the first axis together."""
    if len(shape) == 1:
        return values
    step = shape[0]
    return [_nested(values[row::step], shape[1:]) for row in range(step)]
