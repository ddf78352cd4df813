"""Arrivals of a file: a CSV with a time in each line, such as ``headway log NAME -o csv`` writes.

Columns are known by the header, in any order; others are passed over. ``ts_ns`` (nanoseconds) or ``time`` (seconds, or
2026-05-01T12:00:00.5Z) says when a request came, ``rows`` how many rows it had, ``arm`` that nobody waited for it.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from headway.cli.load_source import MOST_FILE, MOST_RECORDS, UNASKED, Replayed, read
from headway.domain.errors import InvalidInput
from headway.domain.load_shapes import recorded

WHERE: Final = "--replay"
HINT: Final = "headway log NAME -o csv writes one; else a header with time and, if you like, rows"
MOST_ROWS: Final = 100_000
LATEST_S: Final = 1e11
"""In the year 5138."""
TICK_NS: Final = 1_000
"""Arrivals are kept to the microsecond."""


def replayed_file(path: Path, speed: float, rows: int, where: str = WHERE) -> Replayed:
    """The arrivals of the file, ``speed`` times as fast, each with ``rows`` rows where it does not say how many.

    ``where``: the option that named it.
    Raises ``InvalidInput`` for a file that tells none, and where both it and ``rows`` say how many rows.
    """
    if not 0.001 <= speed <= 1000:
        raise InvalidInput(f"{speed:g} times as fast", where="--speed", hint="0.001 to 1000")
    found = sorted(_arrivals(_text(path, where), str(path), rows, where))
    if not found:
        raise InvalidInput("it tells of no request", where=str(path), hint=HINT)
    first_ns = found[0][0]
    offsets_s = tuple(round((at_ns - first_ns) / speed / TICK_NS) * TICK_NS / 1e9 for at_ns, _ in found)
    return Replayed(recorded(offsets_s, offsets_s[-1] + 0.001), tuple(size for _, size in found))


def _text(path: Path, option: str) -> str:
    content = read(path, MOST_FILE, option)
    try:
        if path.suffix == ".gz":
            with gzip.open(io.BytesIO(content)) as packed:
                content = packed.read(MOST_FILE + 1)
            if len(content) > MOST_FILE:
                raise InvalidInput(f"{path} is larger than {MOST_FILE >> 20} MiB unpacked", where=option)
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {path}: {error}", where=option) from None


def _arrivals(text: str, name: str, rows: int, option: str) -> Iterator[tuple[int, int]]:
    """When in nanoseconds, and of how many rows."""
    lines = _lines(text, name)
    _, first = next(lines, (1, []))
    header = [cell.strip() for cell in first]
    clock = next((one for one in ("ts_ns", "time") if one in header), None)
    if clock is None:
        raise InvalidInput("no column says when a request came", where=f"{name}:1", hint=HINT)
    places = {column: header.index(column) for column in (clock, "rows", "arm") if column in header}
    if "rows" in places and rows != 1:
        raise InvalidInput(f"{name} says how many rows each request had", where="--rows", hint="leave --rows out")
    count = 0
    for number, cells in lines:
        if not cells:
            continue
        where = f"{name}:{number}"
        if len(cells) != len(header):
            raise InvalidInput(f"{len(cells)} cells under {len(header)} columns", where=where)
        told = {column: cells[place].strip() for column, place in places.items()}
        if told.get("arm") in UNASKED:
            continue
        count += 1
        if count > MOST_RECORDS:
            raise InvalidInput(f"more than {MOST_RECORDS:,} requests", where=option, hint="replay a shorter time")
        yield _at_ns(told[clock], clock, where), _size(told["rows"], where) if "rows" in told else rows


def _lines(text: str, name: str) -> Iterator[tuple[int, list[str]]]:
    """The cells of each line, with its number."""
    reader = csv.reader(io.StringIO(text, newline=""))
    try:
        for cells in reader:
            yield reader.line_num, cells
    except csv.Error as error:
        raise InvalidInput(f"this is not CSV: {error}", where=f"{name}:{reader.line_num}") from None


def _at_ns(text: str, column: str, where: str) -> int:
    try:
        at_s = int(text[:40]) / 1e9 if column == "ts_ns" else float(text)
        if abs(at_s) < LATEST_S:  # what is no number is not below it
            return int(text) if column == "ts_ns" else round(at_s * 1e9)
    except ValueError:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            pass
        else:
            since = (at if at.tzinfo is not None else at.replace(tzinfo=UTC)) - datetime(1970, 1, 1, tzinfo=UTC)
            return ((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds) * 1_000
    raise InvalidInput(f"{text[:40]!r} is not a time", where=where, hint="seconds, or 2026-05-01T12:00:00Z (UTC)")


def _size(text: str, where: str) -> int:
    # Python takes no number of thousands of digits.
    if not text.isdecimal() or len(text) > 40 or int(text) > MOST_ROWS:
        raise InvalidInput(f"{text[:40]!r} is not a number of rows up to {MOST_ROWS:,}", where=where)
    return max(1, int(text))
