"""Beliefs about a service that the fit chooses between, and the points put into numbers for it.

A belief is a number of servers and some of the parts of :class:`~headway.planning.service.Service` that requests may
have to share. Few parts at a time: each one more has to earn its place by predicting points that it was not fitted to.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from headway.domain.promises import Promise
from headway.planning.measured import Array, Point, Users, promised
from headway.planning.service import Service
from headway.planning.simulate import Case, Outcome, simulate

MOST: Final = {"delay": 0.95, "serial": 1.0, "shared": 1.0, "slowdown": 3.0}
MOST_SERVERS: Final = 256


@dataclass(frozen=True, slots=True, eq=False)
class Belief:
    """``values``: the logarithm of the scale, then one per part."""

    servers: int
    parts: tuple[str, ...]
    values: Array

    def service(self, law: Array) -> Service:
        more = {part: float(value) for part, value in zip(self.parts, self.values[1:], strict=True)}
        return Service(law, self.servers, math.exp(float(self.values[0])), **more)

    def at(self, values: Array) -> Belief:
        """With other values, brought into their bounds."""
        most = np.array([0.7, *(MOST[part] for part in self.parts)])
        least = np.array([-0.7, *(0.0 for _ in self.parts)])
        return Belief(self.servers, self.parts, np.clip(values, least, most))


def candidates(points: Sequence[Point], unloaded_s: float) -> list[Belief]:
    """Beliefs worth fitting, each with its values where the busiest points put them."""
    busiest = {k: max(p.rate_per_s for p in points if p.replicas == k) for k in {p.replicas for p in points}}
    few, many = min(busiest), max(busiest)
    used = busiest[few] * unloaded_s / few
    """Servers of one replica that are busy at its busiest, if nothing but work takes time."""
    together = busiest[many] * unloaded_s
    least = max(1, math.floor(used * 0.97))
    servers = sorted(s for s in {*range(least, least + 4), math.ceil(least * 1.5), least * 2} if s <= MOST_SERVERS)
    found = []
    for count in servers:
        found += [
            Belief(count, parts, np.array([0.0, *_begin(count, parts, few, used, together)]))
            for parts in _kinds(count, few, many)
        ]
    return found


def extended(belief: Belief, points: Sequence[Point]) -> list[Belief]:
    """``belief`` with one part more, for each that may be told apart by the points."""
    counts = {point.replicas for point in points}
    return [
        Belief(belief.servers, (*belief.parts, *part), np.append(belief.values, 0.05))
        for part in _kinds(belief.servers, min(counts), max(counts))
        if part and len(belief.parts) == 1 and part[0] not in belief.parts
    ]


def _kinds(servers: int, few: int, many: int) -> list[tuple[str, ...]]:
    """Parts that points at ``few`` to ``many`` replicas can tell: a lock of one server's own is none."""
    found: list[tuple[str, ...]] = [(), ("delay",)]
    if servers > 1:
        found.append(("serial",))
    if servers * many > 1:
        found.append(("slowdown",))
    if many > few:
        found.append(("shared",))
    return found


def _begin(servers: int, parts: tuple[str, ...], replicas: int, used: float, together: float) -> Iterator[float]:
    places = replicas * servers
    for part in parts:
        if part == "delay":
            yield min(0.9, max(0.02, 1 - servers / max(used, 1e-9)))
        elif part == "serial":
            yield min(0.95, 1 / max(used, 1.05))
        elif part == "shared":
            yield min(0.95, 1 / max(together, 1.05) / 2)
        else:
            yield min(1.0, max(0.01, (servers / max(used, 0.1) - 1) / max(1, places - 1)))


