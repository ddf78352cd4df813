"""A load report as JSON values: what stands in the file beside the page, and what ``-o json`` prints. Pure.

Seconds to the microsecond. ``format`` grows when a field changes its meaning; fields may be added.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any, Final, get_type_hints

import msgspec

from headway.domain.load_reports import LoadPoint, LoadReport

FORMAT: Final = 1
_LEFT_OUT: Final = frozenset({"samples", "offsets_s"})


def to_document(report: LoadReport) -> dict[str, Any]:
    """Everything but the single requests."""
    return {"format": FORMAT, **to_plain(report)}


def report_of(document: Mapping[str, Any]) -> LoadReport:
    """The report of a document, without the single requests. Raises ``msgspec.ValidationError`` for another form."""
    hints = get_type_hints(LoadReport)
    return LoadReport(**{name: msgspec.convert(document[name], hints[name]) for name in hints if name != "samples"})


def point_of(value: Any) -> LoadPoint:
    """The interval that a document has. Raises ``msgspec.ValidationError`` for another form."""
    return msgspec.convert(value, LoadPoint)


def to_plain(value: Any) -> Any:
    """A part of a report as JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: to_plain(getattr(value, one.name)) for one in fields(value) if one.name not in _LEFT_OUT}
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    return value
