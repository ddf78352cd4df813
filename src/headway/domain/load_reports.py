"""What a load test found: intervals, phases, the whole, and a verdict. Plain data.

Whatever a request does counts for the moment at which it was *due*: a stall shows where it began, in all the requests
that it held up.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from headway.domain.load_samples import Figures, Samples
from headway.domain.load_shapes import LoadShape


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPoint:
    """One interval, ``[begin_s, end_s)`` after the begin of the load. None: not known."""

    begin_s: float
    end_s: float
    stage: int
    """Place in ``LoadShape.stages``."""
    users: int | None
    """Of a closed loop, as many as there were at its end."""
    offered_per_s: float | None
    """Of an open loop: requests that were due, a second."""
    sent_per_s: float
    answered_per_s: float
    """Answers that came in it, whenever they were due."""
    figures: Figures
    """Of the requests that were due in it. Of the newest intervals some may still be under way."""
    in_flight: int | None
    """Requests without an answer at its end; None: the generator does not know."""
    late_s: float
    """How late the generator was at worst, from due to sent."""
    replicas: int | None = None
    """Ready ones."""
    wished: int | None = None
    cpu_cores: float | None = None
    """Processor use of all replicas together."""
    memory_bytes: int | None = None
    """Of all replicas together."""
    measured: int | None = None
    """Replicas that ``cpu_cores`` is of; None: nobody looked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadPhase:
    """A stage as it was carried out."""

    name: str
    begin_s: float
    end_s: float
    load_begin: float
    load_end: float
    answered_per_s: float
    """Answers that came in it, whenever they were due."""
    figures: Figures
    replicas_least: int | None = None
    replicas_most: int | None = None
    cpu_cores: float | None = None
    """Mean."""


@dataclass(frozen=True, slots=True)
class ScalingMark:
    """A change of the wished replicas while the test ran."""

    at_s: float
    version: str
    current: int
    desired: int
    summary: str


WINDOW_S: Final = 5.0
"""Over so long a promise has to be broken to count as broken at a time, and to stop the test."""
LEAST_REQUESTS: Final = 20
"""With fewer in such a window nothing is said about it; to stop the test, it is made longer until there are so many."""


class Ending(StrEnum):
    """Why the load ended."""

    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    BREACH = "breach"
    """A promise was broken, and the test was to stop then."""
    FAILED = "failed"
    """The generator could not go on."""


class Outcome(StrEnum):
    """What the promises came to."""

    KEPT = "kept"
    BROKEN = "broken"
    REFUSED = "refused"
    """Not to be told from this run: see the reasons."""
    NONE = "none"
    """Nothing was promised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PromiseResult:
    """One promise and what was measured."""

    promise: str
    measured: float | None
    """Of the whole run: seconds, or a share of errors; None: there was nothing to measure."""
    kept: bool | None
    broken_at_s: float | None = None
    """From when on it was first not kept over :data:`WINDOW_S`; None: never."""
    broken_at_load: float | None = None
    """The users, or arrivals a second, at that time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GeneratorHealth:
    """Whether the figures are of the system, or of the generator itself."""

    saturated: bool
    reasons: tuple[str, ...]
    late_p99_s: float | None
    """From due to sent; None without requests."""
    late_max_s: float | None
    cpu_share: float | None
    """Of one core, of the busiest of its processes, mean over the run."""
    waited: int = 0
    """Requests that left late since no further connection could be opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Of the whole run."""

    outcome: Outcome
    promises: tuple[PromiseResult, ...]
    reasons: tuple[str, ...]
    """Why it is refused, or what was broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """Everything. ``samples`` has every request and is not part of the JSON."""

    model: str
    url: str
    started_at: float
    """Seconds since the epoch."""
    duration_s: float
    """From the begin of the load to the last answer."""
    shape: LoadShape
    generator: str
    """``headway`` or ``locust``."""
    ending: Ending
    total: Figures
    points: tuple[LoadPoint, ...]
    phases: tuple[LoadPhase, ...]
    decisions: tuple[ScalingMark, ...]
    faults: Mapping[str, int]
    health: GeneratorHealth
    verdict: Verdict
    notes: tuple[str, ...] = ()
    """What one has to know to read the figures."""
    samples: Samples = field(repr=False, compare=False, default_factory=Samples)
