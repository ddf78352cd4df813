"""Axes of a plot: round numbers to mark, units to give them in, instants to write below. Pure.

Instants are seconds since the epoch and are written in UTC, as everywhere else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

_UNITS: Final = ((1e9, "s"), (1e6, "ms"), (1e3, "µs"), (1.0, "ns"))
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_CLOCK_STEPS: Final = (
    *(1, 2, 5, 10, 15, 30),
    *(_MINUTE * n for n in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * n for n in (1, 2, 3, 6, 12)),
    *(_DAY * n for n in (1, 2, 7, 14, 28, 56, 91, 182, 364)),
)


@dataclass(frozen=True, slots=True)
class Tick:
    """A marked place of an axis: where, and what stands beside it."""

    at: float
    text: str


def time_unit(greatest_ns: float) -> tuple[float, str]:
    """Nanoseconds in the unit that suits ``greatest_ns``, and its name: ``(1e6, "ms")``."""
    return next(((size, name) for size, name in _UNITS if greatest_ns >= size), _UNITS[-1])


def round_step(span: float, most: int) -> float:
    """The smallest of 1, 2, 5, 10, … (and their decimal parts) that divides ``span`` into at most ``most`` parts."""
    if not (span > 0 and math.isfinite(span)):
        return 1.0
    # Rounding first: 0.3 / 3 is a bit less than 0.1, and a step must not be ten times too fine for that.
    raw = float(f"{span / most:.9g}")
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))


def value_ticks(top: float, most: int = 5) -> list[Tick]:
    """Round values from 0 up to the first one that is not below ``top``: the axis ends at the last of them."""
    step = round_step(top, most)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    count = max(1, math.ceil(top / step - 1e-9))
    return [Tick(number * step, f"{number * step:,.{decimals}f}") for number in range(count + 1)]


def clock_ticks(since_s: float, until_s: float, most: int = 8) -> list[Tick]:
    """Round instants within ``[since_s, until_s]``, ``most`` at most; where a day begins stands its date."""
    span = until_s - since_s
    if span <= 0:
        return [Tick(since_s, _clock(since_s, 1.0))]
    step: float = next((step for step in _CLOCK_STEPS if span / step <= most), 364 * _DAY)
    if span / most <= 0.5:
        step = round_step(span, most)
    first = math.ceil(since_s / step - 1e-9)
    last = math.floor(until_s / step + 1e-9)
    return [Tick(number * step, _clock(number * step, step)) for number in range(first, last + 1)][: most + 1]


def _clock(at_s: float, step_s: float) -> str:
    at = datetime.fromtimestamp(round(at_s, 6), UTC)
    if step_s >= 182 * _DAY:
        return f"{at:%b %Y}"
    if step_s >= _DAY or at_s % _DAY == 0:
        return f"{at.day} {at:%b}"
    if step_s >= _MINUTE:
        return f"{at:%H:%M}"
    if step_s >= 1:
        return f"{at:%H:%M:%S}"
    digits = min(6, max(1, -math.floor(math.log10(step_s) + 1e-9)))
    return f"{at:%H:%M:%S}.{at.microsecond:06d}"[: 9 + digits]


def figure(value: float) -> str:
    """Three significant digits, without an exponent: ``0.0123``, ``1.23``, ``12.3``, ``123``, ``12,346``."""
    if value == 0:
        return "0"
    magnitude = math.floor(math.log10(abs(float(f"{value:.3g}"))))
    return f"{value:,.{min(max(0, 2 - magnitude), 12)}f}"
