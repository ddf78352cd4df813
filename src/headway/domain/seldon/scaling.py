"""``kedaSpec`` and ``hpaSpec`` as ``spec.scaling``."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from headway.domain.quantities import byte_count, millicores
from headway.domain.seldon.reading import Fields, Notes, unsupported, wrong

KEDA_MOST: Final = 100
KEDA_POLLING_S: Final = 30
KEDA_COOLDOWN_S: Final = 300

Trigger = dict[str, Any]


class Asked:
    """What the containers of a predictor ask for together: what utilization is a share of."""

    def __init__(self) -> None:
        self.cpu: int | None = None
        """Millicores."""
        self.memory: int | None = None
        """Bytes."""
        self.memory_limit: int | None = None
        """Bytes; what Headway's memory trigger is a share of."""


def keda(spec: Fields, asked: Asked, notes: Notes) -> dict[str, Any]:
    """``spec.scaling`` of a ``kedaSpec``."""
    polling_s = spec.whole("pollingInterval", 1) or KEDA_POLLING_S
    cooldown_s = spec.whole("cooldownPeriod")
    least, most = spec.whole("minReplicaCount"), spec.whole("maxReplicaCount", 1)
    idle = spec.whole("idleReplicaCount")
    if idle is not None:
        unsupported(spec.at("idleReplicaCount"), "idleReplicaCount is not supported", "use minReplicaCount: 0")
    triggers = [_keda_trigger(one, polling_s, asked, notes) for one in spec.parts("triggers")]
    if not triggers:
        wrong(spec.at("triggers"), "kedaSpec needs triggers")
    found: dict[str, Any] = {
        "minReplicas": least or 0,
        "maxReplicas": KEDA_MOST if most is None else most,
        "triggers": _named(triggers),
        "cooldownPeriod": f"{KEDA_COOLDOWN_S if cooldown_s is None else cooldown_s}s",
    }
    fallback = spec.part("fallback")
    if fallback is not None:
        found["fallback"] = {
            "failureThreshold": fallback.whole("failureThreshold", 1) or 3,
            "replicas": fallback.whole("replicas") or 0,
            "behavior": fallback.text("behavior") or "static",
        }
        fallback.done()
    advanced = spec.part("advanced")
    if advanced is not None:
        advanced.refuse(
            scalingModifiers="write a trigger of type python", restoreToOriginalReplicaCount="no such count"
        )
        hpa = advanced.part("horizontalPodAutoscalerConfig")
        if hpa is not None:
            hpa.drop("name")
            found |= _behavior(hpa)
            hpa.done()
        advanced.done()
    spec.drop("scaleTargetRef", "envSourceContainerName")
    spec.done()
    return found


def hpa(spec: Fields, asked: Asked, notes: Notes) -> dict[str, Any]:
    """``spec.scaling`` of an ``hpaSpec``: ``metrics`` as in autoscaling/v2beta1, ``metricsv2`` as in v2."""
    least, most = spec.whole("minReplicas"), spec.whole("maxReplicas", 1)
    if most is None:
        wrong(spec.at("maxReplicas"), "this field is required")
    metrics = [*spec.parts("metrics"), *spec.parts("metricsv2")]
    if not metrics:
        wrong(spec.at("metrics"), "hpaSpec needs metrics")
    triggers = [_hpa_metric(one, asked, notes) for one in metrics]
    found = {"minReplicas": 1 if least is None else least, "maxReplicas": most, "triggers": _named(triggers)}
    found |= _behavior(spec)
    spec.done()
    return found


def _behavior(fields: Fields) -> dict[str, Any]:
    behavior = fields.take("behavior")
    return {} if behavior is None else {"behavior": behavior}


def _named(triggers: list[Trigger]) -> list[Trigger]:
    """With names where two of a type would be called the same."""
    seen: set[str] = set()
    for trigger in triggers:
        name = base = trigger.get("name") or trigger["type"]
        number = 2
        while name in seen:
            name, number = f"{base}-{number}", number + 1
        seen.add(name)
        if name != trigger["type"]:
            trigger["name"] = name
    return triggers


def _hpa_metric(metric: Fields, asked: Asked, notes: Notes) -> Trigger:
    kind = metric.text("type")
    key = {"Resource": "resource", "ContainerResource": "containerResource"}.get(kind or "")
    if key is None:
        unsupported(
            metric.at("type"),
            f"metrics of type {str(kind)[:40]} are not supported",
            "Resource (cpu, memory); for others use kedaSpec with a prometheus trigger",
        )
    resource = metric.part(key)
    if resource is None:
        wrong(metric.at(key), "this field is required")
    resource.drop("container")
    name = resource.text("name")
    target = resource.part("target") or resource
    target.drop("type")
    share = target.take("averageUtilization") if target is not resource else resource.take("targetAverageUtilization")
    amount = target.take("averageValue") if target is not resource else resource.take("targetAverageValue")
    if target is not resource:
        target.done()
    resource.done()
    metric.done()
    return _utilization(name, share, amount, resource.path, asked, notes)


