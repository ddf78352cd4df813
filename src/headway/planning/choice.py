"""Which of the two candidates foretells: the one that is nearer at points that it was not fitted to.

Each point is predicted from all others. For queues that is the linearised leave-one-out of the fit, for the
scalability law the law is fitted again without the point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headway.planning.forecast import DRAWS, Expected, Forecast
from headway.planning.measured import Load
from headway.planning.usl import Usl, fit_usl, left_out


@dataclass(frozen=True, slots=True)
class Errors:
    """Median error of the promised value at points left out, as a share; None: it could not be fitted."""

    queue: float
    usl: float | None


class QueueModel:
    """Queues, as :class:`~headway.planning.forecast.Forecast` knows them."""

    name = "queue"

    def __init__(self, forecast: Forecast) -> None:
        self.forecast = forecast

    def at(self, loads: Sequence[tuple[int, Load]], *, draws: bool = True) -> list[Expected]:
        return self.forecast.at(loads, draws=draws)

    def rough(self, loads: Sequence[tuple[int, Load]]) -> list[float]:
        return self.forecast.rough(loads)

    def bound_per_s(self, replicas: int) -> float:
        return self.forecast.best.belief.service(self.forecast.law).bound_per_s(replicas)

    def most_per_s(self, replicas: int) -> float:
        """As the 95th of 100 repetitions of the measurement has it."""
        return self._bound_per_s(replicas, 0.95)

    def least_per_s(self, replicas: int) -> float:
        """As the 5th has it."""
        return self._bound_per_s(replicas, 0.05)

    def _bound_per_s(self, replicas: int, share: float) -> float:
        bounds = [belief.service(law).bound_per_s(replicas) for _, belief, law in self.forecast.draws()]
        return float(np.quantile(bounds, share))


class UslModel:
    """The scalability law; how sure it is follows from its errors at points left out."""

    name = "usl"

    def __init__(self, law: Usl, errors: Sequence[float], seed: int) -> None:
        self.law = law
        finite = [e for e in errors if math.isfinite(e)] or [1.0]
        rng = np.random.default_rng((seed, 4))
        self._errors = rng.standard_normal(DRAWS) * math.sqrt(float(np.mean(np.square(finite))))

    def at(self, loads: Sequence[tuple[int, Load]], *, draws: bool = True) -> list[Expected]:
        found = []
        for replicas, load in loads:
            value, mean, rate = self.law.expect(replicas, load)
            value = min(value, 1e9)
            found.append(Expected(replicas, load, value, mean, rate, self._errors if draws else np.zeros(1)))
        return found

    def rough(self, loads: Sequence[tuple[int, Load]]) -> list[float]:
        return [self.law.expect(replicas, load)[0] for replicas, load in loads]

    def bound_per_s(self, replicas: int) -> float:
        in_flight = np.geomspace(1, 1000, 200) * replicas
        most = max(float(n) / self.law.mean_s(float(n), replicas) for n in in_flight)
        return min(most, self.law.most_per_s * self.law.alike(replicas))

    def most_per_s(self, replicas: int) -> float:
        """It is as far off as the values at points left out are."""
        return self.bound_per_s(replicas) * math.exp(float(np.quantile(self._errors, 0.95)))

    def least_per_s(self, replicas: int) -> float:
        """It is as far off as the values at points left out are."""
        return self.bound_per_s(replicas) * math.exp(float(np.quantile(self._errors, 0.05)))


Model = QueueModel | UslModel


def choose(forecast: Forecast) -> tuple[Model, Errors]:
    """The candidate with the smaller median error; queues when they are equal."""
    evidence = forecast.evidence
    held = [abs(float(forecast.best.left_out[rows][-1])) for rows in evidence.rows if rows.stop - rows.start == 2]
    queue = float(np.median(held)) if held else math.inf
    law = fit_usl(evidence.points)
    if law is None:
        return QueueModel(forecast), Errors(queue, None)
    errors = left_out(evidence.points)
    usl = float(np.median(np.abs(errors)))
    if usl < queue:
        return UslModel(law, errors, evidence.seed), Errors(queue, usl)
    return QueueModel(forecast), Errors(queue, usl)
