"""Numbers from outside that replicas are scaled by: Prometheus, RabbitMQ, Redis, PostgreSQL, jobs.

A source asks and answers with one finite number or raises ``SignalLost`` that says what was asked, of whom, and what
came back; it never takes silence for zero. Libraries of the extras are imported when the first question is asked.
"""

from headway.adapters.signals.jobs import JobsSource
from headway.adapters.signals.postgresql import PostgresqlSource
from headway.adapters.signals.prometheus import PrometheusSource
from headway.adapters.signals.rabbitmq import RabbitmqSource
from headway.adapters.signals.redis import RedisSource

__all__ = ["JobsSource", "PostgresqlSource", "PrometheusSource", "RabbitmqSource", "RedisSource"]
