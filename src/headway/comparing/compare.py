"""Two versions side by side: intervals of both, of the difference, and what they say.

The difference of each figure has a confidence sequence, from what is plausible of both versions together: the product
of what speaks against either. The probability of ever being wrong, ``alpha`` for the whole comparison, is shared out
evenly among measures and among the figures of a measure (Bonferroni). So at most ``alpha`` of all comparisons ever say
"better" or "worse" of a figure whose difference is the other way or none, however often they are looked at.

A figure is *worse* when all of the difference's interval is on the bad side of zero, *better* when it is on the good
side, and *within its margin* when the interval ends before the margin does. A measure is worse when one of its figures
is; better when one is, and none is worse. The whole is worse when one measure is, and better when one is and every
other is within its margin: more clicks from a version that fails more often are no improvement.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final

from headway.comparing.bernoulli import difference, interval
from headway.comparing.means import difference_half_width, mean_half_width
from headway.comparing.quantiles import quantile, quantile_difference, quantile_interval
from headway.domain.arms import ArmFigures, Moments
from headway.domain.comparisons import Answer, Comparison, Figure, Interval, Margins, Measure, MeasureKind

QUANTILES: Final = (0.5, 0.95)
"""Of latency; both are judged. The mean is shown and not judged: one slow answer in a million may move it."""
KINDS: Final = tuple(MeasureKind)
_NS: Final = 1e9

Bounds = tuple[float, float]


def compare(
    base: ArmFigures,
    version: ArmFigures,
    *,
    alpha: float = 0.05,
    margins: Margins | None = None,
    kinds: Collection[MeasureKind] = KINDS,
    metrics: Collection[str] | None = None,
) -> Comparison:
    """What the figures say about ``version``.

    ``metrics`` are compared, also where there is no feedback yet; None: those that there is feedback of.
    """
    margins = margins or Margins()
    share = alpha / len(kinds)
    measures: list[Measure] = []
    if MeasureKind.LATENCY in kinds:
        measures.append(_latency(base, version, share, margins))
    if MeasureKind.ERRORS in kinds:
        measures.append(_errors(base, version, share, margins))
    if MeasureKind.OUTCOME in kinds:
        told = sorted({*base.feedback, *version.feedback} if metrics is None else {*metrics})
        measures += [_outcome(metric, base, version, share / len(told), margins) for metric in told]
    worse = any(measure.answer is Answer.WORSE for measure in measures)
    better = any(measure.answer is Answer.BETTER for measure in measures)
    others = all(measure.within or measure.answer is Answer.BETTER for measure in measures)
    return Comparison(
        base=base.version,
        version=version.version,
        requests=(base.requests, version.requests),
        answer=Answer.WORSE if worse else Answer.BETTER if better and others else Answer.OPEN,
        within=all(measure.within for measure in measures),
        confidence=1 - alpha,
        measures=tuple(measures),
    )


def _latency(base: ArmFigures, version: ArmFigures, alpha: float, margins: Margins) -> Measure:
    share = alpha / (len(QUANTILES) + 1)
    figures = []
    for q in QUANTILES:
        bounds = [_seconds(*quantile_interval(arm.buckets, q, share)) for arm in (base, version)]
        values = [None if (ns := quantile(arm.buckets, q)) is None else ns / _NS for arm in (base, version)]
        floor_ns = margins.latency_floor_s * _NS
        least, most, beyond = quantile_difference(base.buckets, version.buckets, q, share, margins.latency, floor_ns)
        margin = None if values[0] is None else max(margins.latency * values[0], margins.latency_floor_s)
        figure = _figure(f"p{q * 100:.0f}", values, bounds, _seconds(least, most), margin)
        figures.append(replace(figure, within=beyond <= 0))
    means = [arm.seconds for arm in (base, version)]
    shown = [_mean_bounds(mean, share) for mean in means]
    figures.append(
        _figure("mean", _means(means), shown, _mean_difference(means[0], means[1], share), None, judged=False)
    )
    return _measure(MeasureKind.LATENCY, None, (base.seconds.count, version.seconds.count), figures)


def _errors(base: ArmFigures, version: ArmFigures, alpha: float, margins: Margins) -> Measure:
    counts = [(arm.errors, arm.requests) for arm in (base, version)]
    values = [errors / requests if requests else None for errors, requests in counts]
    bounds = [_probability(*count, alpha) for count in counts]
    figure = _figure("rate", values, bounds, difference(counts[0], counts[1], alpha), margins.errors)
    return _measure(MeasureKind.ERRORS, None, (base.requests, version.requests), [figure])


def _outcome(metric: str, base: ArmFigures, version: ArmFigures, alpha: float, margins: Margins) -> Measure:
    samples = [arm.feedback.get(metric, Moments(0, 0.0, 0.0, binary=True)) for arm in (base, version)]
    if all(sample.binary for sample in samples):
        counts = [(round(sample.mean * sample.count), sample.count) for sample in samples]
        bounds, apart = [_probability(*count, alpha) for count in counts], difference(counts[0], counts[1], alpha)
    else:
        bounds, apart = (
            [_mean_bounds(sample, alpha) for sample in samples],
            _mean_difference(samples[0], samples[1], alpha),
        )
    margin = margins.outcome
    if margin is None and samples[0].count > 1:
        margin = Margins.OUTCOME_DEVIATIONS * math.sqrt(samples[0].variance)
        if samples[0].binary:
            margin = max(margin, Margins.OUTCOME_FLOOR)
    # More is better, so what may not grow is the opposite of the metric.
    figure = _figure("mean", _means(samples), bounds, apart, margin, more_is_better=True)
    return _measure(MeasureKind.OUTCOME, metric, (samples[0].count, samples[1].count), [figure])


def _figure(
    name: str,
    values: Sequence[float | None],
    bounds: Sequence[Bounds],
    apart: Bounds,
    margin: float | None,
    *,
    judged: bool = True,
    more_is_better: bool = False,
) -> Figure:
    least, most = apart
    harm, at_worst = (-most, -least) if more_is_better else (least, most)
    answer = Answer.OPEN
    if judged and harm > 0:
        answer = Answer.WORSE
    elif judged and at_worst < 0:
        answer = Answer.BETTER
    return Figure(
        name=name,
        judged=judged,
        base=values[0],
        base_interval=_told(*bounds[0]),
        version=values[1],
        version_interval=_told(*bounds[1]),
        difference=_told(least, most),
        margin=margin,
        answer=answer,
        within=margin is not None and at_worst <= margin,
    )


def _measure(kind: MeasureKind, metric: str | None, counts: tuple[int, int], figures: Sequence[Figure]) -> Measure:
    judged = [figure for figure in figures if figure.judged]
    answers = [figure.answer for figure in judged]
    answer = next((answer for answer in (Answer.WORSE, Answer.BETTER) if answer in answers), Answer.OPEN)
    within = all(figure.within for figure in judged)
    return Measure(kind=kind, metric=metric, counts=counts, answer=answer, within=within, figures=tuple(figures))


def _probability(successes: int, trials: int, alpha: float) -> Bounds:
    low, high = interval(successes, trials, alpha)
    return float(low), float(high)


def _mean_bounds(sample: Moments, alpha: float) -> Bounds:
    half = float(mean_half_width(sample.count, sample.variance, alpha, sample.skewness))
    return sample.mean - half, sample.mean + half


def _mean_difference(base: Moments, version: Moments, alpha: float) -> Bounds:
    counts, variances = (base.count, version.count), (base.variance, version.variance)
    half = float(difference_half_width(counts, variances, alpha, (base.skewness, version.skewness)))
    return version.mean - base.mean - half, version.mean - base.mean + half


def _means(samples: Sequence[Moments]) -> list[float | None]:
    return [sample.mean if sample.count else None for sample in samples]


def _seconds(low: float, high: float) -> Bounds:
    return low / _NS, high / _NS


def _told(low: float, high: float) -> Interval:
    return Interval(low if math.isfinite(low) else None, high if math.isfinite(high) else None)
