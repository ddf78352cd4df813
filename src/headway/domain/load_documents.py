"""A load report as JSON values: what stands in the file beside the page, and what ``-o json`` prints. Pure.

Seconds to the microsecond. ``format`` grows when a field changes its meaning; fields may be added.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from enum import StrEnum
from typing import Any, Final

from headway.domain.load_reports import LoadReport

FORMAT: Final = 1
_LEFT_OUT: Final = frozenset({"samples", "offsets_s"})


def to_document(report: LoadReport) -> dict[str, Any]:
    """Everything but the single requests."""
    return {"format": FORMAT, **_plain(report)}


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: _plain(getattr(value, one.name)) for one in fields(value) if one.name not in _LEFT_OUT}
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
