"""A request's rows on their way into R: a data frame, column by column, in R's own bytes.

A model may tell its columns (``features`` in model.R: a data frame, whose rows do not matter). Then values become what
its columns are: whole numbers, factors with their levels, dates and times of ISO 8601 text; what does not fit is the
request's fault and named by row and column. Without it a column is numeric, logical or character, as JSON tells.
``null`` is NA throughout.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Sequence
from typing import Any, Final

from headway.domain.errors import InvalidRequest
from headway.server import r_serial
from headway.server.inputs import Table
from headway.server.r_serial import RValue

MOST_NAMED: Final = 10
"""Levels that a refusal lists."""
EXACT: Final = 2**53
"""Whole numbers beyond it are not all float64."""
_FRAME: Final = r_serial.character(["data.frame"])
_NUMBERS: Final = frozenset({int, float, bool})
_EPOCH: Final = datetime.date(1970, 1, 1).toordinal()


class Feature:
    """One column that a model tells."""

    __slots__ = ("_attributes", "_codes", "name", "type")

    def __init__(self, name: str, prototype: RValue | None) -> None:
        self.name = name
        classes = () if prototype is None else prototype.strings("class")
        kind = "character" if prototype is None else prototype.kind
        self.type = next((c for c in ("factor", "Date", "POSIXct") if c in classes), kind)
        levels = () if prototype is None else prototype.strings("levels")
        self._codes = {level: code for code, level in enumerate(levels, 1)}
        attached = {"class": r_serial.character(classes)} if classes else {}
        if self.type == "factor":
            attached = {"levels": r_serial.character(levels), **attached}
        zone = () if prototype is None else prototype.strings("tzone")
        if zone:
            attached["tzone"] = r_serial.character(zone)
        self._attributes = r_serial.attributes(attached) if attached else b""

    def encode(self, values: Sequence[Any]) -> bytes:
        """The column. Raises ``InvalidRequest`` for a value that is not of its type."""
        if self.type == "double" and set(map(type, values)) <= {float, int, type(None)}:
            return r_serial.double(values, len(values))
        convert = _CONVERSIONS[self.type]
        found: list[Any] = []
        for row, value in enumerate(values):
            if value is None or (value != value and self.type != "double"):
                found.append(None)
                continue
            try:
                found.append(convert(self, value))
            except (ValueError, TypeError, OverflowError) as error:
                raise InvalidRequest(
                    f"{_shown(value)} {error}", where=f"row {row}, column {self.name[:60]!r}"
                ) from None
        written: bytes = _WRITERS[self.type](found, self._attributes)
        return written

    def code(self, value: Any) -> int:
        """Of a factor's level; a number stands for the level that is written so."""
        text = value if type(value) is str else f"{value:.15g}" if type(value) in (int, float) else None
        code = self._codes.get(text) if text is not None else None
        if code is None:
            names = ", ".join(list(self._codes)[:MOST_NAMED]) + (", …" if len(self._codes) > MOST_NAMED else "")
            raise ValueError(f"is not one of its levels ({names})")
        return code


def _number(_: Feature, value: Any) -> float:
    if type(value) not in _NUMBERS:
        raise ValueError("where a number is wanted")
    return float(value)


def _whole(_: Feature, value: Any) -> int:
    if type(value) not in _NUMBERS or not abs(value) < 2**31 or value != int(value):
        raise ValueError("where a whole number (32 bits) is wanted")
    return int(value)


def _truth(_: Feature, value: Any) -> bool:
    if value is not True and value is not False and value not in (0, 1):
        raise ValueError("where true or false is wanted")
    return bool(value)


def _text(_: Feature, value: Any) -> str:
    if type(value) is not str:
        raise ValueError("where text is wanted")
    return str(value)


def _day(_: Feature, value: Any) -> float:
    try:
        found = datetime.datetime.fromisoformat(value)
    except (ValueError, TypeError):
        raise ValueError("is not a date such as 2024-05-31") from None
    return float(found.toordinal() - _EPOCH)


def _instant(_: Feature, value: Any) -> float:
    if type(value) in (int, float) and math.isfinite(value):
        return float(value)
    try:
        found = datetime.datetime.fromisoformat(value)
    except (ValueError, TypeError):
        raise ValueError("is not a time such as 2024-05-31T12:00:00Z") from None
    return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()


