"""Bodies of the control API that tell how models are scaled. Instants are seconds since the epoch (UTC)."""

from __future__ import annotations

from typing import Any

from headway.api.schemas import Body, View


class SignalView(View):
    """One trigger, as it was seen at the latest decision. Shares are between 0 and 1, latencies in seconds."""

    trigger: str
    """Its name, else its type."""
    status: str
    """``ok``, ``waiting``, ``inactive``, ``no_data`` or ``fallback``."""
    desired: int | None = None
    """Replicas that it wishes; None: no wish."""
    value: float | None = None
    target: float | None = None
    age_s: float | None = None
    note: str


class DecisionSummary(View):
    """A decision in short."""

    at: float
    current: int
    desired: int
    wish: int
    """The largest proposal before any clamp."""
    binding: str
    """What settled it: a trigger's or a clamp's name."""
    summary: str
    shadow: bool = False


class VersionScaling(View):
    """One version of the split."""

    version: str
    weight: int | None = None
    """Its share of production traffic now; None while it is only on its way into the split."""
    wished: int
    ready: int
    decision: DecisionSummary | None = None
    """The latest; None: none yet."""
    signals: list[SignalView]


class ScalingView(View):
    """How a model is scaled, and how that stands."""

    model: str
    scaling: dict[str, Any] | None = None
    """``spec.scaling`` as it was written, defaults filled in; None: the number of replicas is fixed."""
    replicas: int
    """That number."""
    versions: list[VersionScaling]


class ReplicaUsage(View):
    """Counters of a ready replica that only grow while ``epoch`` stays the same; a rate is a difference of two."""

    name: str
    at: float
    """When it was measured, in seconds of a clock that never steps."""
    epoch: str
    cpu_s: float | None = None
    """Processor time of all its processes."""
    memory_bytes: int | None = None
    """Of all its processes; shared pages by their share."""
    in_flight: int | None = None
    finished: int | None = None


class UsageView(View):
    """How many replicas are wished and ready, and what the ready ones have used."""

    model: str
    wished: int
    ready: int
    replicas: list[ReplicaUsage]


class ScalingBody(Body):
    scaling: dict[str, Any] | None
    """What ``spec.scaling`` would say; null: a fixed number of replicas, as many as there are."""


class ScalingChange(View):
    """Answer of a change of the policy: it is in force."""

    model: str
    scaling: dict[str, Any] | None = None
    replicas: int
    cursor: int


class DecisionView(View):
    """One recorded decision."""

    at: float
    version: str
    current: int
    desired: int
    changed: bool
    binding: str
    summary: str
    shadow: bool
    """Recorded and not carried out."""
    role: str = "serve"
    """``serve``: it counts replicas that answer requests; ``work``: workers."""
    cursor: int
    """Its place among all records; of a decision that is not recorded, that of the record before it."""
    document: dict[str, Any]
    """All it was made from and how: ``policy``, ``samples``, ``state``, ``decision``, ``flip``."""


class DecisionPage(View):
    """The newest of the span, oldest first."""

    model: str
    since: float | None = None
    until: float | None = None
    decisions: list[DecisionView]


class Explanation(DecisionView):
    """A decision with its story in plain words, a line each."""

    lines: list[str]


class ExplainView(View):
    """Of each version the decision that was in force at ``at``; none: nothing was decided by then."""

    model: str
    at: float
    decisions: list[Explanation]
