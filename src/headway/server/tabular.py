"""Decoded JSON rows, checked and made uniform before they may reach a model.

Numbers in JSON become float64, whole or not: JSON does not tell 5 from 5.0, and what a model answers must
not depend on it. ``null`` among numbers is NaN, booleans are 0 and 1. Rows of strings become an array of
objects; strings and numbers in one row need a DataFrame, which keeps a type for each column.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from headway.domain.errors import InvalidRequest
from headway.server.inputs import ROWS_HINT, Form, Inputs, row_width, tensor, whole
from headway.server.model import Columns, InputKind

MAX_COLUMNS = 65_536
"""Columns that have names, or a type each; plain rows of numbers may be wider."""
_NUMBERS = frozenset({int, float, bool, type(None)})
MIXED_HINT = "annotate X as pandas.DataFrame in the model to take columns of different types"


def tabular(
    rows: Any, columns: Sequence[Any] | None, kind: InputKind, known_columns: tuple[str, ...] | None = None
) -> Inputs:
    """Decoded JSON rows, as lists or as records, for a model of that ``kind``. Raises ``InvalidRequest``.

    ``known_columns`` are the model's own: named columns are put into their order, missing ones refused but for those
    that the model calls optional.
    """
    if not isinstance(rows, list):
        raise InvalidRequest("rows must be a JSON array", hint=ROWS_HINT)
    if kind is InputKind.LISTS:
        if columns is not None:
            raise InvalidRequest("this model takes plain lists, no columns", where="columns")
        return whole(rows)
    if not rows:
        raise InvalidRequest("no rows", hint=ROWS_HINT)
    if all(type(row) is dict for row in rows):
        if columns is not None:
            raise InvalidRequest("rows are records, which name their columns already", where="columns")
        named, rows = _records(rows)
        names: tuple[str, ...] | None = named
    else:
        for index, row in enumerate(rows):
            if type(row) is not list:
                raise InvalidRequest(f"row {index} is {type_name(row)}, not a list", hint=ROWS_HINT)
        names = None if columns is None else _names(columns)
    width = row_width(rows)
    if names is not None and len(names) != width:
        raise InvalidRequest(f"{len(names)} columns, but rows have {width} values", where="columns")
    if names is not None or kind.by_column:
        check_columns(width)
    if known_columns is not None:
        names, rows = in_order(names, rows, known_columns)
    if kind is InputKind.R_FRAME:
        return Inputs(Form.CELLS, rows, len(rows), names, width, _vector_kinds(rows, names))
    if kind is InputKind.FRAME:
        kinds = tuple(frozenset(map(type, column)) for column in zip(*rows, strict=True))
        _check_integers(rows)
        return Inputs(Form.CELLS, rows, len(rows), names, width, kinds)
    return _uniform(rows, names, width, kind)


def check_columns(count: int) -> None:
    """Raise ``InvalidRequest`` for more than :data:`MAX_COLUMNS`."""
    if count > MAX_COLUMNS:
        raise InvalidRequest(f"{count} columns; at most {MAX_COLUMNS} can be told apart")


def _names(columns: Any) -> tuple[str, ...]:
    if not isinstance(columns, list) or not all(type(c) is str for c in columns):
        raise InvalidRequest("columns must be a list of strings", where="columns")
    names = tuple(columns)
    if len(set(names)) != len(names):
        raise InvalidRequest("a column is named twice", where="columns")
    return names


def _records(records: list[dict[str, Any]]) -> tuple[tuple[str, ...], list[list[Any]]]:
    names = tuple(records[0])
    wanted = records[0].keys()
    rows = []
    for index, record in enumerate(records):
        if record.keys() != wanted:
            odd = sorted(record.keys() ^ wanted)[:5]
            raise InvalidRequest(f"record {index} and record 0 differ in the keys {', '.join(map(repr, odd))}")
        rows.append([record[name] for name in names])
    return names, rows


def in_order(
    names: tuple[str, ...] | None, rows: list[list[Any]], known: tuple[str, ...]
) -> tuple[tuple[str, ...] | None, list[list[Any]]]:
    """``names`` and ``rows`` in the order of the ``known`` columns; other names raise ``InvalidRequest``."""
    if names is None:
        return (known if len(known) == len(rows[0]) else None), rows
    if names == known:
        return names, rows
    if isinstance(known, Columns) and known.optional:
        known = tuple(n for n in known if n in names or n not in known.optional)
    missing = [n for n in known if n not in names]
    if missing:
        raise InvalidRequest(f"columns are missing: {', '.join(map(repr, missing[:5]))}")
    extra = [n for n in names if n not in known]
    if extra:
        raise InvalidRequest(f"unknown columns: {', '.join(map(repr, extra[:5]))}")
    order = [names.index(n) for n in known]
    return known, [[row[i] for i in order] for row in rows]


def _vector_kinds(rows: list[list[Any]], names: tuple[str, ...] | None) -> tuple[str, ...]:
    """What each column holds, as R's vectors have it: one kind of value, whole numbers being numbers too."""
    kinds = []
    for index, column in enumerate(zip(*rows, strict=True)):
        types = set(map(type, column)) - {type(None)}
        kind = "text" if types == {str} else "truth" if types == {bool} else "number" if types <= _NUMBERS else None
        if kind is None:
            odd = next((t for t in types if t in (list, dict)), None)
            what = "mixes text with numbers or booleans" if odd is None else f"holds {type_name(odd())}"
            name = repr(names[index][:60]) if names is not None else index
            raise InvalidRequest(f"column {name} {what}", hint="a column of a data frame has one type of value")
        kinds.append(kind)
    return tuple(kinds)


