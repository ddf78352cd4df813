"""``spec.scaling``: how many replicas, and by which signals that number moves.

Field names, defaults and meaning are those of Kubernetes' HorizontalPodAutoscaler (``autoscaling/v2``) and of KEDA's
scalers where these have them; what differs is said in the field's description. What a field has to keep by itself
stands here; what several have to keep together in :mod:`headway.domain.scaling_rules`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from headway.domain.quantities import seconds
from headway.domain.scaling_values import (
    Address,
    AmqpOrHttpUri,
    Cron,
    EnvRef,
    HttpUri,
    PostgresqlUri,
    TimeZone,
    TriggerName,
)
from headway.domain.spec_part import Part
from headway.domain.spec_values import Duration, EntryPoint, Memory, ModelName, Percent

Count = Annotated[int, Field(ge=0, le=1000)]
Positive = Annotated[float, Field(gt=0, le=1e15, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)]
Text = Annotated[str, Field(min_length=1, max_length=4096)]


def _between(least: str, most: str) -> AfterValidator:
    def run(text: str) -> str:
        if not seconds(least) <= seconds(text) <= seconds(most):
            raise ValueError(f"must be at least {least} and at most {most}")
        return text

    return AfterValidator(run)


Window = Annotated[Duration, _between("1s", "1h")]
PanicWindow = Annotated[Duration, _between("0s", "1h")]
Every = Annotated[Duration, _between("1s", "1h")]
Pause = Annotated[Duration, _between("0s", "24h")]
Span = Annotated[Duration, _between("1s", "24h")]
Latency = Annotated[Duration, _between("1ms", "1h")]
AnswerTime = Annotated[Duration, _between("10ms", "30s")]


class Rule(Part):
    type: Literal["Pods", "Percent"]
    value: int = Field(ge=1, le=1_000_000)
    period_seconds: int = Field(ge=1, le=1800)


class Direction(Part):
    """As in ``autoscaling/v2``. Left out, a field has Kubernetes' default for its direction."""

    stabilization_window_seconds: int | None = Field(default=None, ge=0, le=3600)
    select_policy: Literal["Max", "Min", "Disabled"] = "Max"
    policies: list[Rule] | None = Field(default=None, min_length=1, max_length=20)
    tolerance: float = Field(default=0.1, ge=0, lt=1)


class Behavior(Part):
    scale_up: Direction = Direction()
    scale_down: Direction = Direction()


class Fallback(Part):
    """What an outside signal wishes once it has failed that often in a row. Left out: hold."""

    failure_threshold: int = Field(default=3, ge=1, le=1000)
    replicas: Count
    behavior: Literal["static", "currentReplicas", "currentReplicasIfHigher", "currentReplicasIfLower"] = "static"


class _Named(Part):
    name: TriggerName | None = Field(default=None, description="Its name in records; left out, its type.")


class UtilizationTrigger(_Named):
    """Average use per replica, as a share of what a replica asks for (``resources``)."""

    type: Literal["cpu", "memory"]
    target: Percent = Field(description="80%: of resources.cpu (left out: a core per worker) or resources.memory.")
    window: Window = Field(default="15s", description="Use is averaged over this time.")


class LoadTrigger(_Named):
    """Requests per replica: in flight (concurrency) or per second (rps)."""

    type: Literal["concurrency", "rps"]
    target: Positive = Field(description="Per replica.")
    window: Window = Field(default="1m", description="Load is averaged over this time (the stable window).")
    panic_window: PanicWindow = Field(default="6s", description="The short window that notices bursts; 0s: no panic.")
    panic_threshold: float = Field(
        default=2.0, ge=1.1, le=100, description="How many times the ready replicas a burst must ask for."
    )


class LatencyTrigger(_Named):
    type: Literal["latency"]
    quantile: Literal["average", "p50", "p75", "p95", "p99"] = Field(default="p95", description="Of each window.")
    threshold: Latency = Field(description="Above it replicas are added.")
    window: Window = Field(default="1m", description="Length of one window of the query log.")
    span: Span | None = Field(default=None, description="How far back windows count; left out, one window.")
    pick: Literal["max", "latest"] = Field(default="max", description="Which of the span's windows counts.")
    every: Every = Field(default="15s", description="Between evaluations.")
    step: int = Field(default=1, ge=1, le=100, description="Replicas added at a time, and taken back.")
    cooldown: Pause = Field(default="1m", description="From any change of the replicas until the next step.")
    down_threshold: Percent = Field(default="50%", description="Of the threshold: below it latency is well below.")
    down_after: Pause = Field(default="5m", description="How long it must be well below before a step down.")
    min_queue_share: float = Field(
        default=0.2, ge=0, le=1, description="Least share of latency spent waiting: below it replicas would not help."
    )
    min_gain: float = Field(default=0.1, ge=0, lt=1, description="A step that lowers latency by less is reverted.")


