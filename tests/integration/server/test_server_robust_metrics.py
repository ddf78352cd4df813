"""``/metrics`` after traffic of every kind and from a model that reports nonsense, read by Prometheus' own parser."""

from __future__ import annotations

import gzip
import math
import re
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.server.replica import Replica

MODEL = r"""
calls = 0
class Rude:
    def __str__(self):
        raise RuntimeError("do not look at me")
    __float__ = __bool__ = __str__
def gauge(key, value=1, **tags):
    return {"type": "GAUGE", "key": key, "value": value, "tags": tags}
class Odd:
    def predict(self, X):
        if X.shape[1] == 3:
            raise RuntimeError("three is too many")
        return X.sum(axis=1)
    def metrics(self):
        global calls
        calls += 1
        return [
            gauge("plain", 0.25), gauge("text", "2.5"), gauge("low", float("-inf")), gauge("high", float("inf")),
            gauge("quoted", value=1, odd='a"b\\c\nd\re\x00f\u2028g é \N{PILE OF POO}'),
            gauge("half", value=1, odd="x\ud800y"), gauge("long", value=1, odd="x" * 5000),
            gauge("é und ü", 1), gauge("1st", 1), gauge("", 1), gauge("a:b", 1), gauge("x" * 500, 1),
            gauge("headway_requests_total", 7), gauge("process_cpu_seconds_total", 7),
            gauge("odd_label", **{"1a": "x"}), gauge("odd_label", **{"__name__": "x"}),
            gauge("odd_label", **{"é": "x"}),
            gauge("odd_label", **{"": "x"}), gauge("odd_label", **{"a b": "x", "a.b": "y"}), gauge("own", model="x"),
            gauge("unbounded", number=calls), gauge(f"unbounded_name_{calls}"),
            gauge("nan", float("nan")), gauge("huge", 10**400), gauge("none", None), gauge("word", "x"),
            gauge("rude", Rude()), gauge("rude", 1, who=Rude()), gauge("many", **{f"t{i}": 1 for i in range(50)}),
            {"type": "COUNTER", "key": "seen", "value": 2}, {"type": "COUNTER", "key": "seen_total", "value": 1},
            {"type": "COUNTER", "key": "back", "value": -1}, {"type": "COUNTER", "key": "inf", "value": float("inf")},
            {"type": "TIMER", "key": "work", "value": 12.5}, {"type": "TIMER", "key": "work", "value": float("inf")},
            {"type": "TIMER", "key": "cut", "value": 1, "tags": {"le": "5"}},
            gauge("work_seconds", 1), gauge("work_seconds_count", 1), gauge("work_seconds_bucket", 1),
            gauge("first_seconds_sum", 1), {"type": "TIMER", "key": "first", "value": 1},
            {"type": "HISTOGRAM", "key": "x", "value": 1}, {"type": None}, {}, None, 5, "text", [1], Rude(),
            {"type": "GAUGE", "key": 5, "value": 1}, {"type": "GAUGE", "key": "t", "value": 1, "tags": [1]},
            {"type": ["GAUGE"], "key": "t", "value": 1},
        ]
"""
ROW = [1.0, 2.0]


