"""Takes the values of named fields out of a JSON document, in every shape that wire formats give a table.

A field is a key of an object at any depth; a column, where a ``columns`` or ``names`` list stands beside rows
(MLflow's ``dataframe_split``, Seldon's ``ndarray`` and ``tensor``) or where rows have no names but the model knows its
columns; and a tensor, where an object has the field as its ``name`` (Open Inference Protocol). Where a row cannot be
matched to its columns, all of it goes: better too much than a secret.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Final

REDACTED: Final = "[redacted]"
_HEADS: Final = ("columns", "names", "feature_names", "features_names")
_ROWS: Final = ("data", "ndarray", "instances", "inputs", "tensor", "values", "predictions")
_VALUES: Final = ("data", "values", "contents", "raw")


def redact(document: Any, fields: Collection[str], columns: Sequence[str] | None = None) -> Any:
    """A copy of ``document`` without the values of ``fields``; ``columns`` name the values of bare rows."""
    return _redact(document, frozenset(fields), tuple(columns or ()), ())


def _redact(value: Any, fields: frozenset[str], columns: tuple[str, ...], head: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        return _object(value, fields, columns)
    if not isinstance(value, list):
        return value
    names = head or columns
    if fields & set(names):
        if any(isinstance(item, list) for item in value):
            return [_row(item, fields, columns, names) for item in value]
        if head and not any(isinstance(item, dict) for item in value):
            return _row(value, fields, columns, head)
    return [_redact(item, fields, columns, ()) for item in value]


def _object(value: dict[str, Any], fields: frozenset[str], columns: tuple[str, ...]) -> dict[str, Any]:
    head = next((_names(value[key]) for key in _HEADS if _names(value.get(key))), ())
    tensor = value.get("name") in fields
    found: dict[str, Any] = {}
    for key, item in value.items():
        if key in fields or (tensor and key in _VALUES):
            found[key] = REDACTED
        elif key in _HEADS and _names(item):
            found[key] = item
        elif key in _ROWS and isinstance(item, list):
            found[key] = _redact(item, fields, columns, head)
        elif key in _ROWS and isinstance(item, dict) and head and fields & set(head):
            found[key] = REDACTED  # a flat tensor: which value is which depends on its shape
        else:
            found[key] = _redact(item, fields, columns, ())
    return found


def _names(value: Any) -> tuple[str, ...]:
    return tuple(value) if isinstance(value, list) and all(isinstance(item, str) for item in value) else ()


def _row(row: Any, fields: frozenset[str], columns: tuple[str, ...], names: tuple[str, ...]) -> Any:
    if not isinstance(row, list) or len(row) != len(names):
        return REDACTED
    return [
        REDACTED if name in fields else _redact(item, fields, columns, ())
        for name, item in zip(names, row, strict=True)
    ]
