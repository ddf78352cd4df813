"""What each engine can carry out of ``spec.scaling``: the rest is refused by name.

``headway`` is Headway's own loop; ``hpa`` is Kubernetes' HorizontalPodAutoscaler (``autoscaling/v2``), ``keda`` is
KEDA's ScaledObject. The latter two have their own means, so of our fields they take those that mean the same to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlsplit

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

Problems = Iterator[tuple[str, str]]
"""Where, and what."""
KEDA_TRIGGERS = (
    UtilizationTrigger,
    PrometheusTrigger,
    RabbitmqTrigger,
    RedisTrigger,
    PostgresqlTrigger,
    CronTrigger,
)
EXTERNAL = (PrometheusTrigger, RabbitmqTrigger, RedisTrigger, PostgresqlTrigger)
CALLING = ("prometheus", "rabbitmq", "redis", "postgresql", "cron")
"""Triggers that tell of work where no replica runs."""
NOT_ON_CLUSTERS = {
    "python": "users' functions run in the version's environment, which the operator does not have",
    "jobs": "the operator does not ask job servers",
}
FROM_ENV = ("bearer_token_from_env", "host_from_env", "address_from_env", "username_from_env", "password_from_env")
_CRON_EXTENSION = re.compile(r"#|(?<![A-Za-z])L(?![A-Za-z])")


def engine_problems(
    scaling: Scaling,
    engine: Engine,
    *,
    secret: str | None,
    where: str,
    secret_at: str,
    cpu: bool | None,
    model: bool = True,
) -> Problems:
    """What ``engine`` cannot honour; ``where`` is the place of ``scaling``.

    ``secret``: the trigger secret, named at ``secret_at``. ``cpu``: whether pods ask for a processor share; None: not
    known here. ``model``: whether it is about a model, whose pods can be asked.
    """
    if "warm_start" in scaling.model_fields_set and scaling.warm_start:
        yield f"{where}.warmStart", "pods start by themselves, not from a process that has loaded the model"
    named = any(_from_env(trigger) for trigger in scaling.triggers)
    if secret is not None and not (engine != "hpa" and named):
        yield secret_at, "is for triggers that name ...FromEnv, with the engine headway or keda; leave it out"
    if not scaling.elastic:
        return
    if named and secret is None and engine != "hpa":
        yield secret_at, "triggers name ...FromEnv; on Kubernetes they are read from a Secret: name it"
    if engine == "headway":
        yield from _of_headway(scaling, where, model)
        return
    if scaling.shadow:
        yield f"{where}.shadow", f"the engine {engine} carries out what it decides; use the engine headway"
    if all(isinstance(trigger, LatencyTrigger) for trigger in scaling.triggers):
        yield f"{where}.triggers", f"the engine {engine} needs one of its own beside latency; or use the engine headway"
    yield from _directions(scaling, engine, where)
    for position, trigger in enumerate(scaling.triggers):
        for place, words in _trigger(trigger, engine, cpu):
            yield f"{where}.triggers[{position}].{place}", words
    if engine == "hpa":
        yield from _of_hpa(scaling, where)
        return
    yield from _of_keda(scaling, where)


def _of_headway(scaling: Scaling, where: str, model: bool) -> Problems:
    """The loop is that of a machine; what it lacks on a cluster is a gateway that holds requests, and the environments
    of versions."""
    for position, trigger in enumerate(scaling.triggers):
        place = f"{where}.triggers[{position}]"
        if trigger.type in NOT_ON_CLUSTERS:
            yield f"{place}.type", f"{NOT_ON_CLUSTERS[trigger.type]}, so {trigger.type} is for a laptop"
        elif isinstance(trigger, UtilizationTrigger) and not model:
            yield f"{place}.type", f"only models tell the operator of their {trigger.type}; use the engine hpa or keda"
    if scaling.min_replicas == 0 and not any(trigger.type in CALLING for trigger in scaling.triggers):
        words = f"nobody holds requests on a cluster: 0 needs a trigger that can call a replica: {', '.join(CALLING)}"
        yield f"{where}.minReplicas", words


def _from_env(trigger: TriggerSpec) -> bool:
    fields = (*FROM_ENV, "connection_from_env")
    return any(getattr(trigger, field, None) is not None for field in fields)


def _directions(scaling: Scaling, engine: Engine, where: str) -> Problems:
    """``tolerance`` per direction is dropped without a word by clusters that do not know it yet."""
    default = Direction.model_fields["tolerance"].default
    for name, direction in (("scaleUp", scaling.behavior.scale_up), ("scaleDown", scaling.behavior.scale_down)):
        if direction.tolerance != default:
            place = f"{where}.behavior.{name}.tolerance"
            yield place, f"not every cluster honours it with the engine {engine}; leave it at {default:g}"


def _trigger(trigger: TriggerSpec, engine: Engine, cpu: bool | None) -> Problems:
    if isinstance(trigger, LatencyTrigger):
        return  # Headway's own loop raises the fewest replicas by it
    taken = UtilizationTrigger if engine == "hpa" else KEDA_TRIGGERS
    if not isinstance(trigger, taken):
        other = "keda or headway" if engine == "hpa" and isinstance(trigger, KEDA_TRIGGERS) else "headway"
        yield "type", f"the engine {engine} has no trigger {trigger.type}; use the engine {other}"
        return
    match trigger:
        case UtilizationTrigger():
            if trigger.window != UtilizationTrigger.model_fields["window"].default:
                yield "window", f"the engine {engine} has a window of its own; leave it out"
            if (share(trigger.target) * 100) % 1 > 1e-9:
                yield "target", f"the engine {engine} takes whole percents"
            if trigger.type == "cpu" and cpu is False:
                yield "type", f"the engine {engine} compares with what pods ask for; set resources.cpu"
        case RabbitmqTrigger():
            if trigger.host is None or not trigger.host.startswith("http"):
                yield from _own_timeout(trigger)
        case RedisTrigger():
            yield from _own_timeout(trigger)
            if trigger.library is not None:
                hint = "list a plain list, such as rq:queue:NAME, or use the engine headway"
                yield "library", f"KEDA counts the entries of one list; {hint}"
        case PostgresqlTrigger():
            yield from _own_timeout(trigger)
            others = {name for name, _ in parse_qsl(urlsplit(trigger.connection or "").query)} - {"sslmode"}
            if others:
                hint = "put the whole URI into the trigger secret and name its key in connectionFromEnv"
                yield "connection", f"KEDA takes no {', '.join(sorted(others))} beside host and database; {hint}"
        case CronTrigger():
            for name in ("start", "end"):
                if _CRON_EXTENSION.search(getattr(trigger, name)):
                    yield name, "KEDA knows no L and no # in cron expressions"
        case _:
            pass


def _own_timeout(trigger: RabbitmqTrigger | RedisTrigger | PostgresqlTrigger) -> Problems:
    if trigger.timeout != type(trigger).model_fields["timeout"].default:
        yield "timeout", f"KEDA sets no time limit for {trigger.type}; leave it out"


def _of_hpa(scaling: Scaling, where: str) -> Problems:
    if scaling.min_replicas == 0:
        yield f"{where}.minReplicas", "the engine hpa keeps at least 1; keda and headway go to 0"
    if scaling.cooldown_period != Scaling.model_fields["cooldown_period"].default:
        yield f"{where}.cooldownPeriod", "is about going to 0, which the engine hpa does not"
    if scaling.fallback is not None:
        yield f"{where}.fallback", "is for signals from outside, which the engine hpa does not read"


def _of_keda(scaling: Scaling, where: str) -> Problems:
    if seconds(scaling.cooldown_period) % 1:
        yield f"{where}.cooldownPeriod", "KEDA takes whole seconds"
    intervals: dict[str, int] = {}
    for position, trigger in enumerate(scaling.triggers):
        if isinstance(trigger, EXTERNAL):
            place = f"{where}.triggers[{position}].pollingInterval"
            intervals.setdefault(trigger.polling_interval, position)
            if seconds(trigger.polling_interval) % 1:
                yield place, "KEDA takes whole seconds"
            elif len(intervals) > 1 and intervals[trigger.polling_interval] == position:
                yield place, f"KEDA asks all triggers at one interval ({next(iter(intervals))} so far)"
