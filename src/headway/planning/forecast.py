"""What fitted beliefs say of loads that were not measured, with an interval that holds what it states.

The interval is a parametric bootstrap (Efron and Tibshirani, "An introduction to the bootstrap", 1993, chapter 6): the
measurement is made again many times, with its noise and with another sample of the service time, each time the
values are fitted again (one step of Gauss and Newton, from the best ones) and the load is predicted from them. Each
repetition takes one of the beliefs that are left, as often as its weight says, so not to know which of them is right
widens the interval as well.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from headway.domain.promises import Promise
from headway.planning.beliefs import Belief, Evidence
from headway.planning.fit import Fitted, fit
from headway.planning.measured import Array, Load, promised
from headway.planning.service import LAW_SIZE, law_of
from headway.planning.simulate import Case, Outcome, simulate

DRAWS: Final = 40
DRAW_STREAMS: Final = 2
CENTRE_STREAMS: Final = 32
"""Of the best belief; by how much the others differ from it, with the same draws, fewer tell."""
APART_STREAMS: Final = 8
CENTRE_REQUESTS: Final = 4000
"""Long enough that a queue close to saturation has built up: it is the long run that is foretold."""
ROUGH_STREAMS: Final = 8
REQUESTS: Final = 1500
Z90: Final = 1.6449


@dataclass(frozen=True, slots=True, eq=False)
class Expected:
    """Of one load at one number of replicas."""

    replicas: int
    load: Load
    value_s: float
    """The promised statistic of the response time in the long run."""
    mean_s: float
    rate_per_s: float
    log_errors: Array
    """Of the value, by draw: logarithms, with mean 0 or close to it."""

    @property
    def spread(self) -> float:
        return float(np.sqrt(np.mean(self.log_errors**2)))

    def bound(self, z: float) -> float:
        """The value ``z`` standard deviations above (below, when negative)."""
        return self.value_s * math.exp(z * self.spread)

    @property
    def low_s(self) -> float:
        """The 90 % interval's lower end."""
        return self.bound(-Z90)

    @property
    def high_s(self) -> float:
        return self.bound(Z90)


