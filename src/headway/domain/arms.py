"""Figures of the versions that a traffic split chose between, from the query log and feedback. Plain data.

Of the requests whose version the split drew (arms ``split`` and ``sticky``): a pinned request, a shadow's copy or a job
met its version for a reason, so it says nothing about what the draw did. A request counts that led to a route of the
model server. ``errors`` and which requests are *timed* is as everywhere (:mod:`headway.domain.query_log`), but the
first answer of a process is not timed here: it says how a replica starts, and the newer version has more of those.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from headway.domain.query_log import Arm

DRAWN: Final = (Arm.SPLIT, Arm.STICKY)
"""Ways to a version that are the split's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmQuery:
    """Requests that arrived in ``[since_ns, until_ns)``, and all feedback that came since."""

    model: str
    versions: tuple[str, ...]
    since_ns: int
    until_ns: int


@dataclass(frozen=True, slots=True)
class Moments:
    """Of a sample: how many, their mean, their unbiased variance (0 of fewer than two)."""

    count: int
    mean: float
    variance: float
    binary: bool = False
    """Every value is 0 or 1."""
    skewness: float = 0.0
    """Third central moment in standard deviations; 0 where there is no variance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmFigures:
    """One version's part."""

    version: str
    requests: int = 0
    errors: int = 0
    first_ns: int | None = None
    """Arrival of its first request in the span; None without any."""
    buckets: Mapping[int, int] = field(default_factory=dict)
    """Timed requests by bucket of their total time in nanoseconds (:class:`headway.domain.sketch.LatencySketch`)."""
    seconds: Moments = Moments(0, 0.0, 0.0)
    """Of the same, exactly, in seconds."""
    feedback: Mapping[str, Moments] = field(default_factory=dict)
    """By metric: the last value for each request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmTable:
    """The answer to an :class:`ArmQuery`; every version that was asked for is in it."""

    query: ArmQuery
    arms: Mapping[str, ArmFigures]
    feedback: int
    """Requests that feedback came for since ``query.since_ns``, by request and metric."""
    unmatched: int
    """Of them, those that name no request of the span, of whatever arm or version."""