class _External(_Named):
    polling_interval: Every = Field(default="15s", description="Between questions.")
    timeout: AnswerTime = Field(default="3s", description="For one answer.")


class PrometheusTrigger(_External):
    type: Literal["prometheus"]
    server_address: HttpUri = Field(description="http://host:9090, a path prefix included.")
    query: Text = Field(description="PromQL with one number as its result.")
    threshold: Positive
    activation_threshold: NotNegative = 0.0
    metric_type: Literal["AverageValue", "Value"] = "AverageValue"
    ignore_null_values: bool = Field(
        default=False, description="true: an empty result is 0. KEDA's default; here it is no data unless asked for."
    )
    bearer_token_from_env: EnvRef | None = None


class RabbitmqTrigger(_External):
    type: Literal["rabbitmq"]
    host: AmqpOrHttpUri | None = Field(
        default=None, description="amqp:// or http:// (management) URI, a virtual host in it."
    )
    host_from_env: EnvRef | None = None
    queue_name: Text
    mode: Literal["QueueLength", "MessageRate"] = Field(default="QueueLength", description="MessageRate needs http.")
    value: Positive = Field(description="Messages, or messages per second, per replica.")
    activation_value: NotNegative = 0.0
    exclude_unacknowledged: bool = Field(default=False, description="With http: only messages that are ready.")


class RedisTrigger(_External):
    type: Literal["redis"]
    address: Address | None = Field(default=None, description="host:port.")
    address_from_env: EnvRef | None = None
    username_from_env: EnvRef | None = None
    password_from_env: EnvRef | None = None
    database_index: int = Field(default=0, ge=0, le=1023)
    enable_tls: Annotated[bool, Field(alias="enableTLS")] = False
    list_name: Text = Field(description="The list; with library, the queue as that library names it.")
    library: Literal["rq", "celery"] | None = Field(
        default=None, description="rq: queued, started and scheduled jobs count; celery: queued and unacknowledged."
    )
    list_length: Positive = Field(default=5.0, description="Per replica.")
    activation_list_length: NotNegative = 0.0


class PostgresqlTrigger(_External):
    type: Literal["postgresql"]
    connection: PostgresqlUri | None = Field(default=None, description="postgresql://user@host:5432/database")
    connection_from_env: EnvRef | None = None
    query: Text = Field(description="One row with one number.")
    target_query_value: Positive
    activation_target_query_value: NotNegative = 0.0


class JobsTrigger(_External):
    """Headway's own queue: jobs that are due and jobs that run."""

    type: Literal["jobs"]
    model: ModelName | None = Field(default=None, description="Whose jobs; left out, this model's.")
    value: Positive = Field(description="Jobs, queued and running, per replica.")
    activation_value: NotNegative = 0.0


class CronTrigger(_Named):
    type: Literal["cron"]
    timezone: TimeZone = "UTC"
    start: Cron = Field(description="Cron expression: from when.")
    end: Cron = Field(description="Cron expression: until when.")
    desired_replicas: int = Field(ge=1, le=1000)


class PythonTrigger(_Named):
    """``decide(context) -> replicas`` in the version's bundle, run in its environment, in its own process."""

    type: Literal["python"]
    entrypoint: EntryPoint = Field(default="scaling:decide", description="module:function in the bundle.")
    every: Every = Field(default="15s", description="Between calls.")
    timeout: AnswerTime = Field(default="1s", description="For one call; then its process is killed.")
    memory: Memory = Field(default="256Mi", description="Limit of its process.")


ExternalTriggerSpec = PrometheusTrigger | RabbitmqTrigger | RedisTrigger | PostgresqlTrigger | JobsTrigger
TriggerSpec = Annotated[
    UtilizationTrigger | LoadTrigger | LatencyTrigger | ExternalTriggerSpec | CronTrigger | PythonTrigger,
    Field(discriminator="type"),
]


class Scaling(Part):
    min_replicas: int = Field(default=1, ge=0, le=1000, description="Fewest replicas of each version in the split.")
    max_replicas: int | None = Field(
        default=None, ge=1, le=1000, description="Most; left out, as many as minReplicas: nothing moves."
    )
    triggers: list[TriggerSpec] = Field(default=[], max_length=20, description="The largest wish of them wins.")
    behavior: Behavior = Behavior()
    cooldown_period: Pause = Field(default="5m", description="Without an active trigger, until the last one goes.")
    fallback: Fallback | None = None
    shadow: bool = Field(default=False, description="true: decisions are recorded and not carried out.")
    warm_start: bool = Field(
        default=True, description="Keep a process that has loaded the model, to fork replicas from; false: spawn each."
    )

    @property
    def elastic(self) -> bool:
        """Whether triggers move the number of replicas."""
        return bool(self.triggers)

    @property
    def first_count(self) -> int:
        """Replicas of the very first version: it has to come up once, to show that it can."""
        return max(1, self.min_replicas) if self.elastic else self.min_replicas
