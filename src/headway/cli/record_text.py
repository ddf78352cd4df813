"""Requests for people, one line each. Pure.

Lines come while the columns' widths are not known yet (``-f``), so they are fixed; a longer value moves the rest of
its own line only. On a terminal the columns that do not fit are left out, the least asked for first; a pipe gets them
all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from rich.text import Text

from headway.cli.axes import figure
from headway.cli.latency_text import GAP, printable

if TYPE_CHECKING:
    from headway.api.schemas_query_log import RecordView


@dataclass(frozen=True, slots=True)
class Column:
    """One thing told of each request. ``width``: to the right if positive, to the left if negative."""

    head: str
    width: int
    cell: Callable[[RecordView], str]


def _time(record: RecordView) -> str:
    at = datetime.fromtimestamp(record.ts_ns // 1_000_000 / 1000, UTC)
    return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 1000:03d}Z"


def _phase(name: str) -> Callable[[RecordView], str]:
    def cell(record: RecordView) -> str:
        value = getattr(record, name)
        return "-" if value is None else figure(value / 1e6)

    return cell


def _remarks(record: RecordView) -> str:
    """What was not as usual."""
    flags = [name for name in ("shed", "expired") if getattr(record, name)]
    cold = ["cold start"] if record.cold_start else []
    arm = [] if record.arm == "split" else [record.arm]
    return ", ".join([*flags, *cold, *arm])


COLUMNS: Final = (
    Column("time", -24, _time),
    Column("status", 6, lambda record: str(record.status)),
    Column("version", -7, lambda record: printable(record.version)),
    Column("total ms", 8, _phase("total_ns")),
    Column("queue", 7, _phase("queue_ns")),
    Column("predict", 7, _phase("predict_ns")),
    Column("rows", 5, lambda record: f"{record.rows}"),
    Column("batch", 5, lambda record: f"{record.batch}" if record.batch else "-"),
    Column("format", -14, lambda record: printable(record.format)),
    Column("route", -14, lambda record: printable(record.route)),
    Column("replica", -18, lambda record: printable(record.replica)),
    Column("request id", -36, lambda record: printable(record.request_id)),
    Column("client", -12, lambda record: printable(record.client)),
    Column("remarks", -10, _remarks),
)


def fitting(width: int | None) -> tuple[Column, ...]:
    """The columns that a line of ``width`` holds; all of them for None."""
    if width is None:
        return COLUMNS
    chosen: list[Column] = []
    used = 0
    for column in COLUMNS:
        used += abs(column.width) + (len(GAP) if chosen else 0)
        if used > width:
            break
        chosen.append(column)
    return tuple(chosen or COLUMNS[:1])


def header(columns: tuple[Column, ...]) -> Text:
    """The line above the requests."""
    return _line([column.head for column in columns], columns, "bold")


def line(record: RecordView, columns: tuple[Column, ...]) -> Text:
    """One request: in red when Headway or the model failed the caller, in yellow when it was refused."""
    failed = record.status >= 500 or record.status == 429
    style = "red" if failed else "yellow" if record.status >= 400 else ""
    return _line([column.cell(record) for column in columns], columns, style)


def _line(cells: list[str], columns: tuple[Column, ...], style: str) -> Text:
    padded = (
        cell.rjust(column.width) if column.width > 0 else cell.ljust(-column.width)
        for cell, column in zip(cells, columns, strict=True)
    )
    return Text(GAP.join(padded).rstrip(), style)
