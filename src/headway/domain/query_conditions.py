"""What people write in a question to the query log, as values: conditions, instants, spans. Pure.

=====================  =======================================================================================
``status>=500``        a condition: field, operator, value. Text takes ``=``, ``!=`` and ``~`` (holds as a part),
                       flags ``=`` and ``!=``, numbers everything but ``~``.
``total>250ms``        phases may be named without ``_ns``; a duration has a unit, or is in nanoseconds.
``30m``, ``7d``        a span; as an instant: that long ago.
``2026-01-02T03:04Z``  an instant (RFC 3339); seconds since the epoch are one too.
=====================  =======================================================================================

Every function raises ``InvalidInput`` with ``where`` as its place. A condition on a phase that a request did not
reach holds for no value, whatever the operator, as in SQL.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

from headway.domain.errors import InvalidInput
from headway.domain.quantities import byte_count, seconds, span_seconds
from headway.domain.query_log import Arm, Condition, GroupBy, LatencyField, Operator

TEXTS: Final = ("version", "replica", "stream", "request_id", "route", "format", "client", "arm")
NUMBERS: Final = ("ts_ns", "seq", "status", "rows", "batch")
SIZES: Final = ("bytes_in", "bytes_out")
DURATIONS: Final = ("total_ns", "queue_ns", "decode_ns", "predict_ns", "encode_ns")
FLAGS: Final = ("cold_start", "shed", "expired")
FIELDS: Final = (*TEXTS, *NUMBERS, *SIZES, *DURATIONS, *FLAGS)
"""Every field of a record but ``model``, which a question names once."""

MAX_CONDITIONS: Final = 20
MAX_WINDOWS: Final = 100_000
"""Windows in one answer, of all groups together."""
MIN_WINDOW_NS: Final = 100_000_000
_MAX_TEXT: Final = 500
_INT64: Final = 2**63 - 1
_LATEST_S: Final = 9_000_000_000
"""Instants end in the year 2255: nanoseconds since the epoch fit 64 bits."""
_EARLIEST_S: Final = 100_000_000
"""An instant before 1973 is more likely a span without its unit."""

_CONDITION: Final = re.compile(r"\s*(?P<field>[A-Za-z_]+)\s*(?P<op>!=|<=|>=|==?|<|>|~)\s*(?P<value>.*?)\s*", re.DOTALL)
_EPOCH: Final = re.compile(r"\d{1,13}(?:\.\d{1,9})?", re.ASCII)
_RFC3339: Final = re.compile(
    r"(?P<day>\d{4}-\d\d-\d\d)[Tt ](?P<clock>\d\d:\d\d(?::\d\d)?)(?:\.(?P<part>\d{1,9}))?"
    r"(?P<zone>[Zz]|[+ -]\d\d:\d\d)?",
    re.ASCII,
)
_EPOCH_START: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SPANS_HINT: Final = "write for example 30s, 5m, 2h, 1d12h or 7d"
_CONDITION_HINT: Final = "write for example status>=500, total>250ms, route~predict or shed=true"


def conditions(texts: Sequence[str], *, where: str = "?where") -> tuple[Condition, ...]:
    """``status>=500`` and the like; all of them have to hold."""
    if len(texts) > MAX_CONDITIONS:
        raise InvalidInput(f"{len(texts)} conditions; at most {MAX_CONDITIONS}", where=where)
    return tuple(condition(text, where=where) for text in texts)


def condition(text: str, *, where: str = "?where") -> Condition:
    """One condition, its field, operator and value checked against one another."""
    found = _CONDITION.fullmatch(text) if len(text) <= _MAX_TEXT else None
    if found is None:
        raise InvalidInput(f"{text[:60]!r} is not a condition", where=where, hint=_CONDITION_HINT)
    name, value = found["field"], found["value"]
    name = f"{name}_ns" if f"{name}_ns" in DURATIONS else name
    if name not in FIELDS:
        near = difflib.get_close_matches(name[:60], FIELDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"fields: {', '.join(FIELDS)}"
        raise InvalidInput(f"{name[:60]!r} is no field of a record", where=where, hint=hint)
    op = Operator("=" if found["op"] == "==" else found["op"])
    allowed = _operators(name)
    if op not in allowed:
        raise InvalidInput(f"{name} cannot be compared with {op}", where=where, hint=f"it takes {' '.join(allowed)}")
    return Condition(name, op, _value(name, op, value, where))


def _operators(name: str) -> tuple[Operator, ...]:
    if name in TEXTS:
        return (Operator.EQ, Operator.NE, Operator.LIKE)
    if name in FLAGS:
        return (Operator.EQ, Operator.NE)
    return tuple(op for op in Operator if op is not Operator.LIKE)


def _value(name: str, op: Operator, text: str, where: str) -> str | int | bool:
    if name in TEXTS:
        if op is Operator.LIKE and not text:
            raise InvalidInput(f"{name}~ needs a text to look for", where=where)
        if name == "arm" and op is not Operator.LIKE and text not in set(Arm):
            raise InvalidInput(f"{text[:60]!r} is no arm", where=where, hint=f"arms: {', '.join(Arm)}")
        return text
    if name in FLAGS:
        if text.lower() not in {"true", "false"}:
            raise InvalidInput(f"{name} is true or false, not {text[:60]!r}", where=where)
        return text.lower() == "true"
    number = _number(name, text, where)
    if number > _INT64:
        raise InvalidInput(f"{text[:60]!r} is too large for {name}", where=where)
    return number


def _number(name: str, text: str, where: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= 19:
        return int(text)
    try:
        if name in DURATIONS:
            return round(seconds(text) * 1e9)
        if name in SIZES:
            return byte_count(text)
    except ValueError as error:
        raise InvalidInput(f"{name}: {error}", where=where) from None
    raise InvalidInput(f"{name} is a whole number, not {text[:60]!r}", where=where)


def span_s(text: str, *, where: str | None = None) -> float:
    """``7d`` -> 604800.0, ``1d12h``, ``90s``: a length of time, in seconds."""
    try:
        return span_seconds(text)
    except ValueError as error:
        message, _, hint = str(error).partition("; ")
        raise InvalidInput(message, where=where, hint=hint) from None


def instant_ns(text: str, now_ns: int, *, where: str | None = None) -> int:
    """An instant, or a span before ``now_ns``; nanoseconds since the epoch, never below 0."""
    text = text.strip()
    if text == "now":
        return now_ns
    if _EPOCH.fullmatch(text):
        at_s = Decimal(text)
        if 0 < at_s < _EARLIEST_S:
            raise InvalidInput(f"{text} has no unit", where=where, hint=f"{_SPANS_HINT}; or seconds since the epoch")
        if at_s > _LATEST_S:
            raise InvalidInput(f"{text} is too late", where=where, hint="instants are in seconds since the epoch")
        return int(at_s * 1_000_000_000)
    found = _RFC3339.fullmatch(text)
    if found is not None:
        return _rfc3339_ns(text, found, where)
    try:
        ago_s = span_s(text)
    except InvalidInput:
        hint = f"{_SPANS_HINT}, an instant like 2026-01-02T03:04:05Z, or seconds since the epoch"
        raise InvalidInput(f"{text[:60]!r} is neither a span nor an instant", where=where, hint=hint) from None
    return max(0, now_ns - round(ago_s * 1e9))


def _rfc3339_ns(text: str, found: re.Match[str], where: str | None) -> int:
    if found["zone"] is None:
        raise InvalidInput(f"{text!r} has no time zone", where=where, hint=f"write {text}Z for UTC, or {text}+02:00")
    # A plus sign that was not escaped arrives as a space.
    zone = found["zone"].upper().replace("Z", "+00:00").replace(" ", "+")
    try:
        at = datetime.fromisoformat(f"{found['day']}T{found['clock']}{zone}")
        since_epoch = at - _EPOCH_START
    except (ValueError, OverflowError):
        raise InvalidInput(f"there is no instant {text!r}", where=where) from None
    at_s = since_epoch // timedelta(seconds=1)
    if not 0 <= at_s <= _LATEST_S:
        raise InvalidInput(f"{text!r} is before 1970 or after 2255", where=where)
    return at_s * 1_000_000_000 + int((found["part"] or "0").ljust(9, "0"))


def check_span(since_ns: int, until_ns: int, *, where: str = "?since") -> None:
    """``since`` has to be before ``until``."""
    if since_ns >= until_ns:
        raise InvalidInput("the span ends before it begins", where=where, hint="since must be before until")


def window_ns(text: str, *, where: str = "?window") -> int:
    """The length of windows."""
    length = round(span_s(text, where=where) * 1e9)
    if length < MIN_WINDOW_NS:
        raise InvalidInput(f"windows of {text[:60]} are too short", where=where, hint="at least 100ms")
    return min(length, _INT64)


def check_windows(since_ns: int, until_ns: int, window_ns: int, *, where: str = "?window") -> None:
    """There may be at most :data:`MAX_WINDOWS`."""
    count = -(-(until_ns - since_ns) // window_ns)
    if count > MAX_WINDOWS:
        raise InvalidInput(
            f"that is {count:,} windows; at most {MAX_WINDOWS:,} at once",
            where=where,
            hint="ask for longer windows or a shorter span",
        )


def grouping(names: Sequence[str], *, where: str = "?by") -> tuple[GroupBy, ...]:
    """What to split windows by; each at most once."""
    for name in names:
        if name not in set(GroupBy):
            known = ", ".join(GroupBy)
            raise InvalidInput(f"windows cannot be split by {name[:60]!r}", where=where, hint=f"known: {known}")
    if len(set(names)) < len(names):
        raise InvalidInput("the same field twice", where=where)
    return tuple(GroupBy(name) for name in names)


def latency_field(name: str, *, where: str = "?field") -> LatencyField:
    """Which phase to measure."""
    if name not in set(LatencyField):
        raise InvalidInput(f"{name[:60]!r} is no phase", where=where, hint=f"phases: {', '.join(LatencyField)}")
    return LatencyField(name)
