"""Tables on their way out: named columns of one type each, and rows. Plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class ColumnType(StrEnum):
    """Any of them may be missing in a row (None)."""

    TEXT = "text"
    INTEGER = "integer"
    """64 bits, signed."""
    NUMBER = "number"
    FLAG = "flag"


@dataclass(frozen=True, slots=True)
class Column:
    """Of a table."""

    name: str
    type: ColumnType


Cell = str | int | float | bool | None
Row = Sequence[Cell]
