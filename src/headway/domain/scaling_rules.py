"""What the fields of ``spec.scaling`` have to keep together, each rule with the place that breaks it.

These rules hold for what users write; what is stored already is read as it is, so a stricter rule in a later release
never makes a deployment unreadable.
"""

from __future__ import annotations

from collections.abc import Iterator

from headway.domain.errors import InvalidSpec
from headway.domain.quantities import seconds
from headway.domain.scaling_spec import (
    CronTrigger,
    Fallback,
    JobsTrigger,
    LatencyTrigger,
    LoadTrigger,
    PostgresqlTrigger,
    PrometheusTrigger,
    PythonTrigger,
    RabbitmqTrigger,
    RedisTrigger,
    Scaling,
    TriggerSpec,
    UtilizationTrigger,
)

Problems = Iterator[tuple[str, str]]
"""Where, below ``spec.scaling``, and what."""
EXTERNAL = (PrometheusTrigger, RabbitmqTrigger, RedisTrigger, PostgresqlTrigger, JobsTrigger)
WHERE = "spec.scaling"
MOST_WINDOWS = 240
"""In the span of a latency trigger: each of them is looked at again and again."""


def check_scaling(scaling: Scaling, *, memory: bool | None = None) -> None:
    """Raise :class:`InvalidSpec` with every rule that ``scaling`` breaks.

    ``memory``: whether replicas have a memory limit, which a memory trigger needs; None: somebody else checks that.
    """
    problems = [(f"{WHERE}.{place}", words) for place, words in _problems(scaling)]
    if memory is False and needs_memory(scaling):
        problems.append(("spec.resources.memory", NO_MEMORY))
    if problems:
        where, first = problems[0]
        message = "; ".join([first, *(f"{place}: {words}" for place, words in problems[1:])])
        raise InvalidSpec(
            message,
            where=where,
            details={"problems": [{"where": place, "message": words} for place, words in problems]},
        )


NO_MEMORY = "a memory trigger needs a limit to compare with; set for example resources.memory: 1Gi"


def needs_memory(scaling: Scaling) -> bool:
    """Whether a trigger compares with the replicas' memory limit."""
    return any(trigger.type == "memory" for trigger in scaling.triggers)


def _problems(scaling: Scaling) -> Problems:
    yield from _bounds(scaling)
    if not scaling.elastic:
        yield from _meaningless(scaling)
    yield from _names(scaling)
    for position, trigger in enumerate(scaling.triggers):
        for place, words in _trigger(trigger, scaling):
            yield f"triggers[{position}].{place}", words
    if scaling.fallback is not None and scaling.elastic:
        yield from _fallback(scaling, scaling.fallback)


def _bounds(scaling: Scaling) -> Problems:
    least, most = scaling.min_replicas, scaling.max_replicas
    if most is None:
        if scaling.elastic:
            yield "maxReplicas", f"triggers need maxReplicas, above minReplicas ({least})"
    elif most < least:
        yield "maxReplicas", f"must not be below minReplicas ({least})"
    elif most == least and scaling.elastic:
        yield "maxReplicas", f"must be above minReplicas ({least}): otherwise triggers have nothing to move"
    elif most > least and not scaling.elastic:
        without = f"is above minReplicas ({least}), but without triggers nothing moves the number of replicas"
        yield "maxReplicas", f"{without}; add triggers or leave maxReplicas out"
    if least == 0 and scaling.elastic and all(isinstance(t, UtilizationTrigger) for t in scaling.triggers):
        yield (
            "minReplicas",
            "0 needs a trigger that can call the first replica; cpu and memory tell nothing where no replica runs",
        )


def _meaningless(scaling: Scaling) -> Problems:
    # By value, not by presence: a document with every default filled in is fine.
    for name in ("behavior", "cooldown_period", "fallback", "shadow"):
        if getattr(scaling, name) != Scaling.model_fields[name].default:
            yield Scaling.model_fields[name].alias or name, "means nothing without triggers; add them or leave it out"


def _names(scaling: Scaling) -> Problems:
    seen: set[str] = set()
    for position, trigger in enumerate(scaling.triggers):
        name = trigger.name or trigger.type
        if name in seen:
            yield f"triggers[{position}].name", f"two triggers are called {name}; give one of them another name"
        seen.add(name)


def _trigger(trigger: TriggerSpec, scaling: Scaling) -> Problems:
    match trigger:
        case LoadTrigger():
            panic = seconds(trigger.panic_window)
            if panic >= seconds(trigger.window):
                yield "panicWindow", f"must be shorter than window ({trigger.window}); 0s: no panic"
            elif 0 < panic < 1:
                yield "panicWindow", "must be at least 1s; 0s: no panic"
        case LatencyTrigger():
            yield from _latency(trigger)
        case RabbitmqTrigger():
            yield from _one_of(trigger.host, trigger.host_from_env, "host")
            if trigger.host is not None and not trigger.host.startswith("http"):
                if trigger.mode == "MessageRate":
                    yield "mode", "MessageRate needs the management API: a host that starts with http:// or https://"
                if trigger.exclude_unacknowledged:
                    yield (
                        "excludeUnacknowledged",
                        "needs the management API: a host that starts with http:// or https://",
                    )
        case RedisTrigger():
            yield from _one_of(trigger.address, trigger.address_from_env, "address")
            if trigger.username_from_env is not None and trigger.password_from_env is None:
                yield "usernameFromEnv", "needs passwordFromEnv beside it"
        case PostgresqlTrigger():
            yield from _one_of(trigger.connection, trigger.connection_from_env, "connection")
        case CronTrigger():
            if trigger.start.split() == trigger.end.split():
                yield "end", "must differ from start"
            most = scaling.max_replicas
            if most is not None and trigger.desired_replicas > most:
                yield "desiredReplicas", f"is above maxReplicas ({most})"
        case PythonTrigger():
            if seconds(trigger.timeout) > seconds(trigger.every):
                yield "timeout", f"must not be longer than every ({trigger.every})"
        case _:
            pass


def _latency(trigger: LatencyTrigger) -> Problems:
    window = seconds(trigger.window)
    if trigger.span is None:
        return
    # In microseconds: nothing finer is kept of a duration, and 0.3 s is three windows of 0.1 s.
    windows, rest = divmod(round(seconds(trigger.span) * 1e6), round(window * 1e6))
    if rest or windows < 1:
        yield "span", f"must be a whole number of windows ({trigger.window})"
    elif windows > MOST_WINDOWS:
        yield "span", f"must be at most {MOST_WINDOWS} windows ({trigger.window})"


def _one_of(value: str | None, from_env: str | None, name: str) -> Problems:
    if value is None and from_env is None:
        yield name, f"this field or {name}FromEnv is required"
    elif value is not None and from_env is not None:
        yield f"{name}FromEnv", f"{name} and {name}FromEnv exclude each other"


def _fallback(scaling: Scaling, fallback: Fallback) -> Problems:
    if not any(isinstance(trigger, EXTERNAL) for trigger in scaling.triggers):
        yield (
            "fallback",
            "is for signals from outside (prometheus, rabbitmq, redis, postgresql, jobs); no trigger is one",
        )
    most = scaling.max_replicas
    if most is not None and not scaling.min_replicas <= fallback.replicas <= most:
        yield "fallback.replicas", f"must be from minReplicas ({scaling.min_replicas}) to maxReplicas ({most})"
