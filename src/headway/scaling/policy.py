"""What a deployment's autoscaling is told to do: triggers, bounds, behaviour. Plain data, every default filled in.

Times are in seconds, shares between 0 and 1. Terms and defaults are those of Kubernetes' HorizontalPodAutoscaler
(``autoscaling/v2``), KEDA's ``ScaledObject`` and Knative's autoscaler, where these have them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

TOLERANCE: Final = 0.1
"""As in the HPA algorithm: a ratio within 1 ± this changes nothing."""


class Signal(StrEnum):
    """What is measured at every replica."""

    CPU = "cpu"
    """Used processor time as a share of what the replica asks for."""
    MEMORY = "memory"
    """Proportional set size as a share of the replica's limit."""
    CONCURRENCY = "concurrency"
    """Requests in flight, waiting ones included, averaged over the window."""
    RPS = "rps"
    """Requests finished per second."""


class Statistic(StrEnum):
    """Of the latencies in one window."""

    AVERAGE = "average"
    P50 = "p50"
    P75 = "p75"
    P95 = "p95"
    P99 = "p99"


class Pick(StrEnum):
    """Which window of a span counts."""

    MAX = "max"
    LATEST = "latest"


class Select(StrEnum):
    """Which of several scaling rules applies (``selectPolicy``)."""

    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


class RuleType(StrEnum):
    """What a scaling rule counts."""

    PODS = "Pods"
    PERCENT = "Percent"


@dataclass(frozen=True, slots=True)
class Rule:
    """At most ``value`` replicas, or percent of the replicas there were, within ``period_s``."""

    type: RuleType
    value: int
    period_s: float


@dataclass(frozen=True, slots=True)
class Direction:
    """``scaleUp`` or ``scaleDown`` of ``behavior``. No rules: any change is allowed."""

    stabilization_s: float
    rules: tuple[Rule, ...]
    select: Select = Select.MAX
    tolerance: float = TOLERANCE


UP: Final = Direction(0.0, (Rule(RuleType.PODS, 4, 15.0), Rule(RuleType.PERCENT, 100, 15.0)))
DOWN: Final = Direction(300.0, (Rule(RuleType.PERCENT, 100, 15.0),))
"""Kubernetes' defaults."""


@dataclass(frozen=True, slots=True)
class Panic:
    """Knative's panic mode: over a short window the load asks for ``threshold`` times the ready replicas or more.

    From then on, and for one stable window after it was last so, replicas only grow.
    """

    window_s: float = 6.0
    threshold: float = 2.0


@dataclass(frozen=True, slots=True)
class ReplicaTrigger:
    """``target`` per replica: a share for cpu and memory, a number otherwise. HPA algorithm."""

    name: str
    signal: Signal
    target: float
    window_s: float
    panic: Panic | None = None


@dataclass(frozen=True, slots=True)
class LatencyTrigger:
    """Steps while latency is above ``threshold_s`` and waiting is the reason."""

    name: str
    statistic: Statistic
    threshold_s: float
    window_s: float
    """Length of one window of the query log."""
    span_s: float
    """How far back windows are looked at; a whole number of windows."""
    pick: Pick
    every_s: float
    """Between evaluations."""
    step: int
    """Replicas added, or taken away, at a time."""
    cooldown_s: float
    """From any change of the replica count until this trigger acts again."""
    down_share: float
    """Below this share of the threshold latency is "well below"."""
    down_after_s: float
    """For how long it has to be well below before a step is taken back."""
    min_queue_share: float
    """Of the average latency, spent waiting; below it more replicas would not help."""
    min_gain: float
    """A step has to lower the latency by this share, else it is reverted."""


@dataclass(frozen=True, slots=True)
class ExternalTrigger:
    """A number from outside the replicas: Prometheus, a queue, a query. KEDA's semantics."""

    name: str
    kind: str
    """``prometheus``, ``rabbitmq``, ``redis``, ``postgresql``, ``jobs``."""
    target: float
    """Per replica when ``average``, else for all together."""
    activation: float = 0.0
    """Above it the trigger is active: it keeps the last replica, or calls the first."""
    average: bool = True
    max_age_s: float = 90.0
    """A value older than this is no data."""


@dataclass(frozen=True, slots=True)
class CronTrigger:
    """``desired`` replicas between ``start`` and ``end`` (cron expressions) in ``timezone``; no wish outside."""

    name: str
    start: str
    end: str
    timezone: str
    desired: int


@dataclass(frozen=True, slots=True)
class FunctionTrigger:
    """The user's own ``decide(context) -> replicas``; its latest answer comes as a reading."""

    name: str
    max_age_s: float


Trigger = ReplicaTrigger | LatencyTrigger | ExternalTrigger | CronTrigger | FunctionTrigger


class FallbackBehavior(StrEnum):
    """KEDA's ``fallback.behavior``."""

    STATIC = "static"
    CURRENT = "currentReplicas"
    CURRENT_IF_HIGHER = "currentReplicasIfHigher"
    CURRENT_IF_LOWER = "currentReplicasIfLower"


@dataclass(frozen=True, slots=True)
class Fallback:
    """What an external trigger wishes once it has failed ``failure_threshold`` times in a row."""

    failure_threshold: int
    replicas: int
    behavior: FallbackBehavior = FallbackBehavior.STATIC


@dataclass(frozen=True, slots=True)
class Policy:
    """All of it, for each version of one deployment."""

    least: int
    """``minReplicas``; 0 allows scaling to zero."""
    most: int
    triggers: tuple[Trigger, ...]
    up: Direction = UP
    down: Direction = DOWN
    cooldown_s: float = 300.0
    """From the last moment at which any trigger was active until the last replica goes (KEDA)."""
    fallback: Fallback | None = None
    shadow: bool = False
    """Only record what would be done."""