def _utilization(name: Any, share: Any, amount: Any, where: str, asked: Asked, notes: Notes) -> Trigger:
    """A trigger by cpu or memory: ``share`` in percent of what is asked for, or an ``amount`` per replica."""
    if name not in ("cpu", "memory"):
        unsupported(where, f"the resource {str(name)[:40]} is not supported", "cpu or memory")
    whole = asked.cpu if name == "cpu" else asked.memory
    if share is None:
        read: Callable[[str], int] = millicores if name == "cpu" else byte_count
        try:
            used = read(str(amount))
        except ValueError:
            wrong(where, f"{str(amount)[:40]!r} is not an amount of {name}")
        if not whole:
            unsupported(where, f"an amount of {name} needs one to compare with", f"set resources.requests.{name}")
        percent = 100.0 * used / whole
    else:
        percent = float(share) if isinstance(share, int | float) and not isinstance(share, bool) else -1.0
        if percent <= 0:
            wrong(where, "the target must be a number of percent")
    if name == "memory":
        if not asked.memory_limit:
            unsupported(where, "a memory target needs a limit to compare with", "set resources.limits.memory")
        percent *= (whole or asked.memory_limit) / asked.memory_limit
        if whole not in (None, asked.memory_limit):
            notes.add(where, f"the target is counted of the limit here: {percent:.3g}%")
    return {"type": name, "target": f"{_short(percent)}%"}


def _short(number: float) -> str:
    return f"{number:.6g}"


# -- KEDA's triggers ---------------------------------------------------------------------------


def _keda_trigger(trigger: Fields, polling_s: int, asked: Asked, notes: Notes) -> Trigger:
    kind = trigger.text("type")
    build = _TRIGGERS.get(kind or "")
    if build is None:
        unsupported(
            trigger.at("type"),
            f"triggers of type {str(kind)[:40]} are not supported",
            f"{', '.join(_TRIGGERS)}; others can be read through Prometheus",
        )
    if trigger.has("authenticationRef"):
        unsupported(
            trigger.at("authenticationRef"),
            "authenticationRef is not supported",
            "convert the document and name variables of the control plane: bearerTokenFromEnv, hostFromEnv, …",
        )
    trigger.refuse(useCachedMetrics="every trigger is asked at its own interval")
    name, metric_type = trigger.text("name"), trigger.text("metricType")
    meta = trigger.part("metadata") or Fields({}, trigger.at("metadata"))
    trigger.done()
    found: Trigger = {"type": kind, **build(meta, metric_type, asked, notes)}
    meta.done()
    if kind not in ("cpu", "memory", "cron"):
        found["pollingInterval"] = f"{polling_s}s"
        if metric_type is not None and kind != "prometheus" and metric_type != "AverageValue":
            unsupported(trigger.at("metricType"), f"metricType {metric_type[:40]} is not supported for {kind}")
    if any(key.endswith("FromEnv") for key in found):
        notes.add(meta.path, "…FromEnv names a variable in the environment of Headway's control plane")
    if name is not None:
        found["name"] = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or kind
    return found


def _number(fields: Fields, key: str, default: float | None = None) -> float:
    found = fields.take(key)
    if found is None:
        if default is None:
            wrong(fields.at(key), "this field is required")
        return default
    try:
        return float(str(found))
    except ValueError:
        wrong(fields.at(key), f"{str(found)[:40]!r} is not a number")


def _truth(fields: Fields, key: str) -> bool | None:
    found = fields.take(key)
    if found is None:
        return None
    if str(found).lower() not in ("true", "false"):
        wrong(fields.at(key), "must be true or false")
    return str(found).lower() == "true"


def _given(**fields: Any) -> Trigger:
    return {key: value for key, value in fields.items() if value is not None}


def _prometheus(meta: Fields, metric_type: str | None, asked: Asked, notes: Notes) -> Trigger:
    meta.drop("metricName")  # KEDA gave it up; it names a series of its own
    meta.refuse(
        authModes="name a variable in bearerTokenFromEnv of the converted document",
        customHeaders="an address without them is needed",
        namespace="put it into the query",
        queryParameters="put them into serverAddress or query",
        unsafeSsl="certificates are checked",
        timeout="each question may take 3s; the converted document has timeout",
    )
    ignore = _truth(meta, "ignoreNullValues")
    if ignore is None:
        notes.add(meta.path, "an empty answer of Prometheus is no data here, and replicas stay; KEDA takes it for 0")
    active = _number(meta, "activationThreshold", 0.0)
    return _given(
        serverAddress=meta.text("serverAddress"),
        query=meta.text("query"),
        threshold=_number(meta, "threshold"),
        activationThreshold=active or None,
        metricType=metric_type,
        ignoreNullValues=ignore,
    )


