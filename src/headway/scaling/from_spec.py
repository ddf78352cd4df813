"""From ``spec.scaling`` to a :class:`Policy`: durations become seconds, shares numbers, every default is filled in."""

from __future__ import annotations

from typing import assert_never

from headway.domain import scaling_spec
from headway.domain.job_spec import JobWorkers
from headway.domain.quantities import seconds, share
from headway.domain.scaling_spec import Scaling, TriggerSpec
from headway.scaling.policy import (
    DOWN,
    UP,
    CronTrigger,
    Direction,
    ExternalTrigger,
    Fallback,
    FallbackBehavior,
    FunctionTrigger,
    LatencyTrigger,
    Panic,
    Pick,
    Policy,
    ReplicaTrigger,
    Rule,
    RuleType,
    Select,
    Signal,
    Statistic,
    Trigger,
)

MISSED = 3
"""A value from outside is used until it is as old as this many intervals and one answer: two may be missed."""

WORKERS_MAX_AGE_S = 10.0
"""Jobs are counted every second; a count from longer ago is no data."""


def policy_of(scaling: Scaling) -> Policy:
    """The policy that ``scaling`` asks for. It has to be elastic; without triggers nothing would move."""
    fallback = scaling.fallback
    most = scaling.min_replicas if scaling.max_replicas is None else scaling.max_replicas
    return Policy(
        least=scaling.min_replicas,
        most=most,
        triggers=tuple(_trigger(trigger) for trigger in scaling.triggers),
        up=_direction(scaling.behavior.scale_up, UP),
        down=_direction(scaling.behavior.scale_down, DOWN),
        cooldown_s=seconds(scaling.cooldown_period),
        fallback=None
        if fallback is None
        else Fallback(fallback.failure_threshold, fallback.replicas, FallbackBehavior(fallback.behavior)),
        shadow=scaling.shadow,
    )


def worker_policy(workers: JobWorkers, least: int) -> Policy:
    """The policy that the number of a version's workers follows; ``least``: how many of them there are without a job.

    Workers come at once, as many as the jobs ask for. They go when fewer have been enough for a while.
    """
    jobs = ExternalTrigger("jobs", "jobs", workers.target, max_age_s=WORKERS_MAX_AGE_S)
    return Policy(
        least=least,
        most=workers.max,
        triggers=(jobs,),
        up=Direction(0.0, (), tolerance=0.0),
        down=Direction(seconds(workers.scale_down_window), (), tolerance=0.0),
        cooldown_s=seconds(workers.cooldown),
    )


def _direction(stated: scaling_spec.Direction, default: Direction) -> Direction:
    """``stated`` over Kubernetes' defaults for this direction, field by field."""
    window_s, rules = stated.stabilization_window_seconds, stated.policies
    return Direction(
        stabilization_s=default.stabilization_s if window_s is None else float(window_s),
        rules=default.rules
        if rules is None
        else tuple(Rule(RuleType(rule.type), rule.value, float(rule.period_seconds)) for rule in rules),
        select=Select(stated.select_policy),
        tolerance=stated.tolerance,
    )


def _trigger(spec: TriggerSpec) -> Trigger:
    name = spec.name or spec.type
    match spec:
        case scaling_spec.UtilizationTrigger():
            return ReplicaTrigger(name, Signal(spec.type), share(spec.target), seconds(spec.window))
        case scaling_spec.LoadTrigger():
            panic_s = seconds(spec.panic_window)
            panic = Panic(panic_s, spec.panic_threshold) if panic_s else None
            return ReplicaTrigger(name, Signal(spec.type), spec.target, seconds(spec.window), panic)
        case scaling_spec.LatencyTrigger():
            return _latency(name, spec)
        case scaling_spec.CronTrigger():
            return CronTrigger(name, spec.start, spec.end, spec.timezone, spec.desired_replicas)
        case scaling_spec.PythonTrigger():
            return FunctionTrigger(name, _max_age_s(spec.every, spec.timeout))
        case _:
            return _external(name, spec)


def _latency(name: str, spec: scaling_spec.LatencyTrigger) -> LatencyTrigger:
    window_s = seconds(spec.window)
    return LatencyTrigger(
        name=name,
        statistic=Statistic(spec.quantile),
        threshold_s=seconds(spec.threshold),
        window_s=window_s,
        span_s=window_s if spec.span is None else seconds(spec.span),
        pick=Pick(spec.pick),
        every_s=seconds(spec.every),
        step=spec.step,
        cooldown_s=seconds(spec.cooldown),
        down_share=share(spec.down_threshold),
        down_after_s=seconds(spec.down_after),
        min_queue_share=spec.min_queue_share,
        min_gain=spec.min_gain,
    )


def _external(name: str, spec: scaling_spec.ExternalTriggerSpec) -> ExternalTrigger:
    average = True
    match spec:
        case scaling_spec.PrometheusTrigger():
            target, activation = spec.threshold, spec.activation_threshold
            average = spec.metric_type == "AverageValue"
        case scaling_spec.RabbitmqTrigger():
            target, activation = spec.value, spec.activation_value
        case scaling_spec.RedisTrigger():
            target, activation = spec.list_length, spec.activation_list_length
        case scaling_spec.PostgresqlTrigger():
            target, activation = spec.target_query_value, spec.activation_target_query_value
        case scaling_spec.JobsTrigger():
            target, activation = spec.value, spec.activation_value
        case _:
            assert_never(spec)
    max_age_s = _max_age_s(spec.polling_interval, spec.timeout)
    return ExternalTrigger(name, spec.type, target, activation, average, max_age_s)


def _max_age_s(interval: str, timeout: str) -> float:
    return MISSED * seconds(interval) + seconds(timeout)
