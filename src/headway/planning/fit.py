"""Fitting beliefs to points: weighted least squares by Gauss and Newton, all beliefs at once.

What a belief expects of a point comes from :mod:`headway.planning.simulate` with the same draws for all values
(common random numbers), so it changes smoothly with them and differences give the slopes. Weights are the inverse of
the covariance that runs of that length have, which the simulation knows too.

Beliefs are compared by Akaike's criterion (Burnham and Anderson, "Model selection and multimodel inference", 2002): a
part that does not pay for its freedom loses. Those that are close stay in, with their weight: whoever cannot tell two
beliefs apart must not pretend to in what is predicted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from headway.planning.beliefs import Belief, Evidence, candidates, extended
from headway.planning.measured import Array


@dataclass(frozen=True, slots=True)
class Effort:
    """How finely the beliefs are fitted."""

    streams: int
    steps: int
    """At most."""
    requests: int
    """Simulated per point and stream."""


ROUGH: Final = Effort(2, 2, 400)
FINE: Final = Effort(6, 4, 1000)
EXACT: Final = Effort(32, 3, 1000)
"""What few streams expect scatters as much as what was measured, and the beliefs would be told apart by chance."""
SETTLED: Final = 0.5
"""A step that lowers the misfit by less was the last one."""
NOISE_STREAMS: Final = 24
FAR: Final = 8.0
"""A rough fit with so many times the misfit of the best one is not of a belief that the points speak for."""
HOPELESS: Final = 100.0
"""A belief whose misfit is so much above the best one's is given up, if it is more than twice that too."""
NEAR: Final = 16.0
"""Beliefs whose score is above the best one's by no more are fitted exactly."""
KEPT: Final = 8
"""Beliefs that are fitted exactly, at most."""
LEAST_WEIGHT: Final = 0.02
LEAST_EIGENVALUE: Final = 0.02
"""Of the correlations between the rows of a point."""
STEP: Final = 0.02
LARGEST: Final = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """A belief at its best values."""

    belief: Belief
    expected: Array
    """Rows, as those of the evidence."""
    misfit: float
    """Sum of the squared residuals, each in units of its noise."""
    slopes: Array
    """Of the rows by the values."""
    gain: Array
    """By how much the values move with the rows."""
    left_out: Array
    """Residuals of each point as predicted by the fit to all other points (linearised); rows."""
    weight: float = 1.0


def fit(evidence: Evidence, law: Array, known: Sequence[Belief] = ()) -> tuple[list[Fitted], list[Array]]:
    """The beliefs that the evidence speaks for, the best first, and the noise of the observed rows by point.

    ``known``: what less evidence spoke for; the fit begins there too.
    The noise is scaled up when no belief explains the points within it: machines have more of it than queues alone.
    """
    beliefs = [*candidates(evidence.points, float(law.mean())), *known]
    rough = _best(_refine(evidence, law, beliefs, evidence.first_noise(), ROUGH))
    rough = [f for f in rough if f.misfit <= FAR * rough[0].misfit]
    noise = _noise(evidence, law, rough[0], FINE)
    fine = _refine(evidence, law, [f.belief for f in rough], noise, FINE)
    more = extended(_best(fine)[0].belief, evidence.points)
    fine = _best([*fine, *_refine(evidence, law, more, noise, FINE)])
    near = [f for f in fine if _score(f) <= _score(fine[0]) + NEAR][:KEPT]
    noise = _noise(evidence, law, near[0], EXACT)
    exact = _best(_settle(evidence, law, near, noise))
    best = exact[0]
    excess = _excess(evidence, noise, best)
    scores = [f.misfit / excess + 2 * len(f.belief.values) for f in exact]
    weights = np.exp(-0.5 * (np.array(scores) - min(scores)))
    weights = np.where(weights / weights.sum() < LEAST_WEIGHT, 0.0, weights)
    weights /= weights.sum()
    chosen = [replace(f, weight=float(w)) for f, w in zip(exact, weights, strict=True) if w > 0]
    chosen.sort(key=lambda f: -f.weight)
    return chosen, [n * excess for n in noise]


def _best(found: list[Fitted]) -> list[Fitted]:
    """Of each kind of belief the best one, the best of all first."""
    by_kind: dict[tuple[int, frozenset[str]], Fitted] = {}
    for one in sorted(found, key=_score):
        by_kind.setdefault((one.belief.servers, frozenset(one.belief.parts)), one)
    return list(by_kind.values())


def _score(fitted: Fitted) -> float:
    return fitted.misfit + 2 * len(fitted.belief.values)


def _noise(evidence: Evidence, law: Array, best: Fitted, effort: Effort) -> list[Array]:
    """What runs of that length scatter by if ``best`` is right, and with them what such an effort expects."""
    _, (spread,) = evidence.expect([best.belief.service(law)], NOISE_STREAMS)
    simulated = effort.streams * effort.requests / evidence.requests
    return evidence.noise([_definite(s) for s in spread], simulated)


def _excess(evidence: Evidence, noise: Sequence[Array], best: Fitted) -> float:
    """How many times more variance there is than queues alone explain, at least 1.

    Pooled over the residuals of the best belief and the scatter between repeats of a load, each with its freedom.
    """
    total, freedom = best.misfit, max(1, len(evidence.observed) - len(best.belief.values))
    for point, covariance in zip(evidence.points, noise, strict=True):
        spread = point.spread()
        if spread is not None and not point.saturated:
            more = len(point.runs) - 1
            total += more * sum(s / (covariance[i, i] * len(point.runs)) for i, s in enumerate(spread))
            freedom += more * len(spread)
    return max(1.0, total / freedom)