def _uniform(rows: list[list[Any]], names: tuple[str, ...] | None, width: int, kind: InputKind) -> Inputs:
    types = {type(cell) for row in rows for cell in row}
    if types <= _NUMBERS:
        return Inputs(Form.NUMBERS, _floats(rows), len(rows), names, width)
    if types == {str}:
        return Inputs(Form.STRINGS, rows, len(rows), names, width)
    if types == {list} and kind is InputKind.ARRAY:
        return tensor(_array(rows), names)
    scalars = _NUMBERS | {str}
    mixed = types <= scalars
    usual = scalars if not mixed else {str} if type(rows[0][0]) is str else _NUMBERS
    odd = ((i, j) for i, row in enumerate(rows) for j, cell in enumerate(row) if type(cell) not in usual)
    i, j = next(odd)
    where = f"row {i}, column {j}"
    if mixed:
        raise InvalidRequest("rows mix strings and numbers", where=where, hint=MIXED_HINT)
    raise InvalidRequest(f"{type_name(rows[i][j])} where a number is wanted", where=where)


def _array(rows: list[list[Any]]) -> Any:
    import numpy

    cells: list[Any] = rows
    while cells and all(type(cell) is list for cell in cells):
        cells = [inner for cell in cells for inner in cell]
    try:
        if set(map(type, cells)) <= _NUMBERS:
            return numpy.array(rows, dtype=numpy.float64)
    except (ValueError, TypeError, OverflowError):
        pass
    raise InvalidRequest("nested rows must be numbers in lists of equal shape")


def _floats(rows: list[list[Any]]) -> list[list[float]]:
    try:
        return [[math.nan if cell is None else float(cell) for cell in row] for row in rows]
    except OverflowError:
        raise InvalidRequest("a number is beyond the range of float64") from None


def _check_integers(rows: list[list[Any]]) -> None:
    for index, row in enumerate(rows):
        for cell in row:
            if type(cell) is int and not -(2**63) <= cell < 2**63:
                raise InvalidRequest("a whole number is beyond 64 bits", where=f"row {index}")


def type_name(value: Any) -> str:
    """What JSON calls ``value``."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean", int: "a number", float: "a number"}
    return names.get(type(value), "null")
