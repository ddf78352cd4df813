"""JSON from outside: strict, with errors that say what to do. Duplicate keys are refused, not resolved.

msgspec reads fast but keeps the last of two equal keys. Every key of an object needs a colon, so a text
with as many colons as the decoded value has keys cannot hold a duplicate; only a text with more of them
(colons inside strings, or a duplicate) is read a second time, slowly, by the standard library.

A decoded value costs 20 to 60 times the memory of a text like ``[[],[],…]``. The number of values is therefore
bounded before anything is decoded: each but the first of a list or object has a comma before it.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, Final

import msgspec

from headway.domain.errors import InvalidRequest, PayloadTooLarge

MAX_DEPTH: Final = 100
"""Lists and objects within one another. Far below where the interpreter gives up, so that what was read can be
passed on and written as well."""
MAX_VALUES: Final = 2**21
"""Values in one body: 16 bytes each in one of 32 MiB."""

_HALF_PAIR: Final = re.compile(rb"\\u[dD][89a-fA-F]").search
_decode = msgspec.json.Decoder().decode


def parse_json(body: bytes, max_values: int = MAX_VALUES) -> Any:
    """The value of ``body``. Raises ``InvalidRequest``, or ``PayloadTooLarge`` for more than ``max_values``."""
    check_values(body, max_values)
    try:
        value = _decode(body)
        _check_objects(body, value)
    except RecursionError:
        raise _too_deep() from None
    except ValueError as error:  # msgspec.DecodeError, UnicodeDecodeError, json.JSONDecodeError
        raise explain(error, body) from None
    return value


def check_values(body: bytes, max_values: int, separators: bytes = b",") -> None:
    """Raise ``PayloadTooLarge`` when there may be more than ``max_values`` values, going by what separates them."""
    if len(body) >= max_values and sum(body.count(one) for one in separators) >= max_values:
        raise PayloadTooLarge(
            f"more than {max_values} values in one body",
            hint="send fewer rows per request, or numbers as binary tensors (Open Inference Protocol)",
        )


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"the JSON is nested too deep: more than {MAX_DEPTH} lists and objects in one another")


def explain(error: ValueError, body: bytes) -> InvalidRequest:
    """The error a client can act upon."""
    if not body.strip():
        return InvalidRequest("the body is empty", hint="send JSON, for example [[5.1, 3.5, 1.4, 0.2]]")
    if isinstance(error, UnicodeDecodeError):
        return InvalidRequest("the body is not UTF-8")
    if body.startswith((codecs.BOM_UTF8, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in body[:4]:
        return InvalidRequest("the body starts with a byte order mark or is not UTF-8", hint="send plain UTF-8")
    if _HALF_PAIR(body) and ("surrogate" in str(error) or "truncated" in str(error)):
        return InvalidRequest("a string holds half of a surrogate pair (\\ud800 to \\udfff)")
    hint = None
    if not isinstance(error, msgspec.ValidationError) and (b"NaN" in body or b"Infinity" in body):
        hint = "NaN and Infinity are not JSON; send null for a missing value"
    return InvalidRequest(f"the body is not valid JSON: {error}", hint=hint)


def _check_objects(body: bytes, value: Any) -> None:
    """Raise ``InvalidRequest`` when ``body``, which decoded to ``value``, is too deep or names a key twice."""
    colons = body.count(b":")
    if (colons or body.count(b"[") > MAX_DEPTH) and colons != _keys(value):
        json.loads(body, object_pairs_hook=_refuse_duplicates)


def _keys(value: Any) -> int:
    """How many keys all objects in ``value`` have together. Goes level by level: raises when there are too many."""
    found = depth = 0
    level: list[Any] = [value] if type(value) is list or type(value) is dict else []
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        inner: list[Any] = []
        for item in level:
            values = item
            if type(item) is dict:
                found += len(item)
                values = item.values()
            inner.extend(v for v in values if type(v) is list or type(v) is dict)
        level = inner
    return found


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise InvalidRequest(f"key {key[:60]!r} is given twice in one object")
            seen.add(key)
    return found