_CONVERSIONS: Final[dict[str, Any]] = {
    "double": _number,
    "integer": _whole,
    "logical": _truth,
    "character": _text,
    "factor": Feature.code,
    "Date": _day,
    "POSIXct": _instant,
}
_WRITERS: Final[dict[str, Any]] = {
    "double": lambda values, attached: r_serial.double(values, len(values)),
    "integer": lambda values, attached: r_serial.integer(values),
    "logical": lambda values, attached: r_serial.logical(values),
    "character": lambda values, attached: r_serial.character(values),
    "factor": lambda values, attached: r_serial.integer(values, attached, is_object=True),
    "Date": lambda values, attached: r_serial.double(values, len(values), attached, is_object=True),
    "POSIXct": lambda values, attached: r_serial.double(values, len(values), attached, is_object=True),
}


def features_of(prototype: RValue | None) -> tuple[Feature, ...] | None:
    """The columns of ``features``; None where the model tells none. Raises ``ValueError`` for a type not served."""
    if prototype is None:
        return None
    found = tuple(
        Feature(name, column) for name, column in zip(prototype.strings("names"), prototype.values, strict=True)
    )
    odd = next((feature for feature in found if feature.type not in _CONVERSIONS), None)
    if odd is not None:
        raise ValueError(f"features: column {odd.name} is a {odd.type}, which requests cannot bring")
    return found


def frame(table: Table, features: tuple[Feature, ...] | None) -> bytes:
    """``table`` as a data frame. Raises ``InvalidRequest`` for values that have no place in it."""
    if features is None:
        names = table.names or tuple(f"V{number}" for number in range(1, len(table.columns) + 1))
        columns = [_column(name, values) for name, values in zip(names, table.columns, strict=True)]
    else:
        names = tuple(feature.name for feature in features)
        if len(table.columns) != len(names) or (table.names is not None and table.names != names):
            raise InvalidRequest(
                f"{len(table.columns)} columns, the model takes {len(names)}: {', '.join(names)[:300]}"
            )
        columns = [_told(feature, values) for feature, values in zip(features, table.columns, strict=True)]
    try:
        rows = r_serial.integer([None, -table.rows])  # R's short form of the row names 1 to n
        attached = {"names": r_serial.character(names), "row.names": rows, "class": _FRAME}
        return r_serial.items(columns, r_serial.attributes(attached), is_object=True)
    except r_serial.NoData as error:
        raise InvalidRequest(f"a column's name is {error}") from None


def _told(feature: Feature, values: Any) -> bytes:
    """A column of a told type."""
    dtype = getattr(values, "dtype", None)
    if dtype is not None:
        if feature.type == "double" and dtype.kind == "f":
            return r_serial.raw_double(values.astype("f8").tobytes())
        values = values.tolist()
    try:
        return feature.encode(values)
    except (r_serial.NoData, OverflowError) as error:
        raise InvalidRequest(str(error), where=f"column {feature.name[:60]!r}") from None


def _column(name: str, values: Any) -> bytes:
    """A column of the type that its values have. A whole column of nulls is numeric."""
    dtype = getattr(values, "dtype", None)
    try:
        if dtype is not None:
            return _array(values, dtype)
        kinds = set(map(type, values)) - {type(None)}
        if kinds == {bool}:
            return r_serial.logical(values)
        if kinds == {str}:
            return r_serial.character(values)
        return r_serial.double(values, len(values))
    except OverflowError:
        raise InvalidRequest("a number is beyond the range of float64", where=f"column {name[:60]!r}") from None
    except (r_serial.NoData, TypeError) as error:
        raise InvalidRequest(str(error), where=f"column {name[:60]!r}") from None


def _array(values: Any, dtype: Any) -> bytes:
    """A column that came as a tensor: R has 32-bit integers and float64, and takes all others as one of these."""
    if dtype.kind == "f":
        return r_serial.raw_double(values.astype("f8").tobytes())
    if dtype.kind == "b":
        return r_serial.logical(values.tolist())
    if dtype.kind in "iu":
        smallest, largest = int(values.min()), int(values.max())
        if smallest > -(2**31) and largest < 2**31:  # the least of all is R's NA
            return r_serial.raw_integer(values.astype("i4").tobytes())
        if smallest < -EXACT or largest > EXACT:
            raise r_serial.NoData("a whole number beyond 2^53, which R has no type for")
        return r_serial.raw_double(values.astype("f8").tobytes())
    found = values.tolist()
    if any(type(value) is bytes for value in found):
        raise r_serial.NoData("BYTES that are not UTF-8 text")
    return r_serial.character(found)


def _shown(value: Any) -> str:
    return repr(value)[:60] if type(value) in (str, int, float, bool) else f"a {type(value).__name__}"
