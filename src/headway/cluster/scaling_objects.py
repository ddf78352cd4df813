"""What moves the number of replicas where Headway's own loop does not: a HorizontalPodAutoscaler, or KEDA's objects.

Field by field the same as in ``spec.scaling``; :mod:`headway.cluster.engines` has refused the rest before.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Final
from urllib.parse import parse_qsl, unquote, urlsplit

from headway.cluster.engines import EXTERNAL
from headway.cluster.names import Object, Owner, built, side_object
from headway.domain.errors import Unsupported
from headway.domain.kubernetes_spec import Engine
from headway.domain.quantities import seconds, share
from headway.domain.scaling_spec import (
    CronTrigger,
    Direction,
    LatencyTrigger,
    PostgresqlTrigger,
    PrometheusTrigger,
    RabbitmqTrigger,
    RedisTrigger,
    Scaling,
    TriggerSpec,
    UtilizationTrigger,
)

KEDA: Final = "keda.sh/v1alpha1"
SSL_MODE: Final = "prefer"
"""What PostgreSQL's own clients do when nothing is said."""


@dataclass(frozen=True, slots=True)
class Target:
    """A workload whose replicas are moved, and what its scaling objects are called."""

    name: str
    """Of the objects, and of the Deployment unless ``deployment`` says another."""
    labels: dict[str, str]
    deployment: str
    secret: str | None
    """Whose keys are what triggers name in ``…FromEnv``."""

    @property
    def reference(self) -> Object:
        return {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.deployment}


def scaling_objects(
    owner: Owner, target: Target, scaling: Scaling, engine: Engine, floor: int | None = None
) -> list[Object]:
    """The objects with which ``engine`` scales ``target``; none for ``headway`` and for a fixed number.

    ``floor``: the fewest replicas now, where latency has raised ``minReplicas``.
    """
    if not scaling.elastic or engine == "headway":
        return []
    least = scaling.min_replicas if floor is None else floor
    if engine == "hpa":
        return [_autoscaler(owner, target, scaling, least)]
    return _keda_objects(owner, target, scaling, least)


def _autoscaler(owner: Owner, target: Target, scaling: Scaling, least: int) -> Object:
    metrics = [
        {
            "type": "Resource",
            "resource": {
                "name": trigger.type,
                "target": {"type": "Utilization", "averageUtilization": _percent(trigger)},
            },
        }
        for trigger in scaling.triggers
        if isinstance(trigger, UtilizationTrigger)
    ]
    spec: Object = {
        "scaleTargetRef": target.reference,
        "minReplicas": least,
        "maxReplicas": scaling.max_replicas,
        "metrics": metrics,
    }
    if behavior := _behavior(scaling):
        spec["behavior"] = behavior
    body = {"spec": spec}
    return built("autoscaling/v2", "HorizontalPodAutoscaler", target.name, owner, target.labels, body)


def _keda_objects(owner: Owner, target: Target, scaling: Scaling, least: int) -> list[Object]:
    credentials: list[Object] = []
    triggers: list[Object] = []
    for trigger in scaling.triggers:
        if isinstance(trigger, LatencyTrigger):
            continue  # Headway's own loop raises minReplicaCount by it
        found = _keda_trigger(trigger)
        secrets = _secrets(trigger)
        if secrets:
            name = side_object(owner.name, trigger.name or trigger.type)
            references = [{"parameter": field, "name": target.secret, "key": key} for field, key in secrets.items()]
            body = {"spec": {"secretTargetRef": references}}
            # Versions of a model share them: their triggers are those of the one policy.
            shared = {key: text for key, text in target.labels.items() if not key.endswith("/version")}
            credentials.append(built(KEDA, "TriggerAuthentication", name, owner, shared, body))
            found["authenticationRef"] = {"name": name}
        triggers.append(found)
    spec: Object = {
        "scaleTargetRef": target.reference,
        "minReplicaCount": least,
        "maxReplicaCount": scaling.max_replicas,
        "cooldownPeriod": int(seconds(scaling.cooldown_period)),
        "triggers": triggers,
    }
    polled = [trigger.polling_interval for trigger in scaling.triggers if isinstance(trigger, EXTERNAL)]
    if polled:
        spec["pollingInterval"] = int(seconds(polled[0]))
    if scaling.fallback is not None:
        spec["fallback"] = scaling.fallback.model_dump(mode="json", by_alias=True)
    if behavior := _behavior(scaling):
        spec["advanced"] = {"horizontalPodAutoscalerConfig": {"behavior": behavior}}
    body = {"spec": spec}
    return [*credentials, built(KEDA, "ScaledObject", target.name, owner, target.labels, body)]