class Evidence:
    """The points as rows of numbers: of each the logarithms of mean and promised value; saturated, of the rate.

    Of arrivals the rate stands beside those two. No belief changes it, but a short run in which more arrived than on
    average had longer queues for that reason alone, and the covariance of the rows knows by how much (a control
    variable: Lavenberg and Welch, "A perspective on the use of control variables", Management Science 27(3), 1981).
    """

    def __init__(self, points: Sequence[Point], promise: Promise, seed: int) -> None:
        self.points, self.promise, self.seed = tuple(points), promise, seed
        per_run = sorted(point.requests / max(1, len(point.runs)) for point in points)
        self.requests = int(min(2000, max(400, per_run[len(per_run) // 2])))
        self.rows: list[slice] = []
        self.judged: list[int] = []
        """Of each point the row that a prediction of it is judged by: its value; saturated, its rate."""
        observed: list[float] = []
        for point in points:
            row = self._observed(point)
            self.rows.append(slice(len(observed), len(observed) + len(row)))
            self.judged.append(len(observed) + (0 if point.saturated else 1))
            observed += row
        self.observed = np.array(observed)

    def _observed(self, point: Point) -> list[float]:
        if point.saturated:
            return [math.log(point.rate_per_s)]
        found = [math.log(point.mean_s), math.log(point.value_s)]
        return found if isinstance(point.load, Users) else [*found, math.log(point.rate_per_s)]

    def unloaded(self) -> list[int]:
        """Places of the points at which nobody waited for anybody."""
        return [i for i, p in enumerate(self.points) if isinstance(p.load, Users) and p.load.count == 1]

    def expect(
        self, services: Sequence[Service], streams: int, requests: int | None = None
    ) -> tuple[list[Array], list[list[Array]]]:
        """Of each service the rows that it would show, and by point the rows' covariance between single runs.

        The simulated runs are as long as those that were made, unless ``requests`` says otherwise, so whatever a short
        run gets wrong, both do.
        """
        cases = [
            Case(service, point.replicas, point.load, self.seed + 7919 * i)
            for service in services
            for i, point in enumerate(self.points)
        ]
        outcomes = simulate(cases, streams=streams, requests=requests or self.requests)
        means, spreads = [], []
        for n in range(len(services)):
            row, spread = [], []
            for i, point in enumerate(self.points):
                shown = self._shown(point, outcomes[n * len(self.points) + i])
                row.append(shown.mean(axis=1))
                spread.append(np.atleast_2d(np.cov(shown)) if streams > 1 else np.eye(len(shown)))
            means.append(np.concatenate(row))
            spreads.append(spread)
        return means, spreads

    def _shown(self, point: Point, outcome: Outcome) -> Array:
        if point.saturated:
            return np.asarray(np.log(outcome.rate_per_s)[None, :])
        shown = [outcome.times_s.mean(axis=0), promised(self.promise, outcome.times_s)]
        if not isinstance(point.load, Users):
            shown.append(outcome.rate_per_s)
        return np.asarray(np.log(np.stack(shown)))

    def first_noise(self) -> list[Array]:
        """What the repeats themselves say, before there is a belief that could tell."""
        found = []
        for point in self.points:
            if point.saturated:
                variances = [0.1**2]
            else:
                variances = list(point.spread() or (0.1**2,) * 2)
                if not isinstance(point.load, Users):
                    variances.append(len(point.runs) / max(1, point.requests))  # Poisson's
            found.append(np.diag([v / len(point.runs) + 0.03**2 for v in variances]))
        return found

    def noise(self, spreads: Sequence[Array], simulated: float) -> list[Array]:
        """Covariance of the residuals by point, from that of single simulated runs; see :data:`LEAST_NOISE`.

        What is observed scatters, and so does what so many ``simulated`` runs expect.
        """
        found = []
        for point, spread in zip(self.points, spreads, strict=True):
            covariance = spread * (self.requests / max(1, point.requests) + 1 / simulated)
            found.append(covariance + np.eye(len(covariance)) * LEAST_NOISE**2)
        return found


LEAST_NOISE: Final = 0.003
"""No measurement is taken to be more exact than this share, nor is the simulation."""
