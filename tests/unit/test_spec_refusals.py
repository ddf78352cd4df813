"""What the ModelDeployment document refuses, where it says the fault is, and in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from headway.domain.errors import HeadwayError, InvalidSpec, InvalidTraffic
from headway.domain.spec import parse

HEAD: dict[Any, Any] = {
    "apiVersion": "headway.dev/v1alpha1",
    "kind": "ModelDeployment",
    "metadata": {"name": "iris"},
}
NUMBER_KEY: dict[Any, Any] = {1: 2}
HUGE_KEY: dict[Any, Any] = {10**5000: 2}


def document(spec: object) -> dict[Any, Any]:
    return {**HEAD, "spec": spec}


def refused(data: object) -> HeadwayError:
    with pytest.raises(HeadwayError) as caught:
        parse(data)
    return caught.value


WRONG: dict[str, tuple[object, type[HeadwayError], str, str]] = {
    "a list": ([], InvalidSpec, "document", "mapping"),
    "text": ("spec", InvalidSpec, "document", "mapping"),
    "nothing": (None, InvalidSpec, "document", "mapping"),
    "no metadata": ({"spec": {}}, InvalidSpec, "metadata", "required"),
    "metadata is a number": ({**HEAD, "metadata": 5}, InvalidSpec, "metadata", "must be a mapping"),
    "another kind": ({**HEAD, "kind": "Pod"}, InvalidSpec, "kind", "'ModelDeployment'"),
    "another apiVersion": ({**HEAD, "apiVersion": "v1"}, InvalidSpec, "apiVersion", "headway.dev/v1alpha1"),
    "a name with a slash": ({**HEAD, "metadata": {"name": "..%2f"}}, InvalidSpec, "metadata.name", "lowercase"),
    "a long name": ({**HEAD, "metadata": {"name": "a" * 300}}, InvalidSpec, "metadata.name", "40"),
    "a name and a newline": ({**HEAD, "metadata": {"name": "iris\n"}}, InvalidSpec, "metadata.name", "lowercase"),
    "keys that are numbers": ({**HEAD, **NUMBER_KEY}, InvalidSpec, "[1]", "field names must be strings"),
    "a huge key": ({**HEAD, **HUGE_KEY}, InvalidSpec, "", "field names must be strings"),
    "spec is a list": (document([]), InvalidSpec, "spec", "must be a mapping"),
    "a snake_case field": (document({"server": {"max_queue": 3}}), InvalidSpec, "spec.server.max_queue", "maxQueue?"),
}
FIELDS: dict[str, tuple[object, type[HeadwayError], str, str]] = {
    "misspelt": ({"scaling": {"minReplica": 1}}, InvalidSpec, "spec.scaling.minReplica", "did you mean minReplicas?"),
    "misspelt in a list": (
        {"env": [{"name": "A", "vlaue": "1"}]},
        InvalidSpec,
        "spec.env[0].value",
        "did you mean value?",
    ),
    "unlike anything": ({"zzzzzz": 1}, InvalidSpec, "spec.zzzzzz", "known fields: model, graph, env"),
    "jobs: no attempt": ({"jobs": {"maxAttempts": 0}}, InvalidSpec, "spec.jobs.maxAttempts", "1"),
    "jobs: misspelt": ({"jobs": {"workers": {"maximum": 3}}}, InvalidSpec, "spec.jobs.workers.maximum", "max?"),
    "jobs: a number": ({"jobs": 3}, InvalidSpec, "spec.jobs", "must be a mapping"),
    "jobs: no range": ({"jobs": {"workers": {"min": 9}}}, InvalidSpec, "spec.jobs", "workers.min must be at most"),
    "jobs: a blink": ({"jobs": {"timeout": "10ms"}}, InvalidSpec, "spec.jobs", "timeout must be at least 1s"),
    "jobs: kept for ever": ({"jobs": {"resultTtl": "2161h"}}, InvalidSpec, "spec.jobs", "at most 2160h"),
    "jobs: a huge result": ({"jobs": {"maxResultSize": "2Gi"}}, InvalidSpec, "spec.jobs", "at most 1Gi"),
    "jobs: back-off": ({"jobs": {"backoff": {"initial": "10m"}}}, InvalidSpec, "spec.jobs", "at most backoff.max"),
    "jobs: another version": ({"jobs": {"version": "newest"}}, InvalidSpec, "spec.jobs.version", "'production'"),
    "jobs: no exception": ({"jobs": {"retryOn": ["not one"]}}, InvalidSpec, "spec.jobs.retryOn[0]", "match"),
    "no range": ({"scaling": {"minReplicas": 3, "maxReplicas": 1}}, InvalidSpec, "spec.scaling.maxReplicas", "below"),
    "a word for a number": ({"scaling": {"minReplicas": "two"}}, InvalidSpec, "spec.scaling.minReplicas", "whole"),
    "true for a number": ({"server": {"maxQueue": True}}, InvalidSpec, "spec.server.maxQueue", "whole number"),
    "a fraction": ({"server": {"maxQueue": 1.5}}, InvalidSpec, "spec.server.maxQueue", "whole number"),
    "a huge number": (
        {"scaling": {"minReplicas": 10**5000, "maxReplicas": 1}},
        InvalidSpec,
        "spec.scaling.minReplicas",
        "",
    ),
    "below its least": ({"scaling": {"minReplicas": -1}}, InvalidSpec, "spec.scaling.minReplicas", "equal to 0"),
    "above its most": ({"server": {"maxBatchSize": 10**6}}, InvalidSpec, "spec.server.maxBatchSize", "65536"),
    "memory in thousandths": ({"resources": {"memory": "512m"}}, InvalidSpec, "spec.resources.memory", "512Mi?"),
    "memory too small": ({"resources": {"memory": 512}}, InvalidSpec, "spec.resources.memory", "16Mi"),
    "memory in words": ({"resources": {"memory": "lots"}}, InvalidSpec, "spec.resources.memory", "512Mi"),
    "no memory": ({"resources": {"memory": "0"}}, InvalidSpec, "spec.resources.memory", "more than 0"),
    "cpu not a number": ({"resources": {"cpu": float("nan")}}, InvalidSpec, "spec.resources.cpu", ""),
    "cpu without end": ({"resources": {"cpu": "9" * 5000}}, InvalidSpec, "spec.resources.cpu", "500m"),
    "cpu of a whole cluster": ({"resources": {"cpu": "5k"}}, InvalidSpec, "spec.resources.cpu", "1024"),
    "other digits": ({"resources": {"cpu": "٣"}}, InvalidSpec, "spec.resources.cpu", "not a quantity"),
    "a time without unit": ({"server": {"timeout": 30}}, InvalidSpec, "spec.server.timeout", "needs a unit"),
    "an endless timeout": ({"server": {"timeout": "2h"}}, InvalidSpec, "spec.server", "at most 1h"),
    "no timeout": ({"server": {"timeout": "0s"}}, InvalidSpec, "spec.server", "at least 1ms"),
    "a long wait": ({"server": {"maxBatchDelay": "11s"}}, InvalidSpec, "spec.server", "at most 10s"),
    "waiting past the timeout": (
        {"server": {"maxBatchDelay": "2s", "timeout": "1s"}},
        InvalidSpec,
        "spec.server",
        "shorter than timeout",
    ),
    "a huge body": ({"server": {"maxBodySize": "2Gi"}}, InvalidSpec, "spec.server", "at most 1Gi"),
    "startup to pass twice": (
        {"probes": {"startup": {"successThreshold": 2}}},
        InvalidSpec,
        "spec.probes.startup.successThreshold",
        "must be 1",
    ),
    "a probe of no period": (
        {"probes": {"liveness": {"periodSeconds": 0}}},
        InvalidSpec,
        "spec.probes.liveness.periodSeconds",
        "1",
    ),
    "a probe elsewhere": (
        {"probes": {"liveness": {"path": "http://x/"}}},
        InvalidSpec,
        "spec.probes.liveness.path",
        "starts with /",
    ),
    "a probe with a newline": (
        {"probes": {"liveness": {"path": "/a\r\nHost: b"}}},
        InvalidSpec,
        "spec.probes.liveness.path",
        "without spaces",
    ),
    "a variable of ours": (
        {"env": [{"name": "HEADWAY_HOME", "value": "/"}]},
        InvalidSpec,
        "spec.env[0].name",
        "set by Headway",
    ),
    "the search path": ({"env": [{"name": "PYTHONPATH", "value": "/"}]}, InvalidSpec, "spec.env[0].name", "Headway"),
    "a preloaded library": ({"env": [{"name": "LD_PRELOAD", "value": "x"}]}, InvalidSpec, "spec.env[0].name", "set by"),
    "no variable name": ({"env": [{"name": "A=B", "value": "1"}]}, InvalidSpec, "spec.env[0].name", "letters, digits"),
    "a variable's number": ({"env": [{"name": "A", "value": 1}]}, InvalidSpec, "spec.env[0].value", "quote"),
    "a NUL": ({"env": [{"name": "A", "value": "\0"}]}, InvalidSpec, "spec.env[0].value", "NUL"),
    "half a character": ({"env": [{"name": "A", "value": "\ud800"}]}, InvalidSpec, "spec.env[0].value", "Unicode"),
    "a variable twice": (
        {"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]},
        InvalidSpec,
        "spec",
        "A twice",
    ),
    "a sample outside": ({"model": {"sample": "../secret"}}, InvalidSpec, "spec.model.sample", "inside the folder"),
    "an absolute sample": ({"model": {"sample": "/etc/passwd"}}, InvalidSpec, "spec.model.sample", "inside"),
    "half a sample": ({"model": {"sample": "\ud800"}}, InvalidSpec, "spec.model.sample", "Unicode"),
    "a path with NUL": ({"model": {"path": "a\0b"}}, InvalidSpec, "spec.model.path", "NUL"),
    "no entry point": ({"model": {"entrypoint": "model.py"}}, InvalidSpec, "spec.model.entrypoint", "model:Iris"),
    "a dotted nothing": ({"model": {"entrypoint": "..:a"}}, InvalidSpec, "spec.model.entrypoint", "model:Iris"),
    "weights of 90": (
        {"traffic": [{"version": "v1", "weight": 90}]},
        InvalidTraffic,
        "spec.traffic",
        "sum to 90, not 100",
    ),
    "a version twice": (
        {"traffic": [{"version": "v1", "weight": 50}, {"version": "v1", "weight": 50}]},
        InvalidTraffic,
        "spec.traffic[1].version",
        "v1 is named twice",
    ),
    "no arm": ({"traffic": []}, InvalidTraffic, "spec.traffic", "0"),
    "no version": ({"traffic": [{"version": "one", "weight": 100}]}, InvalidSpec, "spec.traffic[0].version", "v1"),
    "a negative weight": (
        {"traffic": [{"version": "v1", "weight": 110}, {"version": "v2", "weight": -10}]},
        InvalidSpec,
        "spec.traffic[0].weight",
        "100",
    ),
    "sticky by nothing": ({"sticky": {}}, InvalidSpec, "spec.sticky", "header or a cookie"),
    "sticky by both": ({"sticky": {"header": "a", "cookie": "b"}}, InvalidSpec, "spec.sticky", "header or a cookie"),
    "sticky by ours": ({"sticky": {"header": "X-Headway-Model"}}, InvalidSpec, "spec.sticky.header", "Headway's own"),
    "a header with quotes": ({"sticky": {"header": "a'b"}}, InvalidSpec, "spec.sticky.header", "letters, digits"),
    "a cookie with a newline": ({"sticky": {"cookie": "a\n"}}, InvalidSpec, "spec.sticky.cookie", "letters, digits"),
    "a shadow of nothing": (
        {"shadow": {"version": "v1", "percent": 0}},
        InvalidSpec,
        "spec.shadow.percent",
        "equal to 1",
    ),
}
WRONG |= {name: (document(spec), kind, where, words) for name, (spec, kind, where, words) in FIELDS.items()}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_document_is_refused_and_says_where(name: str) -> None:
    data, kind, where, words = WRONG[name]
    error = refused(data)
    assert type(error) is kind
    assert words in str(error)
    assert not where or any(where == place for place in places(error))
    assert "pydantic" not in str(error).lower()
    json.dumps(error.to_dict(), ensure_ascii=False).encode()


def places(error: HeadwayError) -> list[str]:
    return [error.where or "", *(problem["where"] for problem in error.details.get("problems", []))]


def test_every_problem_is_listed() -> None:
    error = refused(document({"server": {"maxQueue": 0, "timeout": 5}, "sticky": {}, "modle": {}}))
    assert places(error)[1:] == ["spec.server.maxQueue", "spec.server.timeout", "spec.sticky", "spec.modle"]
    for where in places(error):
        assert where in str(error)
    assert "did you mean model?" in str(error)


def test_a_flood_of_problems_is_cut_short() -> None:
    error = refused(document({f"field{i}": i for i in range(5000)}))
    assert len(error.details["problems"]) == 20
    assert len(str(error)) < 20_000


def test_a_refused_value_is_not_repeated_at_length() -> None:
    assert len(str(refused(document({"resources": {"cpu": "x" * 100_000}})))) < 500
