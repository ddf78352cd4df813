"""Bodies of the control API about comparisons. Instants are seconds since the epoch (UTC)."""

from __future__ import annotations

from headway.api.schemas import View


class IntervalView(View):
    """Holds at every look; those of differences all together. Null: no bound yet."""

    low: float | None
    high: float | None


class FigureView(View):
    """One figure of both versions: seconds for latency, a share for errors, its own unit for a metric."""

    name: str
    """``p50``, ``p95``, ``mean``, ``rate``."""
    judged: bool
    """Whether the measure's answer depends on it."""
    base: float | None
    base_interval: IntervalView
    version: float | None
    version_interval: IntervalView
    difference: IntervalView
    """Of the version less the base."""
    margin: float | None
    """How much worse it may be."""
    answer: str
    within: bool
    """Shown to be no worse than the margin allows."""


class MeasureView(View):
    kind: str
    """``latency``, ``errors`` or ``outcome``."""
    metric: str | None
    """Of an outcome."""
    counts: list[int]
    """Values of the base and of the version."""
    answer: str
    """``better``, ``worse`` or ``not enough evidence``."""
    within: bool
    figures: list[FigureView]


class ComparisonView(View):
    """Two versions side by side, from the requests that the split drew for them."""

    model: str
    base: str
    version: str
    since: float
    until: float
    requests: list[int]
    """Of the base and of the version."""
    answer: str
    """About the version: ``better``, ``worse`` or ``not enough evidence``."""
    within: bool
    """Every measure is shown to be no worse than its margin allows."""
    confidence: float
    measures: list[MeasureView]
    feedback: int
    """Requests that feedback came for since then, by request and metric."""
    unmatched: int
    """Of them, those that name no request of the span."""