def traffic(client: httpx.Client) -> None:
    """A request of every kind there is."""
    infer = {"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 2], "data": ROW}]}
    for _ in range(150):
        assert client.post("/predict", json=[ROW]).status_code == 200
    for path, body in (
        ("/invocations", {"inputs": [ROW]}),
        ("/api/v1.0/predictions", {"data": {"ndarray": [ROW]}}),
        ("/v2/models/iris/infer", infer),
        ("/v2/models/iris/versions/1/infer", infer),
    ):
        assert client.post(path, json=body).status_code == 200
    assert client.post("/predict", json=[[1.0, 2.0, 3.0]]).status_code == 500
    assert client.post("/predict", content=gzip.compress(b"[[1, 2]]")).status_code == 400
    assert client.post("/predict", content=b"", headers={"content-type": "a/b"}).status_code == 415
    assert client.post("/predict", content=b"x" * 100_000).status_code == 413
    assert client.get('/no"where\\{}').status_code == 404
    assert client.request("PURGE", "/predict").status_code == 405
    assert client.post("/api/v1.0/feedback", json={"reward": -1}).status_code == 200
    assert client.post("/api/v1.0/predictions", json={"data": {"tftensor": {}}}).status_code == 422
    for path in ("/", "/metrics", "/openapi.json", "/health/ping", "/health/status", "/version", "/v2"):
        assert client.get(path).status_code == 200


def check(families: Iterable[Metric]) -> None:
    """What the format asks for and a parser lets pass."""
    names: set[str] = set()
    for family in families:
        assert family.name not in names, family.name
        names.add(family.name)
        assert family.documentation, family.name
        assert family.type in ("counter", "gauge", "histogram", "summary"), family.name
        series = [(s.name, tuple(sorted(s.labels.items()))) for s in family.samples]
        assert len(set(series)) == len(series), family.name
        if family.type == "counter":
            assert all(s.name.endswith("_total") and s.value >= 0 for s in family.samples), family.name
        if family.type == "histogram":
            check_histogram(family)


def check_histogram(family: Metric) -> None:
    buckets: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    counts: dict[tuple[tuple[str, str], ...], float] = {}
    sums: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in family.samples:
        labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
        part = sample.name.removeprefix(family.name)
        if part == "_bucket":
            buckets.setdefault(labels, []).append((float(sample.labels["le"]), sample.value))
        else:
            {"_count": counts, "_sum": sums}[part][labels] = sample.value
    assert buckets.keys() == counts.keys() == sums.keys()
    for labels, found in buckets.items():
        bounds, values = zip(*found, strict=True)
        assert list(bounds) == sorted(set(bounds))
        assert list(values) == sorted(values)
        assert (bounds[-1], values[-1]) == (math.inf, counts[labels])
        assert math.isfinite(sums[labels])


@pytest.mark.parametrize("compat", [None, "seldon"])
def test_metrics_are_well_formed_whatever_happened_and_whatever_the_model_reports(
    scratch: Path, compat: str | None
) -> None:
    options = {"max_body_bytes": 50_000}
    with Replica(scratch, MODEL, options=options, metrics_compat=compat) as replica, replica.client() as client:
        traffic(client)
        answer = client.get("/metrics")
        assert (answer.status_code, answer.headers["content-type"]) == (
            200,
            "text/plain; version=0.0.4; charset=utf-8",
        )
        text = answer.content.decode()
        families = list(text_string_to_metric_families(text))
        check(families)
        for name in re.findall(r"^# TYPE (\S+)", text, re.MULTILINE):
            assert re.search(rf"^# HELP {name} \S", text, re.MULTILINE), name
        found = {f.name: f for f in families}
        assert found["plain"].samples[0].value == 0.25
        (quoted,) = found["quoted"].samples
        assert quoted.labels["odd"] == 'a"b\\c\nd\re\x00f\u2028g é \N{PILE OF POO}'
        assert found["half"].samples[0].labels["odd"] == "x?y"
        assert len(found["long"].samples[0].labels["odd"]) == 120
        assert found["seen"].samples[0].value >= 3 * 154
        assert found["work_seconds"].type == "histogram"
        assert len(found["unbounded"].samples) == 50
        assert len(found) < 150
        assert not {"nan", "huge", "none", "word", "rude", "many", "odd_label_", "cut_seconds"} & set(found)
        requests = {(s.labels["route"], s.labels["status"]): s.value for s in found["headway_requests"].samples}
        assert requests["/predict", "200"] == 150
        assert {status for _, status in requests} >= {"200", "400", "404", "405", "413", "415", "422", "500"}
        assert found["headway_model_metrics_refused"].samples[0].value > 154 * 10
        assert "do not look at me" not in replica.log()
