"""What ``spec.scaling`` accepts, what it refuses and in which words, and the policy that it means."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from headway.domain.errors import HeadwayError, InvalidSpec
from headway.domain.scaling_spec import Scaling, TriggerSpec
from headway.domain.spec import json_schema, parse
from headway.scaling.from_spec import policy_of
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
)

CPU = {"type": "cpu", "target": "80%"}
LOAD = {"type": "concurrency", "target": 4}
PROMETHEUS = {"type": "prometheus", "serverAddress": "http://localhost:9090", "query": "up", "threshold": 10}
RABBITMQ = {"type": "rabbitmq", "host": "amqp://localhost/", "queueName": "q", "value": 5}
REDIS = {"type": "redis", "address": "localhost:6379", "listName": "q"}
POSTGRESQL = {"type": "postgresql", "connection": "postgresql://u@db/x", "query": "select 1", "targetQueryValue": 3}
JOBS = {"type": "jobs", "value": 4}
CRON = {"type": "cron", "start": "0 8 * * 1-5", "end": "0 18 * * 1-5", "desiredReplicas": 3}
LATENCY = {"type": "latency", "threshold": "900ms"}
PYTHON = {"type": "python"}
MEMORY = {"type": "memory", "target": "70%"}


def document(scaling: object, **spec: object) -> dict[str, Any]:
    head = {"apiVersion": "headway.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "iris"}}
    return {**head, "spec": {"scaling": scaling, **spec}}


def elastic(*triggers: object, **more: object) -> dict[str, Any]:
    return {"maxReplicas": 9, "triggers": list(triggers), **more}


def scaling(*triggers: object, **more: object) -> Scaling:
    return parse(document(elastic(*triggers, **more), resources={"memory": "1Gi"})).spec.scaling


def places(error: HeadwayError) -> dict[str, str]:
    problems = error.details.get("problems") or [{"where": error.where, "message": error.message}]
    return {problem["where"].removeprefix("spec.scaling."): problem["message"] for problem in problems}


def without(trigger: dict[str, Any], *fields: str, **more: object) -> dict[str, Any]:
    return {**{name: value for name, value in trigger.items() if name not in fields}, **more}


TWO = [CPU, without(CPU, target="50%")]
REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    # the numbers
    "most below least": ({"minReplicas": 3, "maxReplicas": 1}, "maxReplicas", "must not be below minReplicas (3)"),
    "triggers without most": ({"triggers": [CPU]}, "maxReplicas", "triggers need maxReplicas"),
    "nothing to move": (elastic(CPU, minReplicas=9), "maxReplicas", "above minReplicas (9)"),
    "a range and no trigger": ({"minReplicas": 1, "maxReplicas": 3}, "maxReplicas", "without triggers"),
    "zero by cpu alone": (elastic(CPU, MEMORY, minReplicas=0), "minReplicas", "can call the first replica"),
    "memory without a limit": (elastic(MEMORY), "spec.resources.memory", "needs a limit"),
    # what means nothing
    "behaviour of nothing": ({"behavior": {"scaleUp": {"selectPolicy": "Disabled"}}}, "behavior", "without triggers"),
    "shadow of nothing": ({"shadow": True}, "shadow", "without triggers"),
    "cooldown of nothing": ({"cooldownPeriod": "1m"}, "cooldownPeriod", "without triggers"),
    "fallback of nothing": ({"fallback": {"replicas": 2}}, "fallback", "without triggers"),
    "fallback inside": (elastic(CPU, fallback={"replicas": 2}), "fallback", "signals from outside"),
    "a high fallback": (elastic(REDIS, fallback={"replicas": 10}), "fallback.replicas", "to maxReplicas (9)"),
    "a low fallback": (elastic(REDIS, fallback={"replicas": 0}), "fallback.replicas", "from minReplicas (1)"),
    # names and types
    "a name twice": (elastic(*TWO), "triggers[1].name", "two triggers are called cpu"),
    "a name as a type": (elastic(CPU, {**LOAD, "name": "cpu"}), "triggers[1].name", "called cpu"),
    "no name": (elastic({**CPU, "name": "A b"}), "triggers[0].name", "lowercase letters"),
    "no type": (elastic({"target": "80%"}), "triggers[0].type", "required"),
    "another type": (elastic({"type": "promethius"}), "triggers[0].type", "did you mean prometheus?"),
    "no type at all": (elastic({"type": "xyz"}), "triggers[0].type", "known types: cpu, memory, concurrency"),
    "a number for a type": (elastic(CPU, {"type": 5}), "triggers[1].type", "unknown type '5'"),
    "a word for a trigger": (elastic("cpu"), "triggers[0]", "must be a mapping"),
    "no list": ({"triggers": CPU, "maxReplicas": 2}, "triggers", "must be a list"),
    "misspelt": (elastic(CPU, without(CPU, "target", targett="8%")), "triggers[1].targett", "did you mean target?"),
    "missing": (elastic(without(PROMETHEUS, "query")), "triggers[0].query", "required"),
    "of another type": (elastic({**CPU, "threshold": 1}), "triggers[0].threshold", "known fields: name, type, target"),
    "named as a type": (elastic({**CPU, "redis": 1}), "triggers[0].redis", "unknown field"),
    "in the snake's case": (elastic({**REDIS, "list_length": 1}), "triggers[0].list_length", "listLength?"),
    "a rule misspelt": (
        elastic(CPU, behavior={"scaleUp": {"policies": [{"type": "Pod", "value": 1, "periodSeconds": 1}]}}),
        "behavior.scaleUp.policies[0].type",
        "'Pods'",
    ),
    "a direction misspelt": (elastic(CPU, behavior={"scaleup": {}}), "behavior.scaleup", "did you mean scaleUp?"),
    # windows and other times
    "panic as long as all": (elastic({**LOAD, "window": "6s"}), "triggers[0].panicWindow", "shorter than window (6s)"),
    "a blink of panic": (elastic({**LOAD, "panicWindow": "100ms"}), "triggers[0].panicWindow", "at least 1s"),
    "a blink": (elastic({**CPU, "window": "500ms"}), "triggers[0].window", "at least 1s and at most 1h"),
    "a day": (elastic({**LOAD, "window": "24h"}), "triggers[0].window", "at most 1h"),
    "a window and a half": (elastic({**LATENCY, "span": "90s"}), "triggers[0].span", "whole number of windows (1m)"),
    "less than a window": (elastic({**LATENCY, "span": "30s"}), "triggers[0].span", "whole number of windows"),
    "many windows": (elastic({**LATENCY, "window": "1s", "span": "1h"}), "triggers[0].span", "at most 240 windows"),
    "no threshold": (elastic({**LATENCY, "threshold": "0s"}), "triggers[0].threshold", "at least 1ms"),
    "a time without unit": (elastic({**LATENCY, "every": 15}), "triggers[0].every", "needs a unit"),
    "asked all the time": (elastic({**REDIS, "pollingInterval": "0s"}), "triggers[0].pollingInterval", "at least 1s"),
    "never answered": (elastic({**REDIS, "timeout": "1m"}), "triggers[0].timeout", "at most 30s"),
    "longer than its turn": (elastic({**PYTHON, "timeout": "20s"}), "triggers[0].timeout", "than every (15s)"),
    "a target of nothing": (elastic({**LOAD, "target": 0}), "triggers[0].target", "greater than 0"),
    # cron
    "four fields": (elastic({**CRON, "start": "0 8 * *"}), "triggers[0].start", "five fields"),
    "with seconds": (elastic({**CRON, "start": "0 0 8 * * *"}), "triggers[0].start", "five fields"),
    "hour 25": (elastic({**CRON, "end": "0 25 * * *"}), "triggers[0].end", "not a cron expression"),
    "February 30": (elastic({**CRON, "end": "0 8 30 2 *"}), "triggers[0].end", "not a cron expression"),
    "an empty time": (elastic({**CRON, "end": CRON["start"]}), "triggers[0].end", "must differ from start"),
    "nowhere": (elastic({**CRON, "timezone": "Europe/Wien"}), "triggers[0].timezone", "not a time zone"),
    "a file": (elastic({**CRON, "timezone": "../../etc/passwd"}), "triggers[0].timezone", "not a time zone"),
    "more than most": (elastic({**CRON, "desiredReplicas": 10}), "triggers[0].desiredReplicas", "maxReplicas (9)"),
    # jobs
    "no number of jobs": (elastic(without(JOBS, "value")), "triggers[0].value", "required"),
    "a model that cannot be": (elastic({**JOBS, "model": "My Model"}), "triggers[0].model", "lowercase"),
    # outside
    "no host": (elastic(without(RABBITMQ, "host")), "triggers[0].host", "or hostFromEnv is required"),
    "two hosts": (elastic({**RABBITMQ, "hostFromEnv": "H"}), "triggers[0].hostFromEnv", "exclude each other"),
    "no address": (elastic(without(REDIS, "address")), "triggers[0].address", "or addressFromEnv"),
    "two addresses": (elastic({**REDIS, "addressFromEnv": "A"}), "triggers[0].addressFromEnv", "exclude"),
    "no connection": (elastic(without(POSTGRESQL, "connection")), "triggers[0].connection", "or connectionFromEnv"),
    "two connections": (elastic({**POSTGRESQL, "connectionFromEnv": "C"}), "triggers[0].connectionFromEnv", "exclude"),
    "no variable": (
        elastic({**REDIS, "passwordFromEnv": "A-B"}),
        "triggers[0].passwordFromEnv",
        "environment variable",
    ),
    "a user alone": (
        elastic({**REDIS, "usernameFromEnv": "U"}),
        "triggers[0].usernameFromEnv",
        "needs passwordFromEnv",
    ),
    "rate over amqp": (elastic({**RABBITMQ, "mode": "MessageRate"}), "triggers[0].mode", "management API"),
    "ready over amqp": (
        elastic({**RABBITMQ, "excludeUnacknowledged": True}),
        "triggers[0].excludeUnacknowledged",
        "management API",
    ),
    "no scheme": (elastic({**PROMETHEUS, "serverAddress": "prom:9090"}), "triggers[0].serverAddress", "http://"),
    "a bad port": (elastic({**PROMETHEUS, "serverAddress": "http://p:9x"}), "triggers[0].serverAddress", "not a URI"),
    "a newline": (
        elastic({**PROMETHEUS, "serverAddress": "http://p/\nx"}),
        "triggers[0].serverAddress",
        "must be a URI",
    ),
    "a redis URI": (elastic({**REDIS, "address": "redis://r:6379"}), "triggers[0].address", "host:port"),
    "no port": (elastic({**REDIS, "address": "localhost"}), "triggers[0].address", "host:port"),
    "words for a connection": (elastic({**POSTGRESQL, "connection": "host=x"}), "triggers[0].connection", "URI"),
    # secrets
    "a password for Prometheus": (
        elastic({**PROMETHEUS, "serverAddress": "https://me:hush@prom"}),
        "triggers[0].serverAddress",
        "bearerTokenFromEnv",
    ),
    "a password for RabbitMQ": (elastic({**RABBITMQ, "host": "amqp://u:hush@r/"}), "triggers[0].host", "hostFromEnv"),
    "a password for Redis": (elastic({**REDIS, "address": "u:hush@r:1"}), "triggers[0].address", "passwordFromEnv"),
    "a password for PostgreSQL": (
        elastic({**POSTGRESQL, "connection": "postgres://u:hush@db/x"}),
        "triggers[0].connection",
        "connectionFromEnv",
    ),
    "a password further on": (
        elastic({**POSTGRESQL, "connection": "postgresql://u@db/x?sslmode=require&password=hush"}),
        "triggers[0].connection",
        "connectionFromEnv",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_policy_that_cannot_be_is_refused_where_it_breaks_a_rule(name: str) -> None:
    data, where, words = REFUSED[name]
    with pytest.raises(InvalidSpec) as caught:
        parse(document(data))
    found = places(caught.value)
    assert words in found[where]
    assert "hush" not in json.dumps(caught.value.to_dict()), "a secret was repeated"
    assert "pydantic" not in str(caught.value).lower()
    assert words in str(caught.value)


def test_every_broken_rule_is_listed() -> None:
    with pytest.raises(InvalidSpec) as caught:
        parse(document({"triggers": [{**LOAD, "window": "5s"}, without(REDIS, "address"), MEMORY], "minReplicas": 2}))
    assert list(places(caught.value)) == [
        "maxReplicas", "triggers[0].panicWindow", "triggers[1].address", "spec.resources.memory",
    ]  # fmt: skip


def test_a_fixed_number_is_what_it_was() -> None:
    stated: dict[str, Any]
    for stated in ({}, {"minReplicas": 0}, {"minReplicas": 3, "maxReplicas": 3}, {"triggers": []}):
        assert not parse(document(stated)).spec.scaling.elastic


ALL = [
    CPU, MEMORY, LOAD, {"type": "rps", "target": 50}, LATENCY,
    PROMETHEUS, RABBITMQ, REDIS, POSTGRESQL, JOBS, CRON, PYTHON,
]  # fmt: skip


def test_every_type_of_trigger_is_accepted() -> None:
    known = [
        type_
        for model in get_args(get_args(TriggerSpec)[0])
        for type_ in get_args(model.model_fields["type"].annotation)
    ]
    whole = scaling(*ALL, minReplicas=0, fallback={"replicas": 2})
    assert [trigger.type for trigger in whole.triggers] == known
    policy = policy_of(whole)
    assert [trigger.name for trigger in policy.triggers] == known


def test_a_policy_that_is_written_out_reads_the_same() -> None:
    whole = scaling(*ALL, minReplicas=0, behavior={"scaleUp": {"tolerance": 0.2}}, fallback={"replicas": 2})
    written = whole.model_dump(mode="json", by_alias=True)
    assert Scaling.model_validate(json.loads(json.dumps(written))) == whole
    again = parse(document(json.loads(json.dumps(written)), resources={"memory": "1Gi"})).spec.scaling
    assert again.model_dump(mode="json", by_alias=True) == written, "a default is not in its canonical spelling"


def test_a_fixed_number_that_is_written_out_reads_the_same() -> None:
    written = parse(document({"minReplicas": 2})).spec.scaling.model_dump(mode="json", by_alias=True)
    assert parse(document(written)).spec.scaling.min_replicas == 2


def test_the_defaults_of_kubernetes_hold_field_by_field() -> None:
    policy = policy_of(scaling(CPU))
    assert (policy.up, policy.down) == (UP, DOWN)
    behavior = {
        "scaleUp": {"stabilizationWindowSeconds": 30, "tolerance": 0.0},
        "scaleDown": {"selectPolicy": "Min", "policies": [{"type": "Pods", "value": 2, "periodSeconds": 60}]},
    }
    policy = policy_of(scaling(CPU, behavior=behavior))
    assert policy.up == Direction(30.0, UP.rules, Select.MAX, 0.0)
    assert policy.down == Direction(300.0, (Rule(RuleType.PODS, 2, 60.0),), Select.MIN, 0.1)
    off = policy_of(scaling(CPU, behavior={"scaleDown": {"selectPolicy": "Disabled"}}))
    assert off.down == dataclasses.replace(DOWN, select=Select.DISABLED)


def test_a_whole_policy() -> None:
    latency = {
        "type": "latency", "quantile": "p99", "threshold": "900ms", "window": "5s", "span": "30s", "pick": "latest",
        "every": "2s", "step": 2, "cooldown": "10s", "downThreshold": "40%", "downAfter": "20s", "minQueueShare": 0.5,
        "minGain": 0.25,
    }  # fmt: skip
    outside = [
        {**PROMETHEUS, "metricType": "Value", "activationThreshold": 2, "pollingInterval": "30s", "timeout": "2s"},
        {**RABBITMQ, "name": "rabbit", "activationValue": 1},
        {**REDIS, "listLength": 7, "activationListLength": 3},
        {**POSTGRESQL, "activationTargetQueryValue": 4},
        {**JOBS, "activationValue": 2, "pollingInterval": "1s"},
    ]
    calm = {"type": "rps", "target": 50, "panicWindow": "0s"}
    burst = {"type": "concurrency", "target": 4, "window": "30s", "panicWindow": "3s", "panicThreshold": 3.0}
    cron = {**CRON, "timezone": "Europe/Vienna"}
    python = {"type": "python", "every": "5s", "timeout": "500ms"}
    fallback = {"failureThreshold": 5, "replicas": 4, "behavior": "currentReplicasIfHigher"}
    more = {"cooldownPeriod": "30s", "fallback": fallback, "shadow": True, "minReplicas": 0}
    assert policy_of(scaling(CPU, MEMORY, calm, burst, latency, *outside, cron, python, **more)) == Policy(
        least=0,
        most=9,
        triggers=(
            ReplicaTrigger("cpu", Signal.CPU, 0.8, 15.0),
            ReplicaTrigger("memory", Signal.MEMORY, 0.7, 15.0),
            ReplicaTrigger("rps", Signal.RPS, 50.0, 60.0),
            ReplicaTrigger("concurrency", Signal.CONCURRENCY, 4.0, 30.0, Panic(3.0, 3.0)),
            LatencyTrigger("latency", Statistic.P99, 0.9, 5.0, 30.0, Pick.LATEST, 2.0, 2, 10.0, 0.4, 20.0, 0.5, 0.25),
            ExternalTrigger("prometheus", "prometheus", 10.0, 2.0, average=False, max_age_s=92.0),
            ExternalTrigger("rabbit", "rabbitmq", 5.0, 1.0, max_age_s=48.0),
            ExternalTrigger("redis", "redis", 7.0, 3.0, max_age_s=48.0),
            ExternalTrigger("postgresql", "postgresql", 3.0, 4.0, max_age_s=48.0),
            ExternalTrigger("jobs", "jobs", 4.0, 2.0, max_age_s=6.0),
            CronTrigger("cron", "0 8 * * 1-5", "0 18 * * 1-5", "Europe/Vienna", 3),
            FunctionTrigger("python", 15.5),
        ),
        cooldown_s=30.0,
        fallback=Fallback(5, 4, FallbackBehavior.CURRENT_IF_HIGHER),
        shadow=True,
    )


def test_left_out_a_span_is_one_window_and_bursts_are_noticed() -> None:
    latency, load = policy_of(scaling(LATENCY, LOAD)).triggers
    assert isinstance(latency, LatencyTrigger)
    assert latency.span_s == latency.window_s == 60.0
    assert isinstance(load, ReplicaTrigger)
    assert load.panic == Panic(6.0, 2.0)


def test_the_schema_tells_every_field_of_every_trigger() -> None:
    text = json.dumps(json_schema())
    for model in get_args(get_args(TriggerSpec)[0]):
        assert issubclass(model, BaseModel)
        for name, field in model.model_fields.items():
            assert f'"{field.alias or name}"' in text
    assert "discriminator" in text
