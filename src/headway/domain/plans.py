"""What a capacity plan is kept as: a document, and what it stands and falls with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Basis:
    """What was measured. A plan is stale as soon as any of it is not so any more."""

    version: str
    digest: str
    """Of the version: of its content and of the part of the spec that makes it."""
    resources: Mapping[str, Any]
    """What a replica may use: ``cpu``, ``memory``, ``workers``."""
    requests: str
    """Digest of the requests that were sent, the request mix."""

    def differences(self, now: Basis) -> tuple[str, ...]:
        """What has changed since, in plain words; empty: the plan still holds."""
        found = []
        if now.version != self.version:
            found.append(f"{now.version} serves now, {self.version} was measured")
        elif now.digest != self.digest:
            found.append(f"the content of {self.version} is another one")
        for name in sorted({*self.resources, *now.resources}):
            before, after = self.resources.get(name), now.resources.get(name)
            if before != after:
                found.append(f"resources.{name} was {_told(before)}, is {_told(after)}")
        if self.requests and now.requests and now.requests != self.requests:
            found.append("the requests that would be sent are others")
        return tuple(found)


def _told(value: object) -> str:
    return "not set" if value is None else str(value)


@dataclass(frozen=True, slots=True)
class PlanRecord:
    """A stored plan."""

    model: str
    at: float
    basis: Basis
    document: Mapping[str, Any]
    """The rest: points, fit, capacities, answer. JSON."""
    number: int = 0
    """Its place among all plans of all models; 0: not stored yet."""
