"""RabbitMQ as the broker of jobs."""

from headway.adapters.rabbitmq.job_broker import RabbitmqJobBroker

__all__ = ["RabbitmqJobBroker"]
