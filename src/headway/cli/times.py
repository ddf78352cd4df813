"""Instants and lengths of time for people: in the time zone of this machine, which is named."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from headway.domain.errors import InvalidInput
from headway.domain.quantities import span_seconds

_EPOCH = re.compile(r"\d{9,11}(?:\.\d{1,9})?", re.ASCII)
_OF_DAY = re.compile(r"\b((?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d) UTC\b")
HINT: Final = "write for example -10m, 2h, 09:30, 2026-05-01T12:00 (local time) or 2026-05-01T12:00Z"


def local(at: float) -> str:
    """``2026-05-01 14:00:00 CEST``."""
    return f"{_zoned(at):%Y-%m-%d %H:%M:%S %Z}"


def clock(at: float) -> str:
    """``14:00:00``."""
    return f"{_zoned(at):%H:%M:%S}"


def day(at: float) -> str:
    """``2026-05-01 CEST``: within it, and within the same offset from UTC, ``clock`` says it all."""
    return f"{_zoned(at):%Y-%m-%d %Z}"


def length(seconds: float) -> str:
    """How long, as one says it: ``0.4 s``, ``12 s``, ``3 min``, ``2.5 h``, ``4 d``."""
    if seconds < 9.95:
        return f"{max(seconds, 0.0):.1f} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172_800 else f"{seconds / 86_400:.0f} d"


def instant(text: str, now: float, *, where: str, last: bool = False) -> float:
    """Seconds since the epoch of a time as people write it.

    So long ago (``-10m``, ``2h``), ISO 8601 (local time unless it names a zone), a time of today (``09:30``), seconds
    since the epoch, ``now``. ``last``: of a moment without fractions the end of its second, as moments are shown by
    the second. Raises ``InvalidInput`` at ``where``.
    """
    said = text.strip()
    if said == "now":
        return now
    if _EPOCH.fullmatch(said):
        return _whole(float(said), last)
    try:
        return now - span_seconds(said.removeprefix("-"))
    except ValueError:
        pass
    if re.fullmatch(r"\d\d?:\d\d(:\d\d)?", said):
        said = f"{_zoned(now):%Y-%m-%d}T{said.zfill(5)}"
    try:
        # A time without a zone is local: ``timestamp`` takes it so.
        return _whole(datetime.fromisoformat(said).timestamp(), last)
    except (ValueError, OverflowError, OSError):
        raise InvalidInput(f"{text[:60]!r} is not a time", where=where, hint=HINT) from None


def localized(text: str, at: float) -> str:
    """``text``, written at ``at``, with its times of day in UTC (``12:00:00 UTC``) as local ones."""

    def replaced(found: re.Match[str]) -> str:
        utc = datetime.fromtimestamp(at, UTC)
        hours, minutes, seconds = (int(part) for part in found[1].split(":"))
        return clock(utc.replace(hour=hours, minute=minutes, second=seconds).timestamp())

    return _OF_DAY.sub(replaced, text)


def _whole(at: float, last: bool) -> float:
    return at + 0.999999 if last and at.is_integer() else at


def _zoned(at: float) -> datetime:
    return datetime.fromtimestamp(at).astimezone()