def _definite(spread: Array) -> Array:
    """With correlations held so far from 1 that it can be inverted whatever few streams say."""
    scale = np.sqrt(np.maximum(np.diag(spread), 1e-18))
    apart = np.outer(scale, scale)
    least = float(np.linalg.eigvalsh(spread / apart)[0])
    if least >= LEAST_EIGENVALUE:
        return spread
    share = (LEAST_EIGENVALUE - least) / (1 - least)
    return np.asarray((1 - share) * spread + share * np.diag(np.diag(spread)))


def _refine(
    evidence: Evidence, law: Array, beliefs: Sequence[Belief], noise: Sequence[Array], effort: Effort
) -> list[Fitted]:
    inverse = _inverse(evidence, noise)
    current = list(beliefs)
    best: list[Fitted | None] = [None] * len(current)
    moving = list(range(len(current)))
    for step in range(effort.steps):
        if not moving:
            break
        tried = [_perturbed(current[i]) for i in moving]
        rows, _ = evidence.expect([b.service(law) for group in tried for b in group], effort.streams, effort.requests)
        begin, settled = 0, set()
        for i, group in zip(moving, tried, strict=True):
            found = _assess(evidence, inverse, group, rows[begin : begin + len(group)])
            begin += len(group)
            known = best[i]
            if known is not None and found.misfit >= known.misfit:
                current[i] = known.belief.at((known.belief.values + current[i].values) / 2)
                continue
            if known is not None and found.misfit > known.misfit - SETTLED:
                settled.add(i)
            best[i] = found
            current[i] = _next(evidence, found)
        least = min(f.misfit for f in best if f is not None)
        room = max(HOPELESS, least) if step else 10 * max(HOPELESS, least)
        settled |= {i for i in moving if (f := best[i]) and f.misfit > least + room}
        moving = [i for i in moving if i not in settled]
    return [f for f in best if f is not None]


def _settle(evidence: Evidence, law: Array, near: Sequence[Fitted], noise: Sequence[Array]) -> list[Fitted]:
    """Beliefs that are close to their best values, with all the streams there are, and the slopes that they have."""
    inverse = _inverse(evidence, noise)
    current = list(near)
    best: list[Fitted | None] = [None] * len(current)
    moving = list(range(len(current)))
    for _ in range(EXACT.steps):
        rows, _ = evidence.expect([current[i].belief.service(law) for i in moving], EXACT.streams, EXACT.requests)
        settled = set()
        for i, expected in zip(moving, rows, strict=True):
            found = _fitted(evidence, inverse, current[i].belief, expected, current[i].slopes)
            known = best[i]
            if known is not None and found.misfit > known.misfit - SETTLED:
                settled.add(i)
            if known is None or found.misfit < known.misfit:
                best[i] = found
                current[i] = replace(found, belief=_next(evidence, found))
        moving = [i for i in moving if i not in settled]
        if not moving:
            break
    return [f for f in best if f is not None]


def _inverse(evidence: Evidence, noise: Sequence[Array]) -> Array:
    whole = np.zeros((len(evidence.observed), len(evidence.observed)))
    for rows, covariance in zip(evidence.rows, noise, strict=True):
        whole[rows, rows] = np.linalg.inv(covariance)
    return whole


def _perturbed(belief: Belief) -> list[Belief]:
    """The belief, and for each value one with that value moved a little."""
    group = [belief]
    for j, value in enumerate(belief.values):
        step = STEP if j == 0 else max(STEP, 0.1 * float(value))
        moved = belief.values.copy()
        moved[j] += step
        other = belief.at(moved)
        if other.values[j] == value:
            moved[j] -= 2 * step
            other = belief.at(moved)
        group.append(other)
    return group


def _assess(evidence: Evidence, inverse: Array, group: Sequence[Belief], rows: Sequence[Array]) -> Fitted:
    belief, expected = group[0], rows[0]
    slopes = np.stack(
        [(rows[j + 1] - expected) / (group[j + 1].values[j] - belief.values[j]) for j in range(len(belief.values))],
        axis=1,
    )
    return _fitted(evidence, inverse, belief, expected, slopes)


def _fitted(evidence: Evidence, inverse: Array, belief: Belief, expected: Array, slopes: Array) -> Fitted:
    residual = evidence.observed - expected
    normal = slopes.T @ inverse @ slopes
    normal += np.eye(len(normal)) * (1e-9 * np.trace(normal) + 1e-9)
    gain = np.asarray(np.linalg.solve(normal, slopes.T @ inverse), dtype=np.float64)
    # Leave-one-out of a linear fit: the residual of a point by all others is (I - H)^-1 times its own, in blocks.
    hat = slopes @ gain
    left_out = residual.copy()
    for r in evidence.rows:
        own = np.eye(r.stop - r.start) - hat[r, r]
        left_out[r] = np.linalg.lstsq(own, residual[r], rcond=1e-3)[0]
    return Fitted(belief, expected, float(residual @ inverse @ residual), slopes, gain, left_out)


def _next(evidence: Evidence, found: Fitted) -> Belief:
    step = found.gain @ (evidence.observed - found.expected)
    largest = np.maximum(LARGEST, 0.5 * np.abs(found.belief.values))
    return found.belief.at(found.belief.values + np.clip(step, -largest, largest))
