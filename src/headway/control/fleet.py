"""Fleet: what the autoscaler scales, wherever it runs, and how a count becomes so."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from headway.control.scaling_plan import Plan, Size
from headway.domain.deployments import Version
from headway.domain.replicas import ReplicaStatus
from headway.scaling.decision import Decision


@dataclass(frozen=True, slots=True)
class Scaled:
    """One version that triggers move, as it is now."""

    model: str
    version: str
    plan: Plan
    size: Size
    current: int
    """Replicas wished now."""
    weight: int
    """Its share of the traffic, in percent."""
    replicas: Sequence[ReplicaStatus]
    """Those that are there and stay."""
    held: int = 0
    """Requests that wait for a first replica."""
    built: Version | None = None
    """What users' functions run in; None: no function is asked."""
    kept: int | None = None
    """How many another autoscaler keeps, whatever is decided; None: there is none."""
    full: str = ""
    """Why there is no room for more replicas now; empty while nothing is known to stand in the way."""


class Fleet(Protocol):
    """Asked within one round, it tells of one moment: that of :meth:`begin`."""

    def begin(self) -> None:
        """A round begins."""
        ...

    def models(self) -> Collection[str]:
        """Everything that is scaled, by name."""
        ...

    def waiting(self) -> Collection[str]:
        """The models of which requests wait for a first replica."""
        ...

    def versions(self, model: str, *, at_zero: bool = False) -> Sequence[Scaled]:
        """Those of one model; with ``at_zero`` only such as requests wait for and have no replica wished.

        Raises what is wrong with this model; others are not affected.
        """
        ...

    def replica_ids(self) -> set[str]:
        """Of all replicas there are."""
        ...

    async def carry_out(self, scaled: Scaled, decision: Decision) -> bool:
        """Whether the count is the decided one now: not when there was a change since it was looked at."""
        ...
