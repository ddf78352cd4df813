"""Sightings: what a cluster's objects were like when events were last told of them.

What is kept of an object are *facts*: the few things whose change is worth an event, as JSON. The next look at the
object is compared with them, however much later it comes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from headway.domain.events import NewEvent

Facts = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sighting:
    """One object, once."""

    uid: str
    """Of this very object; one of the same name that is made later is another."""
    kind: str
    """``Pod``"""
    namespace: str
    name: str
    version: str
    """Its resource version then."""
    facts: Facts | None
    """None: it is gone."""
    gone_at: float | None = None
    """When that was found, seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class Step:
    """From one sighting of an object to the next, and what is told of it."""

    before: Sighting | None
    """None: it was never seen."""
    after: Sighting
    events: Sequence[NewEvent]
