"""A comparison of two versions: what was measured of both, and what it says. Plain data."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, ClassVar


class Answer(StrEnum):
    """Of a comparison, or of one measure; about the newer version."""

    BETTER = "better"
    WORSE = "worse"
    OPEN = "not enough evidence"


class MeasureKind(StrEnum):
    """What can be compared."""

    LATENCY = "latency"
    ERRORS = "errors"
    OUTCOME = "outcome"


@dataclass(frozen=True, slots=True)
class Interval:
    """From ``low`` to ``high``; None: without a bound, there are too few values yet."""

    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure of both versions. Seconds for latency, a share for errors, its own unit for a metric."""

    name: str
    """``p50``, ``p95``, ``mean``, ``rate``."""
    judged: bool
    """Whether the measure's answer depends on it."""
    base: float | None
    """None without values."""
    base_interval: Interval
    version: float | None
    version_interval: Interval
    difference: Interval
    """Of the newer version less the base."""
    margin: float | None
    """How much worse it may be; None where it is not judged, or nothing is known of the base yet."""
    answer: Answer
    within: bool
    """Shown to be no worse than the margin allows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What one kind of figure says."""

    kind: MeasureKind
    metric: str | None
    """Of an outcome."""
    counts: tuple[int, int]
    """Values of the base and of the version."""
    answer: Answer
    within: bool
    """All judged figures are."""
    figures: tuple[Figure, ...]

    @property
    def name(self) -> str:
        """``latency``, ``errors``, or the metric's name."""
        return self.metric or str(self.kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """``version`` compared with ``base``. All differences hold together, at every look, with ``confidence``."""

    base: str
    version: str
    requests: tuple[int, int]
    """Of the base and of the version."""
    answer: Answer
    within: bool
    """Every measure is shown to be within its margin."""
    confidence: float
    measures: tuple[Measure, ...]

    def measure(self, name: str) -> Measure | None:
        """The measure of that name; None when there is none."""
        return next((measure for measure in self.measures if measure.name == name), None)

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Margins:
    """How much worse a version may be and still count as no worse."""

    latency: float = 0.10
    """Share of the base's p50 and p95."""
    latency_floor_s: float = 0.001
    """Or so much, if that is more: what is quick already need not stay as quick to the microsecond."""
    errors: float = 0.005
    """Share of requests."""
    outcome: float | None = None
    """In the metric's own unit; None: :attr:`OUTCOME_DEVIATIONS` standard deviations of the base's values."""

    OUTCOME_FLOOR: ClassVar[float] = 0.01
    """The least that follows for outcomes of 0 and 1: of a base that is always right nothing would."""
    OUTCOME_DEVIATIONS: ClassVar[float] = 0.1
    """Half of what is called a small effect (Cohen: "Statistical power analysis for the behavioral sciences", 1988)."""
