"""CSV bodies: a header line with the column names, then one row per line (RFC 4180)."""

from __future__ import annotations

import csv
import io
import re
from typing import Any, Final

from headway.domain.errors import InvalidRequest
from headway.server.json_text import MAX_VALUES, check_values
from headway.server.tabular import check_columns

_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}").fullmatch
_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?").fullmatch
_TRUTH: Final = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_MISSING: Final = frozenset({"", "NA", "NaN", "nan", "null", "None"})


def parse_csv(body: bytes, max_values: int = MAX_VALUES) -> tuple[list[str], list[list[Any]]]:
    """Column names and rows. A column whose cells are all numbers or missing holds numbers, one of ``True`` and
    ``False`` only booleans, any other text.

    Missing cells (empty, ``NaN``, ``NA``, ``null``) are None. Raises ``InvalidRequest``, or ``PayloadTooLarge``
    for more than ``max_values`` cells.
    """
    check_values(body, max_values, b",\r\n")
    try:
        lines = list(csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True))
    except UnicodeDecodeError:
        raise InvalidRequest("the body is not UTF-8") from None
    except csv.Error as error:
        raise InvalidRequest(f"the body is not valid CSV: {error}") from None
    lines = [line for line in lines if line]
    if len(lines) < 2:
        raise InvalidRequest("the CSV needs a header line and at least one row")
    names, rows = lines[0], lines[1:]
    check_columns(len(names))
    for number, row in enumerate(rows):
        if len(row) != len(names):
            raise InvalidRequest(f"row {number} has {len(row)} values, the header names {len(names)} columns")
    columns = [_typed(list(column)) for column in zip(*rows, strict=True)]
    return names, [list(row) for row in zip(*columns, strict=True)]


def _typed(cells: list[str]) -> list[Any]:
    if cells[0] in _TRUTH and all(cell in _TRUTH for cell in cells):
        return [_TRUTH[cell] for cell in cells]
    values: list[Any] = []
    for cell in cells:
        text = cell.strip()
        if text in _MISSING:
            values.append(None)
        elif _WHOLE(text):
            values.append(int(text))
        elif _NUMBER(text):
            number = float(text)
            if number in (float("inf"), float("-inf")):
                raise InvalidRequest("a number is beyond the range of float64")
            values.append(number)
        else:
            return [None if c == "" else c for c in cells]
    if any(type(v) is float for v in values):
        return [float(v) if type(v) is int else v for v in values]
    return values
