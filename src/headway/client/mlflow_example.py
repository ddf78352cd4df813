"""The input example that was logged with an MLflow model, as a request of ``/predict``. Pure.

MLflow keeps it as a body of ``/invocations`` (``serving_input_example.json``, since 2.14) or, before, in the form that
``saved_input_example_info`` in ``MLmodel`` describes.
Source: MLflow documentation, "Model signatures and input examples".
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

MOST_ROWS: Final = 1000
"""Of an example; a whole training set would make a long warm-up."""
_ROWS: Final = ("inputs", "instances")


def body_of(content: bytes, info: Mapping[str, Any], tensors: tuple[str, ...]) -> bytes | None:
    """The example in ``content`` as a body of ``/predict``; None when it is of a form that no body has.

    ``tensors``: names of the model's inputs where they are several tensors.
    """
    try:
        example = json.loads(content)
    except (ValueError, RecursionError):
        return None
    rows = _rows(_unwrapped(example, info), tensors)
    if rows is None:
        return None
    return json.dumps(_finite(rows), ensure_ascii=False, separators=(",", ":")).encode()


def _unwrapped(example: Any, info: Mapping[str, Any]) -> Any:
    """Without the inference parameters that stand beside it."""
    if not isinstance(example, dict):
        return example
    rest = {key: value for key, value in example.items() if key != "params"}
    if len(rest) == 1:
        ((key, value),) = rest.items()
        if key in (*_ROWS, "dataframe_records", "dataframe_split"):
            return value
    return rest if info.get("params") else example


def _rows(value: Any, tensors: tuple[str, ...]) -> Any:
    if isinstance(value, dict) and tensors:
        return value if set(value) == set(tensors) else None
    if isinstance(value, dict) and isinstance(value.get("data"), list) and set(value) <= {"columns", "data", "index"}:
        return _split(value["data"], value.get("columns"))
    if isinstance(value, dict):
        return _columns(value)
    if not isinstance(value, list) or not value:
        return None
    value = value[:MOST_ROWS]
    if all(isinstance(row, dict) for row in value) or all(isinstance(row, list) for row in value):
        return value
    scalars = not any(isinstance(row, list | dict) for row in value)
    return [[row] for row in value] if scalars else None


def _split(data: list[Any], columns: Any) -> Any:
    data = data[:MOST_ROWS]
    if not data or not all(isinstance(row, list) for row in data):
        return None
    if isinstance(columns, list) and columns and all(isinstance(name, str) for name in columns):
        return [dict(zip(columns, row, strict=False)) for row in data]
    return data


def _columns(value: dict[str, Any]) -> Any:
    """A dict of columns, of one tensor, or one record."""
    if not value:
        return None
    if not all(isinstance(column, list) for column in value.values()):
        return [value]
    if len(value) == 1:
        (column,) = value.values()
        if column and isinstance(column[0], list):
            return column[:MOST_ROWS]
    if len({len(column) for column in value.values()}) != 1:
        return None
    return [dict(zip(value, row, strict=True)) for row in zip(*value.values(), strict=True)][:MOST_ROWS] or None


def _finite(value: Any) -> Any:
    """Without what JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return {key: _finite(one) for key, one in value.items()} if isinstance(value, dict) else value
