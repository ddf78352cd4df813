"""What is told of an event outside of Headway: a message with an id, a topic and a JSON body.

The topic is made for topic exchanges (AMQP 0-9-1, 3.1.3.3): ``model.iris.replica_ready.v1``, or
``installation.control_started.v1`` for what is of no model. Names of models hold no dot, so each is one word.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from headway.domain.events import Event


@dataclass(frozen=True, slots=True)
class EventMessage:
    """One event on its way out. Sent twice it is the same message with the same ``id``."""

    id: str
    topic: str
    lane: str
    """What the order is kept for: the model, or nothing for events of the installation."""
    at: float
    """When it happened, seconds since the epoch."""
    type: str
    body: Mapping[str, Any]
    """As ``GET /v1/events`` gives it."""


def message_of(event: Event, log_id: str) -> EventMessage:
    """``log_id`` tells this log's cursors from those of every other log; an event with a key is called by that."""
    owner = "installation" if event.model is None else f"model.{event.model}"
    body = {
        "cursor": event.cursor,
        "at": event.at,
        "type": event.type,
        "model": event.model,
        "version": event.version,
        "replica": event.replica,
        "data": dict(event.data),
    }
    topic = f"{owner}.{event.type}"
    return EventMessage(event.key or f"{log_id}-{event.cursor}", topic, event.model or "", event.at, event.type, body)
