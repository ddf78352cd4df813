"""Kubernetes quantities and durations, as people write them in a spec.

CPU and memory follow Kubernetes' *Quantity* (``500m``, ``2``, ``512Mi``, ``1.5G``); durations are Go's
``time.ParseDuration`` without signs (``2ms``, ``30s``, ``1m30s``, ``1h``), as Gateway API's GEP-2257 uses them.
"""

from __future__ import annotations

import re
from decimal import Decimal

_QUANTITY = re.compile(r"(?P<number>\d{1,19}(?:\.\d{1,9})?)(?P<unit>[numkMGTPE]|[KMGTPE]i)?", re.ASCII)
_FACTORS = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{unit: Decimal(1000) ** power for power, unit in enumerate("kMGTPE", start=1)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}
_DURATION = re.compile(
    r"(?:(\d{1,15}(?:\.\d{1,9})?)h)?(?:(\d{1,15}(?:\.\d{1,9})?)m(?!s))?"
    r"(?:(\d{1,15}(?:\.\d{1,9})?)s)?(?:(\d{1,15}(?:\.\d{1,9})?)ms)?",
    re.ASCII,
)
_PERCENT = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)%", re.ASCII)
_DAYS = re.compile(r"(?:(?P<days>\d{1,5}(?:\.\d{1,9})?)d)?(?P<rest>.{0,100})", re.ASCII)
LONGEST_S = 366 * 86_400


def _number(text: str) -> Decimal:
    found = _QUANTITY.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:40]!r} is not a quantity; write for example 500m, 2, 512Mi or 1.5Gi")
    return Decimal(found["number"]) * _FACTORS[found["unit"] or ""]


def millicores(text: str) -> int:
    """``500m`` -> 500, ``1.5`` -> 1500. Raises ``ValueError``; rounds up to a whole millicore."""
    value = _number(text) * 1000
    if value <= 0:
        raise ValueError("must be more than 0")
    return int(value.to_integral_value(rounding="ROUND_CEILING"))


def byte_count(text: str) -> int:
    """``512Mi`` -> 536870912. Raises ``ValueError``; rounds up to a whole byte."""
    value = _number(text)
    if value <= 0:
        raise ValueError("must be more than 0")
    return int(value.to_integral_value(rounding="ROUND_CEILING"))


def seconds(text: str) -> float:
    """``1m30s`` -> 90.0, ``2ms`` -> 0.002. Raises ``ValueError``."""
    found = _DURATION.fullmatch(text)
    if not text or found is None or not any(found.groups()):
        raise ValueError(f"{text[:40]!r} is not a duration; write for example 2ms, 30s, 1m30s or 1h")
    hours, minutes, secs, millis = (float(part) if part else 0.0 for part in found.groups())
    total = hours * 3600 + minutes * 60 + secs + millis / 1000
    if total > LONGEST_S:
        raise ValueError("must be at most a year")
    return total


def share(text: str) -> float:
    """``1%`` -> 0.01. Raises ``ValueError`` unless it is above 0% and at most 100%."""
    found = _PERCENT.fullmatch(text)
    if found is None or not 0 < Decimal(found[1]) <= 100:
        raise ValueError(f"{text[:40]!r} is not a share; write for example 0.1%, 5% or 100%")
    return float(Decimal(found[1]) / 100)


def canonical_share(text: str) -> str:
    """The shortest way to write the same share: ``5.0%`` -> ``5%``."""
    return f"{Decimal(repr(share(text))) * 100:f}".rstrip("0").rstrip(".") + "%"


def span_seconds(text: str) -> float:
    """As :func:`seconds`, with days in front: ``7d``, ``1d12h``. Raises ``ValueError``; at most 270 years."""
    found = _DAYS.fullmatch(text)
    try:
        if found is None or not text:
            raise ValueError
        return float(found["days"] or 0) * 86_400 + (seconds(found["rest"]) if found["rest"] else 0.0)
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a length of time; write for example 30s, 5m, 2h, 1d12h or 7d") from None


def show_bytes(count: int) -> str:
    """536870912 -> ``512Mi``; the largest binary unit that keeps it whole or gives one decimal."""
    value = float(count)
    for unit in ("", "Ki", "Mi", "Gi"):
        if value < 1024:
            return f"{value:.1f}".removesuffix(".0") + unit
        value /= 1024
    return f"{value:.1f}".removesuffix(".0") + "Ti"


def canonical_millicores(value: int) -> str:
    """500 -> ``500m``, 2000 -> ``2``: one spelling for one amount, as Kubernetes keeps it."""
    return f"{value}m" if value % 1000 else str(value // 1000)


def canonical_bytes(count: int) -> str:
    """536870912 -> ``512Mi``, 10**9 -> ``1G``: the unit with the fewest digits, a binary one first."""
    spellings = [(str(count), "")]
    for base, units in ((1024, ("Ki", "Mi", "Gi", "Ti", "Pi")), (1000, ("k", "M", "G", "T", "P"))):
        for power, unit in enumerate(units, start=1):
            if count % base**power == 0:
                spellings.append((str(count // base**power), unit))
    digits, unit = min(spellings, key=lambda spelling: (len(spelling[0]), "i" not in spelling[1]))
    return digits + unit


def canonical_duration(text: str) -> str:
    """``90s`` and ``1m30s`` -> ``90s``, ``60m`` -> ``1h``: the largest unit that keeps it whole.

    Raises ``ValueError``; nothing finer than a microsecond is kept.
    """
    micros = round(seconds(text) * 1_000_000)
    for unit, size in (("h", 3_600_000_000), ("m", 60_000_000), ("s", 1_000_000), ("ms", 1_000)):
        if micros % size == 0:
            return f"{micros // size}{unit}" if micros else "0s"
    return f"{Decimal(micros) / 1000:f}ms"
