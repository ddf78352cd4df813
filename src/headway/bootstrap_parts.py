"""Bootstrap of parts that follow from the settings and the environment alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from headway.adapters.querylog import DuckdbQueryLog, PartStore
from headway.adapters.rabbitmq import RabbitmqEventPublisher
from headway.adapters.signals import PostgresqlSource, PrometheusSource, RabbitmqSource, RedisSource
from headway.adapters.sql import SqlDatabase, SqlEventLog, SqlPlanStore, SqlRelayStore
from headway.control.book import DeploymentBook
from headway.control.event_relay import EventRelay
from headway.control.plans import PlanService
from headway.ports.clock import Clock
from headway.ports.metric_source import MetricSource
from headway.settings import Settings


def query_log_dir(home: Path) -> Path:
    """Where everything of the query log is that is on this machine."""
    return home / "query-log"


def query_log_of(settings: Settings) -> DuckdbQueryLog:
    """The query log of the home in ``settings``. Raises ``MissingExtra`` for object storage without its extra."""
    root, place = query_log_dir(settings.home_path), settings.query_log_store
    if place is not None and place.startswith("s3://"):
        return DuckdbQueryLog(root, PartStore.object_storage(place, root / "cache"))
    return DuckdbQueryLog(root, PartStore.directory(Path(place).expanduser() if place else root / "records"))


def metric_sources(env: Mapping[str, str]) -> dict[str, MetricSource]:
    """By type of trigger, what it is read with; ``env`` holds the variables that triggers name."""
    return {
        "prometheus": PrometheusSource(env),
        "rabbitmq": RabbitmqSource(env),
        "redis": RedisSource(env),
        "postgresql": PostgresqlSource(env),
    }


def plan_service(database: SqlDatabase, book: DeploymentBook, clock: Clock) -> PlanService:
    """Capacity plans of the deployments in ``book``."""
    return PlanService(SqlPlanStore(database), book.get, clock)


def event_relay(settings: Settings, database: SqlDatabase, events: SqlEventLog, clock: Clock) -> EventRelay | None:
    """Who tells a broker of events; None: nobody does. Raises ``MissingExtra``."""
    if settings.events_broker is None:
        return None
    publisher = RabbitmqEventPublisher(settings.events_broker, settings.events_exchange, settings.events_queue)
    return EventRelay(events, SqlRelayStore(database), publisher, clock)
