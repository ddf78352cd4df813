"""What was measured: a load and the runs made at it.

Times are in seconds, rates in requests per second, shares between 0 and 1.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headway.domain.promises import Promise

Array = NDArray[np.float64]

SATURATED_SHARE: Final = 0.97
"""An open load of which less than this was answered in time saturates the service, if chance does not explain it."""
CHANCE: Final = 2.0
"""Standard deviations. As many requests as arrive in a given time scatter by their root (Poisson): of 400 by 5 %."""


@dataclass(frozen=True, slots=True)
class Users:
    """A closed load: each user waits for the answer, thinks, and asks again."""

    count: int
    think_s: float = 0.0
    """Mean of the pauses, which are exponential."""


@dataclass(frozen=True, slots=True)
class Rate:
    """An open load: Poisson arrivals that wait for nobody."""

    per_s: float


Load = Users | Rate


def size(load: Load) -> float:
    """Users, or requests per second."""
    return float(load.count) if isinstance(load, Users) else load.per_s


def resized(load: Load, to: float) -> Load:
    """The same kind of load of another size; users are whole, and at least one."""
    if isinstance(load, Users):
        return Users(max(1, round(to)), load.think_s)
    return Rate(to)


def promised(promise: Promise, times_s: Array) -> Array:
    """The statistic that ``promise`` is about, along the first axis."""
    if promise.quantile is None:
        return np.asarray(times_s.mean(axis=0))
    return np.asarray(np.quantile(times_s, promise.quantile, axis=0))


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement at a constant load, its warm-up left out."""

    requests: int
    rate_per_s: float
    """Answered per second."""
    mean_s: float
    value_s: float
    """The promised statistic of the response time."""
    failed: int = 0
    """Of ``requests``, those that were not answered with a result."""
    cpu: float | None = None
    """Mean processor use of the replicas as a share of what they ask for; None: not known."""


@dataclass(frozen=True, slots=True)
class Point:
    """The runs that were made with one number of replicas under one load."""

    replicas: int
    load: Load
    runs: tuple[Run, ...]

    @property
    def requests(self) -> int:
        return sum(run.requests for run in self.runs)

    @property
    def rate_per_s(self) -> float:
        return statistics.fmean(run.rate_per_s for run in self.runs)

    @property
    def mean_s(self) -> float:
        return math.exp(statistics.fmean(math.log(run.mean_s) for run in self.runs))

    @property
    def value_s(self) -> float:
        """Geometric mean over the runs: response times under load are skewed, their logarithms hardly."""
        return math.exp(statistics.fmean(math.log(run.value_s) for run in self.runs))

    @property
    def failed_share(self) -> float:
        return sum(run.failed for run in self.runs) / max(1, self.requests)

    @property
    def cpu(self) -> float | None:
        known = [run.cpu for run in self.runs if run.cpu is not None]
        return statistics.fmean(known) if known else None

    @property
    def saturated(self) -> bool:
        """An open load that was not carried: how long requests wait then depends on how long one measures."""
        if not isinstance(self.load, Rate):
            return False
        least = SATURATED_SHARE - CHANCE / math.sqrt(max(1, self.requests))
        return self.rate_per_s < least * self.load.per_s

    def spread(self) -> tuple[float, float] | None:
        """Variance of the logarithms of mean and value between the runs; None for fewer than two."""
        if len(self.runs) < 2:
            return None
        means = [math.log(run.mean_s) for run in self.runs]
        values = [math.log(run.value_s) for run in self.runs]
        return statistics.variance(means), statistics.variance(values)
