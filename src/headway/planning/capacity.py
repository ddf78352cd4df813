"""The question turned round: what so many replicas can carry. How many a load needs is `need`.

The answer is on the safe side: a load counts as carried when the promised value is below its limit at the upper
end of what is believed, so noise makes a plan more careful and not more daring.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np

from headway.planning.forecast import Expected
from headway.planning.measured import Load, Users, resized, size

SURE_Z: Final = 1.6449
"""One-sided 95 %: how sure a plan is that the promise is kept."""
NEAREST: Final = 0.95
"""Of the throughput at which replicas saturate, arrivals are planned up to here. Closer, a queue builds up for longer
than any test runs: its relaxation time grows with ``(1 - use) ** -2``, and a short run, measured or simulated, looks
too good."""
_STEPS_BACK: Final = 12
_GRID: Final = np.exp(np.linspace(-0.16, 0.16, 5))


class Predicts(Protocol):
    """Whatever foretells loads: queues, or the scalability law."""

    def at(self, loads: Sequence[tuple[int, Load]], *, draws: bool = True) -> list[Expected]: ...

    def rough(self, loads: Sequence[tuple[int, Load]]) -> list[float]: ...

    def bound_per_s(self, replicas: int) -> float: ...

    def most_per_s(self, replicas: int) -> float:
        """The same at the upper end of what is believed."""
        ...

    def least_per_s(self, replicas: int) -> float:
        """And at the lower end."""
        ...


@dataclass(frozen=True, slots=True)
class Ceiling:
    """Processor time that a request takes, and how much of it replicas may use."""

    cpu_s: float
    cores: float
    """Of one replica."""
    share: float

    def rate_per_s(self, replicas: int) -> float:
        return replicas * self.cores * self.share / self.cpu_s


@dataclass(frozen=True, slots=True)
class Capacity:
    """The largest load at which the promise is kept. Sizes are users, or requests per second."""

    replicas: int
    size: float
    """As planned with: ``low``, or less where the processor ceiling is the bound."""
    middle: float
    low: float
    high: float
    """Of the 90 % interval."""
    rate_per_s: float
    """Throughput at ``size``."""
    value_s: float
    """The promised value at ``size``."""
    by: str
    """What it is bound by: ``sla``, ``cpu`` or ``saturation``, see :data:`NEAREST`."""


def capacity(model: Predicts, replicas: int, like: Load, limit_s: float, ceiling: Ceiling | None = None) -> Capacity:
    """What ``replicas`` replicas carry of loads like ``like``; size 0 when they do not even carry one."""
    middle = largest(model, replicas, like, limit_s)
    if middle <= 0:
        return Capacity(replicas, 0.0, 0.0, 0.0, 0.0, 0.0, math.inf, "sla")
    sizes = sorted({size(resized(like, middle * float(f))) for f in _GRID})
    expected = model.at([(replicas, resized(like, s)) for s in sizes])
    logs = np.array([[math.log(e.value_s) for e in expected]]) + np.stack([e.log_errors for e in expected], axis=1)
    found = [_crossing(np.log(sizes), row, math.log(limit_s)) for row in logs]
    centre = np.array([math.log(e.value_s) for e in expected])
    middle = math.exp(_crossing(np.log(sizes), centre, math.log(limit_s)))
    spread = float(np.std(found))
    low, high = middle * math.exp(-SURE_Z * spread), middle * math.exp(SURE_Z * spread)
    planned = size(resized(like, math.floor(low))) if isinstance(like, Users) else low
    by = "sla"
    if not isinstance(like, Users) and planned > NEAREST * model.bound_per_s(replicas):
        planned, by = NEAREST * model.bound_per_s(replicas), "saturation"
    (at,) = model.at([(replicas, resized(like, planned))], draws=False)
    for _ in range(_STEPS_BACK):  # a curve that ends in a wall, as the scalability law's, has no crossing
        if at.value_s <= limit_s:
            break
        planned = size(resized(like, planned * 0.96))
        (at,) = model.at([(replicas, resized(like, planned))], draws=False)
    else:
        return Capacity(replicas, 0.0, 0.0, 0.0, 0.0, 0.0, math.inf, "sla")
    if ceiling is not None and at.rate_per_s > ceiling.rate_per_s(replicas):
        by = "cpu"
        planned = planned * ceiling.rate_per_s(replicas) / at.rate_per_s
        planned = float(math.floor(planned)) if isinstance(like, Users) else planned
        (at,) = model.at([(replicas, resized(like, planned))], draws=False)
    return Capacity(replicas, planned, middle, low, high, at.rate_per_s, at.value_s, by)


def largest(model: Predicts, replicas: int, like: Load, limit_s: float) -> float:
    """The size at which the prediction roughly meets the limit: two rounds of a grid, each simulated at once."""
    bound = model.bound_per_s(replicas)
    high = bound * (like.think_s + limit_s) * 1.3 if isinstance(like, Users) else bound * 0.999
    low = 1.0 if isinstance(like, Users) else bound * 0.02
    if high <= low or model.rough([(replicas, resized(like, low))])[0] > limit_s:
        return 0.0
    for count in (9, 7):
        sizes = sorted({size(resized(like, float(s))) for s in np.geomspace(low, high, count)})
        values = model.rough([(replicas, resized(like, s)) for s in sizes])
        kept = [s for s, value in zip(sizes, values, strict=True) if value <= limit_s]
        broken = [s for s, value in zip(sizes, values, strict=True) if value > limit_s]
        low = max([s for s in kept if not broken or s < broken[0]], default=low)
        if not broken:
            return low
        high = broken[0]
    return math.sqrt(low * high)


def _crossing(sizes: np.ndarray, values: np.ndarray, limit: float) -> float:
    """Where a curve that rises meets ``limit``; beyond its ends along the last piece, within a factor of 2."""
    rising = np.maximum.accumulate(values)
    if rising[0] < limit < rising[-1]:
        return float(np.interp(limit, rising, sizes))
    a, b = (0, 1) if limit <= rising[0] else (-2, -1)
    slope = max((rising[b] - rising[a]) / max(sizes[b] - sizes[a], 1e-9), 0.3)
    end = 0 if limit <= rising[0] else -1
    return float(sizes[end] + np.clip((limit - rising[end]) / slope, -0.7, 0.7))
