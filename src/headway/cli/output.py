"""What commands print: tables and sentences for people, JSON for programs, errors in one clear block.

Results go to standard output, everything else (progress, notes, errors) to standard error, so that
``headway … -o json | jq`` works.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape

from headway.domain.errors import HeadwayError

if TYPE_CHECKING:
    from headway.api.schemas import Change


class Format(StrEnum):
    """``text`` for people, ``json`` for programs."""

    TEXT = "text"
    JSON = "json"


out = Console(highlight=False, soft_wrap=True, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)

LOG_LINES = 15
"""How much of a replica's log an error shows; ``headway logs`` has the rest."""
GAP = 3
_FRAME = re.compile(r'  File "([^"]+)", line \d+')
_LOADING = re.compile(r"^<frozen |/importlib/__init__\.py$|/headway/server/\w+\.py$")
_IN_BUNDLE = re.compile(r"/\S*/bundles/[0-9a-f]{64}/")


class _Chosen:
    """The format of the running command; errors are printed in it too."""

    format = Format.TEXT


def _remember(value: Format) -> Format:
    _Chosen.format = value
    return value


OutputOption = Annotated[
    Format, typer.Option("-o", "--output", help="text for people, json for programs.", callback=_remember)
]


def is_json() -> bool:
    """Whether the running command was asked for JSON."""
    return _Chosen.format is Format.JSON


def reset(format: Format = Format.TEXT) -> None:  # noqa: A002
    """What holds until the command's own options are read."""
    _Chosen.format = format


def plain(value: Any) -> Any:
    """``value`` with pydantic models turned into JSON values."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def emit_json(value: Any, *, indent: int | None = 2) -> None:
    """``value`` as JSON on standard output."""
    sys.stdout.write(json.dumps(plain(value), indent=indent, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_line(line: str) -> None:
    """One of many lines that may go on for ever, as it is; as ``{"line": ...}`` when JSON was asked for."""
    if is_json():
        emit_json({"line": line}, indent=None)
        return
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def say(text: str) -> None:
    """A line for people on standard output; nothing when JSON was asked for."""
    if not is_json():
        out.print(text)


def note(text: str) -> None:
    """A line for people on standard error; nothing when JSON was asked for."""
    if not is_json():
        err.print(text)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """A table, or the sentence ``empty`` when there is no row.

    Cells are printed as they are, without markup; a cell of several lines becomes one. Columns are as wide as they
    have to be whatever the terminal's width: a row is one line for ``grep`` and ``awk``.
    """
    cells = [[" ".join(str(cell).split()) for cell in row] for row in rows]
    if not cells:
        say(empty)
        return
    widths = [max(cell_len(line[i]) for line in [list(columns), *cells]) for i in range(len(columns))]
    say(f"[bold]{escape(_line(columns, widths))}[/]")
    for row in cells:
        say(escape(_line(row, widths)))


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (width - cell_len(cell) + GAP) for cell, width in zip(cells, widths, strict=True))
    return "".join(padded).rstrip()


def split_text(arms: Iterable[Any]) -> str:
    """``v1 90 %, v2 10 %``; a dash when there is none."""
    return ", ".join(f"{arm.version} {arm.weight} %" for arm in arms) or "-"


def range_text(bounds: Any) -> str:
    """``1-12``: between how many replicas a version is scaled."""
    return f"{bounds.min_replicas}-{bounds.max_replicas}"


def wish_text(change: Change) -> str:
    """``v1 90 %, v2 10 %, 2 replicas each``; where triggers move their number, its bounds."""
    bounds = change.scaling
    if bounds is None:
        return f"{split_text(change.target)}, {count_text(change.replicas, 'replica')} each"
    return f"{split_text(change.target)}, {range_text(bounds)} replicas each"


def count_text(count: int, noun: str) -> str:
    """``1 replica``, ``2 replicas``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def moment(at: float | None) -> str:
    """An instant in UTC, to the second: ``2026-05-01 12:00:00Z``."""
    return "-" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def size(count: int | None) -> str:
    """Bytes as a person says them: ``64.2 MiB``."""
    if count is None:
        return "-"
    value = float(count)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.1f} {unit}" if unit != "B" else f"{int(value)} B"
        value /= 1024
    return f"{value:.1f} GiB"


def print_error(error: HeadwayError) -> None:
    """``error`` on standard error: a block for people, the tree's JSON form for programs."""
    if is_json():
        sys.stderr.write(json.dumps(error.to_dict(), ensure_ascii=False) + "\n")
        return
    err.print(f"[bold red]error:[/] {escape(error.message)}")
    if error.where:
        err.print(f"[bold]where:[/] {escape(error.where)}")
    tail = log_lines(str(error.details.get("log_tail") or ""))
    if tail:
        err.print("[bold]last lines of the log:[/]")
        for line in tail:
            err.print(f"  {escape(line)}", style="dim")
    if error.hint:
        err.print(f"[bold]hint:[/] {escape(error.hint)}")


def log_lines(tail: str) -> list[str]:
    """The last lines of a replica's log as an error shows them; ``headway logs`` has them all, unchanged.

    Of a stack only the frames of the user's own code and libraries stay, with paths from the bundle's root. The
    interpreter's heading is put in other words: it would read as if the command had crashed.
    """
    shown: list[str] = []
    foreign = False
    for line in tail.rstrip().splitlines():
        if frame := _FRAME.match(line):
            foreign = _LOADING.search(frame[1]) is not None
        elif not line.startswith("    "):
            foreign = False
        if not foreign:
            line = _IN_BUNDLE.sub("", line)
            shown.append(line.replace("Traceback (most recent call last):", "the model's stack:"))
    return shown[-LOG_LINES:]
