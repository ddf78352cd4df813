"""JSON from outside: strict, with errors that say what to do. Duplicate keys are refused, not resolved.

msgspec reads fast but keeps the last of two equal keys. Every key of an object needs a colon, so a text
with as many colons as the decoded value has keys cannot hold a duplicate; only a text with more of them
(colons inside strings, or a duplicate) is read a second time, slowly, by the standard library.
"""

from __future__ import annotations

import json
from typing import Any

import msgspec

from headway.domain.errors import InvalidRequest

_decode = msgspec.json.Decoder().decode


def parse_json(body: bytes) -> Any:
    """The value of ``body``. Raises ``InvalidRequest``."""
    try:
        value = _decode(body)
        check_duplicates(body, value)
    except RecursionError:
        raise InvalidRequest("the JSON is nested too deep") from None
    except ValueError as error:  # msgspec.DecodeError, UnicodeDecodeError, json.JSONDecodeError
        raise explain(error, body) from None
    return value


def explain(error: ValueError, body: bytes) -> InvalidRequest:
    """The error a client can act upon."""
    if not body.strip():
        return InvalidRequest("the body is empty", hint="send JSON, for example [[5.1, 3.5, 1.4, 0.2]]")
    if isinstance(error, UnicodeDecodeError):
        return InvalidRequest("the body is not UTF-8")
    hint = None
    if not isinstance(error, msgspec.ValidationError) and (b"NaN" in body or b"Infinity" in body):
        hint = "NaN and Infinity are not JSON; send null for a missing value"
    return InvalidRequest(f"the body is not valid JSON: {error}", hint=hint)


def check_duplicates(body: bytes, value: Any) -> None:
    """Raise ``InvalidRequest`` when ``body``, which decoded to ``value``, names a key twice in one object."""
    colons = body.count(b":")
    if colons and colons != _keys(value):
        json.loads(body, object_pairs_hook=_refuse_duplicates)


def _keys(value: Any) -> int:
    """How many keys all objects in ``value`` have together."""
    found = 0
    stack = [value]
    while stack:
        item = stack.pop()
        if type(item) is dict:
            found += len(item)
            stack.extend(v for v in item.values() if type(v) is list or type(v) is dict)
        elif type(item) is list:
            stack.extend(v for v in item if type(v) is list or type(v) is dict)
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
