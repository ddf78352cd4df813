"""Formats: what a client wants an answer in, by its ``Accept`` header (RFC 9110, section 12.5.1)."""

from __future__ import annotations

from collections.abc import Collection
from enum import StrEnum


class Format(StrEnum):
    """Media types that answers come in."""

    JSON = "application/json"
    CSV = "text/csv"
    PARQUET = "application/vnd.apache.parquet"
    STREAM = "text/event-stream"


def wanted(accept: str, offered: Collection[Format]) -> Format:
    """The most wanted of ``offered``; JSON where the client leaves the choice, or wants what there is not."""
    ranges = []
    for place, part in enumerate(accept.split(",")):
        name, *parameters = [piece.strip().lower() for piece in part.split(";")]
        ranges.append((-_weight(parameters), place, name))
    for weight, _, name in sorted(ranges):
        if weight < 0 and name in offered:
            return Format(name)
    return Format.JSON


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                return min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                return 0.0
    return 1.0
