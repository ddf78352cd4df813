"""What comes out of a decision: the record of how it was reached, and what the next one has to know."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType


class Status(StrEnum):
    """How a trigger fared."""

    OK = "ok"
    WAITING = "waiting"
    """It has data and holds: cooldown, not yet due, waiting for the effect of its last step."""
    INACTIVE = "inactive"
    """It has data and wishes nothing (below its activation threshold, outside its cron window)."""
    YIELDS = "yields"
    """A latency trigger without a reason to want more, for long enough: its wish is as far as it lets others go down
    now. It counts beside another trigger's wish only; alone, the count is held."""
    NO_DATA = "no_data"
    FALLBACK = "fallback"


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one trigger wants and what it saw."""

    trigger: str
    status: Status
    desired: int | None
    """None: no wish."""
    value: float | None
    """What was compared with ``target``, in the trigger's unit."""
    target: float | None
    age_s: float | None
    note: str
    """One line in plain words."""


@dataclass(frozen=True, slots=True)
class Clamp:
    """One rule that was applied to the wish, in order; only those that changed it are kept."""

    name: str
    """``no_data``, ``panic``, ``stabilization``, ``rate``, ``activation``, ``cooldown``, ``minReplicas``, …"""
    before: int
    after: int
    why: str


@dataclass(frozen=True, slots=True)
class Decision:
    """Of one tick, for one version."""

    at: float
    current: int
    desired: int
    wish: int
    """The largest proposal, before any clamp. When nothing is wished: ``current`` for lack of data, ``minReplicas``
    when all triggers have data and are inactive."""
    proposals: tuple[Proposal, ...]
    clamps: tuple[Clamp, ...]
    binding: str
    """What settled ``desired``: the name of the last clamp that changed it, else of the trigger that won."""
    not_replica_bound: str = ""
    """The latency trigger whose step did not help, at the moment this is found out."""
    shadow: bool = False

    @property
    def changed(self) -> bool:
        """Whether the replica count is to change."""
        return self.desired != self.current


@dataclass(frozen=True, slots=True)
class LatencyState:
    """Between evaluations of one latency trigger."""

    evaluated_at: float | None = None
    below_since: float | None = None
    """Since when every evaluation found latency well below the threshold."""
    idle_since: float | None = None
    """Since when no evaluation found a reason to want more replicas."""
    step_at: float | None = None
    """A step up whose effect is not judged yet."""
    step_from: int = 0
    step_to: int = 0
    ready_at: float | None = None
    """When an evaluation first found all replicas of the step ready."""
    before_s: float | None = None
    """Latency when the step was taken."""
    before_requests: int = 0
    """In the busiest window then."""
    short_at: float | None = None
    """When so many replicas last were too few for so many requests in a window."""
    short_count: int = 0
    short_requests: int = 0
    fruitless_at: float | None = None
    """When a step was last found not to help; no further one until latency has been below the threshold."""
    revert_to: int | None = None
    """Where a fruitless step began, until the count is back there."""
    wish: int | None = None
    """Of the last evaluation, until the next one."""
    count: int = 0
    """Replicas wished when it was made."""
    status: Status = Status.WAITING
    value_s: float | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class State:
    """What one decision leaves to the next. Begin with ``State()``."""

    ups: tuple[tuple[float, int], ...] = ()
    """Wishes within the scale-up stabilization window, as (time, replicas), kept as a rising queue: the first is the
    smallest."""
    downs: tuple[tuple[float, int], ...] = ()
    """The same for scale-down, as a falling queue: the first is the largest."""
    changes: tuple[tuple[float, int], ...] = ()
    """Changes within the longest rule period, as (time, difference)."""
    changed_at: float | None = None
    panic_until: float | None = None
    panic_peak: int = 0
    active_at: float | None = None
    """When any trigger was last active, or a request was held; at first the moment the version was first seen."""
    last: int | None = None
    """The count after the last decision: when another one is found, somebody else has changed it."""
    at: float | None = None
    """When the last decision was made: when it is later than now, the clock was set back."""
    latency: Mapping[str, LatencyState] = field(default_factory=lambda: MappingProxyType({}))
