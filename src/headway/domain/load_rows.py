"""Rows for a load test, and the requests made of them. Pure.

A row is what one request asks about: a list or a record (a JSON object). From a sample, a data file or a signature.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, cycle, islice
from typing import Any, Final

from headway.domain.errors import InvalidInput

MOST_ROWS: Final = 100_000
MOST_DISTINCT: Final = 10_000
"""Bodies that are made beforehand."""
MADE_ROWS: Final = 64
"""Made of a signature."""
_NULL: Final = "write null where a value is missing"
_GOLDEN: Final = 0.6180339887498949


def rows_of_sample(body: bytes) -> list[Any] | None:
    """The rows of a sample request; None when it is of another form and only to be sent as it is."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    whole = isinstance(found, list) and len(found) > 0 and all(isinstance(row, list | dict) for row in found)
    return found if whole else None


def rows_of_file(content: bytes, name: str) -> list[Any]:
    """Of a CSV file with a header, of JSON (a list of rows), or of JSON lines. Raises ``InvalidInput``."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"it is not UTF-8 text: byte {error.start + 1}", where=name) from None
    rows: list[Any]
    ending = name.lower().rpartition(".")[2]
    if ending == "csv":
        rows = list(_csv_rows(text, name))
    elif ending in ("jsonl", "ndjson"):
        rows = list(_lines(text, name))
    elif ending == "json":
        found = _json(text, name)
        rows = found if isinstance(found, list) else [found]
    else:
        raise InvalidInput("it is of an unknown kind", where=name, hint="a file that ends in .csv, .json or .jsonl")
    if not rows:
        raise InvalidInput("it holds no rows", where=name)
    if len(rows) > MOST_ROWS:
        raise InvalidInput(f"it holds more than {MOST_ROWS:,} rows", where=name, hint="a part of them does as well")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, list | dict) or not row:
            raise InvalidInput(f"row {number} is no list and no record with values", where=name)
    return rows


def rows_of_signature(signature: Mapping[str, Any]) -> list[Any] | None:
    """Made-up rows that fit what the model says of its inputs; None when it does not say enough."""
    inputs = signature.get("inputs")
    if not (isinstance(inputs, list) and len(inputs) > 0):
        return None
    # Multiples of the golden ratio are spread evenly, and the same every time.
    spread = (number * _GOLDEN % 1.0 for number in count(1))
    shape: Any = inputs[0].get("shape")
    wide = isinstance(shape, list) and len(shape) == 2 and shape[1] != 1
    if len(inputs) == 1 and (wide or inputs[0].get("name") == "X"):
        if not (isinstance(shape, list) and len(shape) == 2 and isinstance(shape[1], int) and shape[1] > 0):
            return None
        return [[_cell(inputs[0], next(spread)) for _ in range(shape[1])] for _ in range(MADE_ROWS)]
    return [{str(one["name"]): _cell(one, next(spread)) for one in inputs} for _ in range(MADE_ROWS)]


def bodies(rows: Sequence[Any], sizes: Sequence[int]) -> list[bytes]:
    """A body of so many rows for each of ``sizes``, the rows in turn.

    Of many sizes, those of one size come again and again: more than :data:`MOST_DISTINCT` would only fill memory.
    """
    endless = cycle(rows)
    made: dict[int, list[bytes]] = defaultdict(list)
    counts: Counter[int] = Counter()
    most = len(sizes) if len(sizes) <= MOST_DISTINCT else max(1, MOST_DISTINCT // len(set(sizes)))
    found = []
    for size in sizes:
        own = made[size]
        if len(own) < most:
            own.append(json.dumps(list(islice(endless, size)), separators=(",", ":")).encode())
        found.append(own[counts[size] % most])
        counts[size] += 1
    return found


def _cell(spec: Mapping[str, Any], part: float) -> Any:
    """``part``: from 0 to 1."""
    kind = str(spec.get("datatype", "FP64"))
    if kind == "BOOL":
        return part < 0.5
    if kind == "BYTES":
        return "abc"[int(part * 3)]
    return int(part * 10) if "INT" in kind else round(part * 10, 3)


class _NoNumber(Exception):
    """``NaN`` or an infinity, which Python writes and JSON does not have."""


def _no_number(word: str) -> Any:
    raise _NoNumber(word)


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text, parse_constant=_no_number)
    except json.JSONDecodeError as error:
        raise InvalidInput(f"this is not JSON: {error.msg}", where=f"{name}:{error.lineno}:{error.colno}") from None
    except _NoNumber as error:
        raise InvalidInput(f"JSON has no {error}", where=name, hint=_NULL) from None
    except RecursionError:
        raise InvalidInput("it is nested too deep", where=name) from None


def _lines(text: str, name: str) -> Iterator[Any]:
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                yield json.loads(line, parse_constant=_no_number)
            except _NoNumber as error:
                raise InvalidInput(f"JSON has no {error}", where=f"{name}:{number}", hint=_NULL) from None
            except (ValueError, RecursionError):
                raise InvalidInput("this line is not JSON", where=f"{name}:{number}") from None


def _csv_rows(text: str, name: str) -> Iterator[dict[str, Any]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, None)
        if header is None:
            return
        if len(set(header)) != len(header) or not all(header):
            raise InvalidInput("the header names a column twice, or not at all", where=f"{name}:1")
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise InvalidInput(f"{len(cells)} cells under {len(header)} columns", where=f"{name}:{reader.line_num}")
            yield {column: _value(cell) for column, cell in zip(header, cells, strict=True)}
    except csv.Error as error:
        raise InvalidInput(f"this is not CSV: {error}", where=f"{name}:{reader.line_num}") from None


def _value(cell: str) -> Any:
    if cell.lower() in ("", "nan", "inf", "-inf"):  # which JSON does not have
        return None
    if cell in ("true", "True", "false", "False"):
        return cell in ("true", "True")
    for kind in (int, float):
        try:
            return kind(cell)
        except ValueError:
            continue
    return cell
