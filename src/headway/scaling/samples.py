"""What a decision is made from: one reading per trigger, by the trigger's name. "No data" is None, never a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class ReplicaReading(NamedTuple):
    """One replica, as one trigger sees it."""

    ready: bool
    ready_for_s: float
    """Since it became ready; 0 while it is not."""
    value: float | None
    """The signal over the trigger's window, or over the time since the first of the version's replicas is ready when
    that is shorter: one interval for all of them, so that their sum is the version's average over it."""
    burst: float | None = None
    """The same over the panic window."""
    age_s: float | None = None
    """Of the newest measurement in ``value``."""


@dataclass(frozen=True, slots=True)
class PerReplica:
    """For a ``ReplicaTrigger``: every replica that is there and not leaving."""

    replicas: tuple[ReplicaReading, ...]


class LatencyWindow(NamedTuple):
    """One window of the query log."""

    requests: int
    value_s: float | None
    """The trigger's statistic of total latency; None for no requests."""
    queue_share: float | None
    """Average time in the queue over average total time; None for no requests."""


@dataclass(frozen=True, slots=True)
class LatencyReading:
    """For a ``LatencyTrigger``: the windows of its span, oldest first. ``error``: they could not be had."""

    windows: tuple[LatencyWindow, ...]
    age_s: float | None
    """Since the end of the newest window; 0 for one that is still open."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """For an ``ExternalTrigger`` (a value) or a ``FunctionTrigger`` (a replica count)."""

    value: float | None
    age_s: float | None
    """Since ``value`` was read; a later failure does not make it younger."""
    error: str = ""
    """Why the latest attempt failed; empty when it did not."""
    failures: int = 0
    """Attempts in a row that failed."""


@dataclass(frozen=True, slots=True)
class Samples:
    """Everything about one version at one moment."""

    current: int
    """Replicas wished now."""
    ready: int
    held: int = 0
    """Requests that wait at the gateway for a first replica."""
    readings: Mapping[str, PerReplica | LatencyReading | Reading] | None = None
    """By trigger name. One that is missing is no data."""
    room: int | None = None
    """How many there is room for beside all others that share a limit; None: there is none to share."""
    kept: int | None = None
    """How many somebody else keeps whatever is wished here, such as another autoscaler; None: nobody does."""
    full: str = ""
    """Why more replicas would find no place now, in words; empty while nothing is known to stand in the way."""
