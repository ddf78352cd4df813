"""Events: state transitions that happened, in the past tense, versioned (``replica_ready.v1``).

:class:`EventType` is the whole list. Consumers resume from a cursor; a cursor grows by at least one
with every event and is never used twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class EventType(StrEnum):
    """Every event there is; the docs page ``reference/events.md`` is checked against it."""

    CONTROL_STARTED = "control_started.v1"
    CONTROL_STOPPED = "control_stopped.v1"
    GATEWAY_STARTED = "gateway_started.v1"
    GATEWAY_ADOPTED = "gateway_adopted.v1"
    GATEWAY_STOPPED = "gateway_stopped.v1"
    GATEWAY_FAILED = "gateway_failed.v1"
    DEPLOYMENT_CREATED = "deployment_created.v1"
    DEPLOYMENT_STATE_CHANGED = "deployment_state_changed.v1"
    DEPLOYMENT_SCALED = "deployment_scaled.v1"
    DEPLOYMENT_CONFIGURED = "deployment_configured.v1"
    DEPLOYMENT_DELETED = "deployment_deleted.v1"
    VERSION_CREATED = "version_created.v1"
    VERSION_BUILDING = "version_building.v1"
    VERSION_ENVIRONMENT_READY = "version_environment_ready.v1"
    VERSION_STARTING = "version_starting.v1"
    VERSION_LIVE = "version_live.v1"
    VERSION_DRAINING = "version_draining.v1"
    VERSION_RETIRED = "version_retired.v1"
    VERSION_FAILED = "version_failed.v1"
    TRAFFIC_REQUESTED = "traffic_requested.v1"
    TRAFFIC_SHIFTED = "traffic_shifted.v1"
    TRIAL_STARTED = "trial_started.v1"
    TRIAL_STEPPED = "trial_stepped.v1"
    TRIAL_HELD = "trial_held.v1"
    TRIAL_ENDED = "trial_ended.v1"
    ROUTE_APPLIED = "route_applied.v1"
    REPLICA_STARTED = "replica_started.v1"
    REPLICA_ADOPTED = "replica_adopted.v1"
    REPLICA_READY = "replica_ready.v1"
    REPLICA_UNREADY = "replica_unready.v1"
    REPLICA_EXITED = "replica_exited.v1"
    REPLICA_STOPPING = "replica_stopping.v1"
    REPLICA_STOPPED = "replica_stopped.v1"
    REPLICA_FAILED = "replica_failed.v1"
    SCALING_DECIDED = "scaling_decided.v1"
    SCALING_SIGNAL_LOST = "scaling_signal_lost.v1"
    SCALING_SIGNAL_BACK = "scaling_signal_back.v1"
    SCALING_NOT_REPLICA_BOUND = "scaling_not_replica_bound.v1"
    SCALING_CONFIGURED = "scaling_configured.v1"
    SCALING_RECORDS_FAILED = "scaling_records_failed.v1"
    SCALING_RECORDS_BACK = "scaling_records_back.v1"
    TOKEN_CREATED = "token_created.v1"
    TOKEN_REVOKED = "token_revoked.v1"
    QUERY_LOG_INCOMPLETE = "query_log_incomplete.v1"
    QUERY_LOG_FAILED = "query_log_failed.v1"
    QUERY_LOG_RECOVERED = "query_log_recovered.v1"


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event about to be recorded."""

    at: float
    """Seconds since the epoch."""
    type: EventType
    model: str | None = None
    version: str | None = None
    replica: str | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    """JSON values only."""
    key: str | None = None
    """Names what happened where it may be found out more than once, at most 160 characters; recorded once."""


@dataclass(frozen=True, slots=True)
class Event:
    """A recorded event."""

    cursor: int
    at: float
    type: str
    """A plain string, so that an older reader can pass on a newer writer's event."""
    model: str | None
    version: str | None
    replica: str | None
    data: Mapping[str, Any]
    key: str | None = None
    """As in :class:`NewEvent`."""
