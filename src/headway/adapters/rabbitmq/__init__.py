"""RabbitMQ as the broker of jobs, and of events."""

from headway.adapters.rabbitmq.event_publisher import RabbitmqEventPublisher
from headway.adapters.rabbitmq.job_broker import RabbitmqJobBroker

__all__ = ["RabbitmqEventPublisher", "RabbitmqJobBroker"]