class Forecast:
    """Beliefs fitted to the evidence, ready to be asked."""

    def __init__(self, evidence: Evidence, unloaded_s: Array, before: Forecast | None = None) -> None:
        """``unloaded_s``: response times of one user alone, as many as were measured; ``before``: of fewer points."""
        self.evidence = evidence
        self.law = law_of(unloaded_s)
        known = [] if before is None else [fitted.belief for fitted in before.fitted]
        self.fitted: list[Fitted]
        self.fitted, self.noise = fit(evidence, self.law, known)
        self._unloaded = unloaded_s
        self._draws: list[tuple[int, Belief, Array]] | None = None

    @property
    def best(self) -> Fitted:
        return self.fitted[0]

    def draws(self) -> list[tuple[int, Belief, Array]]:
        """The repetitions: which belief, its values, and the law of the service time."""
        if self._draws is None:
            self._draws = self._repeat()
        return self._draws

    def _repeat(self) -> list[tuple[int, Belief, Array]]:
        evidence = self.evidence
        rng = np.random.default_rng((evidence.seed, 2))
        picks = rng.choice(len(self.fitted), DRAWS, p=[f.weight for f in self.fitted])
        sample = self._unloaded
        laws = [law_of(rng.choice(sample, len(sample))) for _ in range(DRAWS)]
        bases = [f.belief.service(self.law) for f in self.fitted]
        again = [self.fitted[k].belief.service(law) for k, law in zip(picks, laws, strict=True)]
        rows, _ = evidence.expect([*bases, *again], DRAW_STREAMS)
        base, shifted = rows[: len(bases)], rows[len(bases) :]
        roots = [np.linalg.cholesky(n) for n in self.noise]
        known = set(evidence.unloaded())
        found = []
        for k, law, row in zip(picks, laws, shifted, strict=True):
            fitted = self.fitted[k]
            moved = row - base[k]
            noise = np.zeros(len(evidence.observed))
            for i, (rows_i, root) in enumerate(zip(evidence.rows, roots, strict=True)):
                # The sample of the service time is the unloaded measurement itself: both move together.
                noise[rows_i] = moved[rows_i] if i in known else root @ rng.standard_normal(len(root))
            values = fitted.belief.values + fitted.gain @ (noise - moved)
            found.append((int(k), fitted.belief.at(values), law))
        return found

    def at(self, loads: Sequence[tuple[int, Load]], *, draws: bool = True) -> list[Expected]:
        """What is expected of each number of replicas under its load."""
        evidence, promise = self.evidence, self.evidence.promise
        seeds = [evidence.seed + 104_729 + 31 * i for i in range(len(loads))]
        cases = [
            Case(f.belief.service(self.law), k, load, seed)
            for f in self.fitted
            for (k, load), seed in zip(loads, seeds, strict=True)
        ]
        centres = simulate(cases[: len(loads)], streams=CENTRE_STREAMS, requests=CENTRE_REQUESTS)
        alone = len(self.fitted) == 1  # then there is nothing that it could differ from
        beside = centres if alone else simulate(cases, streams=APART_STREAMS, requests=CENTRE_REQUESTS)
        weights = np.array([f.weight for f in self.fitted])
        few = np.array([_seen(promise, o) for o in beside]).reshape(len(self.fitted), len(loads), 3)
        logs = few - few[0] + np.array([_seen(promise, o) for o in centres])
        middle = np.tensordot(weights, logs, 1)
        errors = self._errors(loads, seeds, (logs - middle)[:, :, 0]) if draws else np.zeros((1, len(loads)))
        scatter = np.stack([np.log(promised(promise, o.times_s)) for o in centres]).std(axis=1)
        rng = np.random.default_rng((evidence.seed, 3))
        errors = errors + rng.standard_normal(errors.shape) * scatter / math.sqrt(CENTRE_STREAMS)
        return [
            Expected(k, load, math.exp(value), math.exp(mean), math.exp(rate), errors[:, i])
            for i, ((k, load), (value, mean, rate)) in enumerate(zip(loads, middle, strict=True))
        ]

    def rough(self, loads: Sequence[tuple[int, Load]]) -> list[float]:
        """Only the value, by the best belief and with few draws: close enough to look around it."""
        service = self.best.belief.service(self.law)
        seed = self.evidence.seed + 224_737
        cases = [Case(service, k, load, seed) for k, load in loads]
        outcomes = simulate(cases, streams=ROUGH_STREAMS, requests=REQUESTS)
        return [float(promised(self.evidence.promise, o.times_s.reshape(-1))) for o in outcomes]

    def _errors(self, loads: Sequence[tuple[int, Load]], seeds: Sequence[int], apart: Array) -> Array:
        """By draw and load, how far the value is off the middle. Common draws: only the values and the law differ."""
        promise = self.evidence.promise
        draws = self.draws()
        services = [f.belief.service(self.law) for f in self.fitted]
        services += [belief.service(law) for _, belief, law in draws]
        cases = [Case(s, k, load, seed) for s in services for (k, load), seed in zip(loads, seeds, strict=True)]
        outcomes = simulate(cases, streams=DRAW_STREAMS, requests=REQUESTS)
        logs = np.array([float(np.log(promised(promise, o.times_s)).mean()) for o in outcomes])
        logs = logs.reshape(len(services), len(loads))
        base, drawn = logs[: len(self.fitted)], logs[len(self.fitted) :]
        which = [k for k, _, _ in draws]
        return np.asarray(drawn - base[which] + apart[which])


def _seen(promise: Promise, outcome: Outcome) -> tuple[float, float, float]:
    """Logarithms of promised value, mean and rate."""
    times = outcome.times_s.reshape(-1)
    return (
        math.log(float(promised(promise, times))),
        math.log(float(times.mean())),
        math.log(float(outcome.rate_per_s.mean())),
    )


__all__ = ["LAW_SIZE", "Expected", "Forecast"]
