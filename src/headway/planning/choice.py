"""Which of the two candidates foretells: the one that is nearer at points that it was not fitted to.

Each point is predicted from all others: its value, or where it was saturated its throughput. For queues that is the
linearised leave-one-out of the fit, for the scalability law the law is fitted again without the point.

What counts is the mean of the errors, each :data:`POOR` at most, and not their median: a plan is made at the loads
where a service comes to its end, and those are the few of its points at which a wrong model is far off. At the many
below them any model is right.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from headway.planning.forecast import DRAWS, Expected, Forecast
from headway.planning.measured import Array, Load, Users
from headway.planning.service import Service
from headway.planning.simulate import Case, simulate
from headway.planning.usl import Usl, left_out, likely_laws

LONGEST_S: Final = 1e9
"""In place of for ever."""
POOR: Final = 0.25
"""A logarithm: a prediction that is off by more is a poor one, and how much more tells nothing. Close to saturation a
load that is taken to be larger by a hundredth may never be carried."""


MOST_SIMULATED: Final = 16
"""Replicas."""
AT_A_SERVER: Final = 4
"""Users, on average."""
SATURATED_STREAMS: Final = 8
SATURATED_REQUESTS: Final = 2000


@dataclass(frozen=True, slots=True)
class Errors:
    """Mean error at points left out, as a share; None: it could not be fitted."""

    queue: float
    usl: float | None


class QueueModel:
    """Queues, as :class:`~headway.planning.forecast.Forecast` knows them."""

    name = "queue"

    def __init__(self, forecast: Forecast) -> None:
        self.forecast = forecast
        self._reached: dict[int, float] = {}

    def at(self, loads: Sequence[tuple[int, Load]], *, draws: bool = True) -> list[Expected]:
        return self.forecast.at(loads, draws=draws)

    def rough(self, loads: Sequence[tuple[int, Load]]) -> list[float]:
        return self.forecast.rough(loads)

    def bound_per_s(self, replicas: int) -> float:
        service = self.forecast.best.belief.service(self.forecast.law)
        return service.bound_per_s(replicas) * self._reached_share(service, replicas)

    def most_per_s(self, replicas: int) -> float:
        """As the 95th of 100 repetitions of the measurement has it."""
        return self._bound_per_s(replicas, 0.95)

    def least_per_s(self, replicas: int) -> float:
        """As the 5th has it."""
        return self._bound_per_s(replicas, 0.05)

    def _bound_per_s(self, replicas: int, share: float) -> float:
        bounds = [belief.service(law).bound_per_s(replicas) for _, belief, law in self.forecast.draws()]
        service = self.forecast.best.belief.service(self.forecast.law)
        return float(np.quantile(bounds, share)) * self._reached_share(service, replicas)

    def _reached_share(self, service: Service, replicas: int) -> float:
        """How much of its asymptotic bound a service reaches: a request that waits for a lock keeps its server.

        Eight servers of 20 ms could do 400 a second, and a lock that is held for 2.4 ms of each hardly more: together
        they do 346. Simulated, as the throughput of more users than servers who never think.
        """
        if not service.shared and (not service.serial or service.servers == 1):
            return 1.0
        # A replica's own lock knows nothing of other replicas; with very many, the one that all share is never idle.
        replicas = min(replicas, MOST_SIMULATED) if service.shared else 1
        if replicas not in self._reached:
            users = Users(AT_A_SERVER * replicas * service.servers)
            case = Case(service, replicas, users, self.forecast.evidence.seed)
            (outcome,) = simulate([case], streams=SATURATED_STREAMS, requests=SATURATED_REQUESTS)
            share = float(outcome.rate_per_s.mean()) / service.bound_per_s(replicas)
            self._reached[replicas] = min(1.0, share)
        return self._reached[replicas]


class UslModel:
    """The scalability law. How sure it is follows from its errors at points left out, and which laws are likely."""

    name = "usl"

    def __init__(self, laws: Sequence[tuple[float, Usl]], errors: Sequence[float], seed: int) -> None:
        """``laws`` with their weights, the likeliest first."""
        self.law = laws[0][1]
        rng = np.random.default_rng((seed, 4))
        # One without bound is a load taken for an overload, be it by a hundredth: it says nothing of other values.
        finite = [e for e in errors if math.isfinite(e)] or [1.0]
        self._errors = rng.standard_normal(DRAWS) * math.sqrt(float(np.mean(np.square(finite))))
        picks = rng.choice(len(laws), DRAWS, p=[weight for weight, _ in laws])
        self._laws = [laws[pick][1] for pick in picks]

    def at(self, loads: Sequence[tuple[int, Load]], *, draws: bool = True) -> list[Expected]:
        found = []
        for replicas, load in loads:
            value, mean, rate = self.law.expect(replicas, load)
            value = min(value, LONGEST_S)
            errors = np.zeros(1)
            if draws:
                each = np.array([min(law.expect(replicas, load)[0], LONGEST_S) for law in self._laws])
                errors = self._errors + np.log(each / value)
            found.append(Expected(replicas, load, value, mean, rate, errors))
        return found

    def rough(self, loads: Sequence[tuple[int, Load]]) -> list[float]:
        return [self.law.expect(replicas, load)[0] for replicas, load in loads]

    def bound_per_s(self, replicas: int) -> float:
        return self.law.bound_per_s(replicas)

    def most_per_s(self, replicas: int) -> float:
        return self._bound_per_s(replicas, 0.95)

    def least_per_s(self, replicas: int) -> float:
        return self._bound_per_s(replicas, 0.05)

    def _bound_per_s(self, replicas: int, share: float) -> float:
        """It is as far off as the values at points left out are, and as the likely laws are apart."""
        bounds = np.array([law.bound_per_s(replicas) for law in self._laws])
        return float(np.quantile(bounds * np.exp(self._errors), share))


Model = QueueModel | UslModel


def choose(forecast: Forecast) -> tuple[Model, Errors]:
    """The candidate with the smaller mean error; queues when they are equal."""
    evidence = forecast.evidence
    queue = _mean(forecast.best.left_out[evidence.judged])
    laws = likely_laws(evidence.points)
    if not laws:
        return QueueModel(forecast), Errors(queue, None)
    errors = left_out(evidence.points)
    usl = _mean(np.array(errors))
    if usl < queue:
        return UslModel(laws, errors, evidence.seed), Errors(queue, usl)
    return QueueModel(forecast), Errors(queue, usl)


def _mean(errors: Array) -> float:
    return float(np.mean(np.minimum(np.abs(errors), POOR)))