def _behavior(scaling: Scaling) -> Object:
    directions = {"scaleUp": scaling.behavior.scale_up, "scaleDown": scaling.behavior.scale_down}
    found = {name: _direction(direction) for name, direction in directions.items()}
    return {name: rules for name, rules in found.items() if rules}


def _direction(direction: Direction) -> Object:
    return direction.model_dump(
        mode="json", by_alias=True, exclude_none=True, exclude_defaults=True, exclude={"tolerance"}
    )


def _keda_trigger(trigger: TriggerSpec) -> Object:
    match trigger:
        case UtilizationTrigger():
            found: Object = {"metricType": "Utilization", "metadata": {"value": str(_percent(trigger))}}
        case PrometheusTrigger():
            found = {"metricType": trigger.metric_type, "metadata": _prometheus(trigger)}
        case RabbitmqTrigger():
            found = {"metadata": _rabbitmq(trigger)}
        case RedisTrigger():
            found = {"metadata": _redis(trigger)}
        case PostgresqlTrigger():
            found = {"metadata": _postgresql(trigger)}
        case CronTrigger():
            metadata = {"timezone": trigger.timezone, "start": trigger.start, "end": trigger.end}
            found = {"metadata": {**metadata, "desiredReplicas": str(trigger.desired_replicas)}}
        case _:
            raise Unsupported(f"the engine keda has no trigger {trigger.type}")
    named = {} if trigger.name is None else {"name": trigger.name}
    return {"type": trigger.type, **named, **found}


def _secrets(trigger: TriggerSpec) -> dict[str, str]:
    """KEDA's parameters by the keys of the Secret that hold them."""
    match trigger:
        case PrometheusTrigger():
            asked: dict[str, str | None] = {"bearerToken": trigger.bearer_token_from_env}
        case RabbitmqTrigger():
            asked = {"host": trigger.host_from_env}
        case RedisTrigger():
            asked = {
                "address": trigger.address_from_env,
                "username": trigger.username_from_env,
                "password": trigger.password_from_env,
            }
        case PostgresqlTrigger():
            asked = {"connection": trigger.connection_from_env}
        case _:
            asked = {}
    return {field: key for field, key in asked.items() if key is not None}


def _prometheus(trigger: PrometheusTrigger) -> dict[str, str]:
    authorized = {} if trigger.bearer_token_from_env is None else {"authModes": "bearer"}
    return {
        "serverAddress": trigger.server_address,
        "query": trigger.query,
        "threshold": _number(trigger.threshold),
        "activationThreshold": _number(trigger.activation_threshold),
        "ignoreNullValues": _truth(trigger.ignore_null_values),
        "timeout": _milliseconds(trigger.timeout),
        **authorized,
    }


def _rabbitmq(trigger: RabbitmqTrigger) -> dict[str, str]:
    found = {
        "queueName": trigger.queue_name,
        "mode": trigger.mode,
        "value": _number(trigger.value),
        "activationValue": _number(trigger.activation_value),
        "excludeUnacknowledged": _truth(trigger.exclude_unacknowledged),
    }
    if trigger.host is not None:
        found["host"] = trigger.host
        if trigger.host.startswith("http"):
            found["timeout"] = _milliseconds(trigger.timeout)
    return found


def _redis(trigger: RedisTrigger) -> dict[str, str]:
    found = {
        "listName": trigger.list_name,
        "listLength": _number(trigger.list_length),
        "activationListLength": _number(trigger.activation_list_length),
        "databaseIndex": str(trigger.database_index),
        "enableTLS": _truth(trigger.enable_tls),
    }
    return found if trigger.address is None else {"address": trigger.address, **found}


def _postgresql(trigger: PostgresqlTrigger) -> dict[str, str]:
    found = {
        "query": trigger.query,
        "targetQueryValue": _number(trigger.target_query_value),
        "activationTargetQueryValue": _number(trigger.activation_target_query_value),
    }
    return found if trigger.connection is None else {**_connection(trigger.connection), **found}


def _connection(uri: str) -> dict[str, str]:
    """A URI in the parts that KEDA takes one by one; a connection string as a whole would have to be a secret."""
    parts = urlsplit(uri)
    mode = dict(parse_qsl(parts.query)).get("sslmode", SSL_MODE)
    return {
        "host": parts.hostname or "",
        "port": str(parts.port or 5432),
        "userName": unquote(parts.username or "postgres"),
        "dbName": unquote(parts.path.lstrip("/")) or unquote(parts.username or "postgres"),
        "sslmode": mode,
    }


def _percent(trigger: UtilizationTrigger) -> int:
    return round(share(trigger.target) * 100)


def _number(value: float) -> str:
    text = format(Decimal(repr(value)), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _truth(value: bool) -> str:
    return "true" if value else "false"


def _milliseconds(duration: str) -> str:
    return str(round(seconds(duration) * 1000))
