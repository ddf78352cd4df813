"""Whatever somebody hands over as a document is read or refused, never anything else; what is written is read back."""

from __future__ import annotations

import copy
import json
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from headway.domain.errors import InvalidInput
from headway.domain.spec import ModelDeployment, parse
from headway.domain.spec_document import parse_document

WHOLE: dict[str, Any] = {
    "apiVersion": "headway.dev/v1alpha1",
    "kind": "ModelDeployment",
    "metadata": {"name": "iris"},
    "spec": {
        "model": {"path": ".", "entrypoint": "model:Iris", "sample": "sample.json"},
        "env": [{"name": "A", "value": "b"}],
        "resources": {"cpu": "500m", "memory": "1Gi"},
        "server": {"maxBatchSize": 8, "maxBatchDelay": "2ms", "maxQueue": 3, "timeout": "1s", "maxBodySize": "1Mi"},
        "probes": {"startup": {"path": "/x", "periodSeconds": 1}, "readiness": {}, "liveness": {}},
        "terminationGracePeriodSeconds": 3,
        "scaling": {
            "minReplicas": 0,
            "maxReplicas": 9,
            "triggers": [
                {"type": "cpu", "target": "80%"},
                {"type": "concurrency", "target": 2.5, "panicWindow": "0s"},
                {"type": "latency", "threshold": "900ms", "span": "5m"},
                {"type": "rabbitmq", "host": "amqp://rabbit:5672/", "queueName": "q", "value": 5.0},
                {"type": "redis", "name": "rq", "addressFromEnv": "REDIS", "listName": "q", "library": "rq"},
                {"type": "cron", "start": "0 8 * * 1-5", "end": "0 18 * * 1-5", "desiredReplicas": 3},
            ],
            "behavior": {"scaleDown": {"policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}},
            "fallback": {"replicas": 2},
        },
        "traffic": [{"version": "v1", "weight": 90}, {"version": "v2", "weight": 10}],
        "sticky": {"header": "X-User"},
        "shadow": {"version": "v3", "percent": 5},
        "jobs": {"retryOn": ["TimeoutError"], "backoff": {"max": "1m"}, "workers": {"max": 3}, "webhooks": {}},
    },
}

words = st.sampled_from(
    ["apiVersion", "metadata", "name", "spec", "model", "traffic", "version", "weight", "env", "iris", "v1", "100"]
)
MARKS = [
    ": ",
    "- ",
    "\n",
    "\n  ",
    "{",
    "}",
    "[",
    "]",
    ", ",
    "'",
    '"',
    "&a ",
    "*a",
    "!!",
    "!x ",
    "|",
    ">",
    "#",
    "~",
    "\t",
]
MARKS += [
    "---\n",
    "...\n",
    "? ",
    "\\",
    "\\U",
    "\\ud800",
    "9" * 200,
    "\ufeff",
    "\x00",
    "\ud800",
    "\u2028",
    "0x",
    "%YAML ",
]
marks = st.sampled_from(MARKS)
almost_yaml = st.lists(words | marks | st.text(max_size=5), max_size=40).map("".join)
plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words | st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
sources = st.sampled_from(["headway.yaml", "iris.json"])


def read(text: str, source: str) -> ModelDeployment | None:
    try:
        return parse_document(text, source)
    except InvalidInput as error:
        refused_at = error.where or ""
    assert refused_at.startswith(source)
    return None


@given(almost_yaml | st.text(), sources)
@example("a: \x85b", "headway.yaml")
@example("'" + "a" * 2000 + "': b", "headway.yaml")
def test_any_text_is_read_or_refused(text: str, source: str) -> None:
    read(text, source)


@given(st.data(), sources)
def test_a_document_with_anything_anywhere_is_read_or_refused(data: st.DataObject, source: str) -> None:
    document = copy.deepcopy(WHOLE)
    places = _places(document)
    container, key = data.draw(st.sampled_from(places))
    container[key] = data.draw(plain)
    if isinstance(container, dict) and data.draw(st.booleans()):
        container[data.draw(words | st.text(max_size=5))] = container.pop(key)
    read(json.dumps(document), source)
    read(yaml.safe_dump(document, allow_unicode=data.draw(st.booleans())), "headway.yaml")


def _places(value: Any) -> list[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    found = [(value, key) for key in keys]
    for key in keys:
        if isinstance(value[key], dict | list):
            found += _places(value[key])
    return found


@given(st.sets(st.sampled_from(sorted(WHOLE["spec"]))), st.integers(1, 1000))
def test_what_is_written_is_read_back(parts: set[str], replicas: int) -> None:
    spec = {name: WHOLE["spec"][name] for name in parts}
    if "scaling" in spec:
        spec["scaling"] = {"minReplicas": replicas}
    document = parse({**WHOLE, "spec": spec})
    stated = document.model_dump(by_alias=True, exclude_unset=True, mode="json")

    assert stated["spec"] == spec
    for text in (json.dumps(stated), json.dumps(stated, indent="\t"), yaml.safe_dump(stated)):
        assert parse_document(text, "headway.yaml") == document
    assert parse(document.model_dump(by_alias=True, mode="json")).version_level() == document.version_level()