def _rabbitmq(meta: Fields, metric_type: str | None, asked: Asked, notes: Notes) -> Trigger:
    meta.drop("metricName")
    protocol = meta.text("protocol") or "auto"
    host = meta.text("host")
    if host is not None and protocol != "auto" and not host.startswith(protocol):
        wrong(meta.at("protocol"), f"the host does not start with {protocol[:20]}")
    meta.refuse(
        vhostName="put it into the path of host",
        useRegex="name one queue",
        operation="name one queue",
        pageSize="name one queue",
        unsafeSsl="certificates are checked",
        timeout="each question may take 3s; the converted document has timeout",
    )
    length = meta.take("queueLength")
    return _given(
        host=host,
        hostFromEnv=meta.text("hostFromEnv"),
        queueName=meta.text("queueName"),
        mode=meta.text("mode") or "QueueLength",
        value=_number(meta, "value", None if length is None else float(length)),
        activationValue=_number(meta, "activationValue", 0.0) or None,
        excludeUnacknowledged=_truth(meta, "excludeUnacknowledged"),
    )


def _redis(meta: Fields, metric_type: str | None, asked: Asked, notes: Notes) -> Trigger:
    address, host, port = meta.text("address"), meta.text("host"), meta.take("port")
    if address is None and host is not None:
        address = f"{host}:{port or 6379}"
    meta.refuse(
        unsafeSsl="certificates are checked", hostFromEnv="use addressFromEnv", portFromEnv="use addressFromEnv"
    )
    index = _number(meta, "databaseIndex", 0.0)
    return _given(
        address=address,
        addressFromEnv=meta.text("addressFromEnv"),
        usernameFromEnv=meta.text("usernameFromEnv"),
        passwordFromEnv=meta.text("passwordFromEnv"),
        databaseIndex=int(index) or None,
        enableTLS=_truth(meta, "enableTLS"),
        listName=meta.text("listName"),
        listLength=_number(meta, "listLength", 5.0),
        activationListLength=_number(meta, "activationListLength", 0.0) or None,
    )


def _postgresql(meta: Fields, metric_type: str | None, asked: Asked, notes: Notes) -> Trigger:
    if meta.has("passwordFromEnv"):
        unsupported(
            meta.at("passwordFromEnv"),
            "passwordFromEnv is not supported for postgresql",
            "put the whole URI into a variable of the control plane and name it in connectionFromEnv",
        )
    host, user, base = meta.text("host"), meta.text("userName"), meta.text("dbName")
    port, mode = meta.take("port"), meta.text("sslmode")
    connection = None
    if host is not None:
        at = f"{quote(user, safe='')}@" if user else ""
        connection = f"postgresql://{at}{host}:{port or 5432}/{quote(base or '', safe='')}"
        connection += f"?sslmode={quote(mode, safe='')}" if mode else ""
    return _given(
        connection=connection,
        connectionFromEnv=meta.text("connectionFromEnv"),
        query=meta.text("query"),
        targetQueryValue=_number(meta, "targetQueryValue"),
        activationTargetQueryValue=_number(meta, "activationTargetQueryValue", 0.0) or None,
    )


def _cron(meta: Fields, metric_type: str | None, asked: Asked, notes: Notes) -> Trigger:
    return _given(
        timezone=meta.text("timezone"),
        start=meta.text("start"),
        end=meta.text("end"),
        desiredReplicas=int(_number(meta, "desiredReplicas")),
    )


def _usage(name: str) -> Callable[[Fields, str | None, Asked, Notes], Trigger]:
    def build(meta: Fields, metric_type: str | None, asked: Asked, notes: Notes) -> Trigger:
        metric_type = meta.text("type") or metric_type or "Utilization"
        meta.drop("containerName")
        value = meta.take("value")
        if metric_type == "Utilization":
            try:
                share: float | None = float(str(value))
            except ValueError:
                wrong(meta.at("value"), f"{str(value)[:40]!r} is not a number of percent")
            return _utilization(name, share, None, meta.path, asked, notes)
        if metric_type != "AverageValue":
            unsupported(meta.path, f"{name} by {metric_type[:40]} is not supported", "Utilization or AverageValue")
        return _utilization(name, None, value, meta.path, asked, notes)

    return build


_TRIGGERS: Final[Mapping[str, Callable[[Fields, str | None, Asked, Notes], Trigger]]] = {
    "prometheus": _prometheus,
    "rabbitmq": _rabbitmq,
    "redis": _redis,
    "postgresql": _postgresql,
    "cron": _cron,
    "cpu": _usage("cpu"),
    "memory": _usage("memory"),
}
