"""The decision record as it is stored: what was decided, and a document that tells why and replays it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headway.domain.replicas import Role


@dataclass(frozen=True, slots=True)
class DecisionRecord:
    """One recorded tick of one version."""

    at: float
    """Seconds since the epoch."""
    model: str
    version: str
    current: int
    desired: int
    binding: str
    """What settled it: a trigger's or a clamp's name."""
    summary: str
    """One sentence."""
    shadow: bool
    """Only recorded, not acted upon."""
    document: Mapping[str, Any]
    """JSON: ``policy``, ``samples``, ``state`` before, ``decision`` (proposals with ages, wish, clamps in order),
    ``flip`` (the smallest change that would have led elsewhere). See ``headway.scaling.record``."""
    cursor: int = 0
    """Set by the store; grows with every record."""
    role: Role = "serve"
    """What is counted: replicas that serve, or workers."""

    @property
    def changed(self) -> bool:
        return self.desired != self.current
