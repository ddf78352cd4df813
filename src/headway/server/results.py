"""What models return, on its way out: plain values for JSON, and parts of a batch for each request.

NaN and infinities become ``null`` (JSON has neither). DataFrames become records, Series and arrays lists,
dates ISO 8601 text, bytes text when they are UTF-8. What cannot be encoded is the model's fault: 500, named by type.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import msgspec

from headway.domain.errors import ModelFailed


class NotSplittable(Exception):
    """A result that has not one item for each row: such a model cannot be asked for several requests at once."""


def split(result: Any, sizes: Sequence[int], *, as_lists: bool = True) -> list[Any]:
    """The part of each request, ``sizes`` being their row counts. Raises :class:`NotSplittable`.

    ``as_lists``: arrays become lists first, once for all.
    """
    total = sum(sizes)
    if type(result) is dict and result and all(row_count(value) == total for value in result.values()):
        columns = {name: split(value, sizes, as_lists=as_lists) for name, value in result.items()}
        return [{name: parts[index] for name, parts in columns.items()} for index in range(len(sizes))]
    rows = row_count(result)
    if rows is None or rows != total:
        found = "no rows" if rows is None else f"{rows} rows"
        raise NotSplittable(f"{total} rows in, {found} out ({type(result).__name__})")
    slices = getattr(result, "iloc", None)
    if slices is None:
        slices = to_plain(result) if as_lists else result
    parts, start = [], 0
    for size in sizes:
        parts.append(slices[start : start + size])
        start += size
    return parts


def row_count(result: Any) -> int | None:
    """How many rows ``result`` has; None for what has none."""
    shape = getattr(result, "shape", None)
    if isinstance(shape, tuple):
        return int(shape[0]) if shape else None
    if isinstance(result, list | tuple):
        return len(result)
    return len(result) if hasattr(result, "tolist") and hasattr(result, "__len__") else None


def to_plain(value: Any) -> Any:
    """Plain Python for the outermost layer of ``value``; what lies within is converted while encoding."""
    kind = type(value)
    if kind is list or kind is dict or kind is str or kind is float or kind is int:
        return value
    dtype = getattr(value, "dtype", None)
    if dtype is not None and getattr(dtype, "kind", None) in ("M", "m"):
        return value.astype(str).tolist()
    if hasattr(value, "to_dict") and hasattr(value, "columns"):
        return value.to_dict("records")
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "toarray"):
        return value.toarray().tolist()
    if hasattr(value, "to_dicts"):
        return value.to_dicts()
    return value


def _convert(value: Any) -> Any:
    """msgspec's hook for what it does not know itself."""
    if isinstance(value, bytes):
        return value
    plain = to_plain(value)
    if plain is not value:
        return plain
    if isinstance(value, str | int | float):
        return next(base(value) for base in (str, int, float) if isinstance(value, base))
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, bytearray | memoryview):
        return text_of(bytes(value))
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if hasattr(value, "keys") and hasattr(value, "__getitem__"):
        return {key: value[key] for key in value}
    if hasattr(value, "__iter__"):
        return list(value)
    raise TypeError(type(value).__name__)


def text_of(value: bytes) -> str:
    """UTF-8 text where it is that, else base64."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()


_encode = msgspec.json.Encoder(enc_hook=_convert).encode


def encode_json(value: Any) -> bytes:
    """``value`` as JSON. Raises ``ModelFailed`` that names the type which has no JSON form."""
    try:
        return _encode(value)
    except RecursionError:
        raise ModelFailed("predict returned a value that holds itself, or is nested too deep") from None
    except Exception as error:  # an object's own conversion may raise anything
        raise ModelFailed(
            f"predict returned a value without a JSON form: {error}",
            hint="return an array, a DataFrame, lists, dicts, numbers or strings",
        ) from None
