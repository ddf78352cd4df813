"""``metrics.compat: seldon``: queries written for Seldon's metrics find their series. The parser is Prometheus's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from tests.integration.server.crew import Crew
from tests.waiting import wait_until

_ABOVE = ("1", "2.5", "5", "7.5", "10", "+Inf")
SOURCE = """
import os
ENV = {env}
os.environ.update(ENV)
class M:
    def predict(self, X):
        if X[0][0] < 0:
            raise RuntimeError("no")
        return X[:, 0]
    def metrics(self):
        return [
            {"type": "COUNTER", "key": "seen", "value": 1, "tags": {"kind": "a", "model_name": "mine"}},
            {"type": "GAUGE", "key": "level", "value": 0.5},
            {"type": "TIMER", "key": "lookup", "value": 20.0},
        ]
"""


def source(**environ: str) -> str:
    return SOURCE.replace("{env}", repr(environ))


def samples(crew: Crew) -> list[Sample]:
    families = list(text_string_to_metric_families(crew.metrics()))
    names = [family.name for family in families]
    assert len(names) == len(set(names)), "a family is exposed twice"
    return [sample for family in families for sample in family.samples]


def select(found: Iterable[Sample], name: str, labels: Mapping[str, str]) -> float:
    """What an instant vector selector ``name{labels}`` adds up to; fails when it selects nothing."""
    values = [s.value for s in found if s.name == name and labels.items() <= s.labels.items()]
    assert values, f"{name}{dict(labels)} selects nothing"
    return sum(values)


@pytest.mark.parametrize("workers", [1, 2])
def test_triggers_and_dashboards_written_for_seldon_find_their_series(scratch: Path, workers: int) -> None:
    with Crew(scratch, source(), workers, metrics_compat="seldon") as crew, crew.client() as client:
        before = samples(crew)
        for path in ("/predict", "/api/v1.0/predictions", "/invocations"):
            body = {
                "/predict": [[1]],
                "/api/v1.0/predictions": {"data": {"ndarray": [[1]]}},
                "/invocations": {"inputs": [[1]]},
            }[path]
            for _ in range(5):
                assert client.post(path, json=body).status_code == 200
        infer = {"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP64", "data": [1.0]}]}
        assert client.post("/v2/models/iris/infer", json=infer).status_code == 200
        assert client.post("/predict", json=[[-1]]).status_code == 500
        assert client.post("/predict", content=b"nonsense").status_code == 400
        client.get("/health/status")
        client.get("/v2/models/iris")
        wait_until(lambda: "level" in crew.metrics())
        client_count = "seldon_api_executor_client_requests_seconds_count"
        wait_until(lambda: select(samples(crew), client_count, {"code": "200"}) == 16)
        after = samples(crew)

    assert not [s for s in before if s.name == client_count]
    # sum(rate(seldon_api_executor_client_requests_seconds_count{deployment_name="iris"}[1m])): all that was predicted
    assert select(after, client_count, {"deployment_name": "iris"}) == 18
    # seldon's KEDA example: {model_name="classifier"}
    assert select(after, client_count, {"model_name": "iris", "service": "/predict", "method": "post"}) == 18
    assert select(after, client_count, {"code": "500"}) == select(after, client_count, {"code": "400"}) == 1
    # histogram_quantile(0.95, sum(rate(…_bucket{service=~".*[Pp]redict", model_image=~…}[20s])) by (…, le))
    labels = {"model_image": "iris", "model_version": "v1", "predictor_name": "v1", "predictor_version": "v1"}
    bucket = "seldon_api_executor_client_requests_seconds_bucket"
    assert select(after, bucket, {**labels, "le": "+Inf"}) == 18
    assert 0 <= select(after, bucket, {**labels, "le": "0.005"}) <= select(after, bucket, {**labels, "le": "10"}) == 18
    bounds = [s.labels["le"] for s in after if s.name == bucket and s.labels["code"] == "200"]
    assert bounds == ["0.005", "0.01", "0.025", "0.05", "0.075", "0.1", "0.25", "0.5", "0.75", *_ABOVE]
    assert select(after, "seldon_api_executor_client_requests_seconds_sum", labels) > 0
    assert select(after, "seldon_api_executor_client_requests_seconds_summary_count", labels) == 18

    server = "seldon_api_executor_server_requests_seconds_count"
    assert select(after, server, {"deployment_name": "iris", "service": "predictions", "code": "200"}) == 16
    assert select(after, server, {"service": "status", "method": "get"}) >= 1
    assert select(after, server, {"service": "metadata"}) == 1

    core2 = {"model": "iris", "method_type": "rest", "server_replica": "iris-v1-bcdfg"}
    assert select(after, "seldon_model_infer_total", {**core2, "code": "200", "model_internal": "iris_v1"}) == 16
    assert select(after, "seldon_model_infer_total", core2) == 18
    assert select(after, "seldon_model_infer_seconds_total", core2) > 0
    assert select(after, "seldon_model_aggregate_infer_total", {"method_type": "rest"}) == 18
    assert select(after, "seldon_model_infer_api_seconds_count", {"method": "post", "code": "200"}) == 16

    # What Headway shows is there as ever.
    assert select(after, "headway_requests_total", {"model": "iris", "route": "/predict", "status": "200"}) == 5


def test_the_models_own_metrics_have_the_names_and_labels_of_seldons_wrapper(scratch: Path) -> None:
    with Crew(scratch, source(), 1, metrics_compat="seldon") as crew:
        for _ in range(3):
            crew.once()
        found = samples(crew)
    wrapper = {
        "deployment_name": "iris",
        "seldon_deployment_name": "iris",
        "model_name": "iris",
        "model_image": "iris",
        "image_name": "iris",
        "model_version": "v1",
        "image_version": "v1",
        "predictor_name": "v1",
        "predictor_version": "v1",
        "method": "predict",
    }
    assert select(found, "seen_total", {**wrapper, "kind": "a"}) == 3
    assert select(found, "level", wrapper) == 0.5
    assert select(found, "lookup_count", wrapper) == 3
    assert select(found, "lookup_sum", wrapper) == pytest.approx(0.06)
    assert select(found, "lookup_seconds_count", {"model": "iris"}) == 3


def test_labels_are_those_that_seldon_would_set_where_the_spec_sets_them(scratch: Path) -> None:
    environ = {
        "SELDON_DEPLOYMENT_ID": "fraud",
        "PREDICTOR_ID": "main",
        "PREDICTIVE_UNIT_ID": "classifier",
        "PREDICTIVE_UNIT_IMAGE": "registry:5000/fraud:1.4",
        "PREDICTOR_LABELS": '{"version": "blue"}',
    }
    with Crew(scratch, source(**environ), 1, metrics_compat="seldon") as crew:
        crew.once()
        found = samples(crew)
    labels = {
        "deployment_name": "fraud",
        "predictor_name": "main",
        "predictor_version": "blue",
        "model_name": "classifier",
        "model_image": "registry:5000/fraud",
        "model_version": "1.4",
    }
    assert select(found, "seldon_api_executor_client_requests_seconds_count", labels) == 1
    assert select(found, "level", labels) == 0.5


def test_without_it_there_is_nothing_of_seldons(scratch: Path) -> None:
    with Crew(scratch, source(), 1) as crew:
        crew.once()
        assert "seldon" not in crew.metrics()
        assert not any("deployment_name" in s.labels for s in samples(crew))


def test_the_page_on_metrics_names_every_one_of_them(scratch: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "how-to" / "prometheus.md").read_text()
    plain = "class M:\n    def predict(self, X):\n        return X\n"
    log_dir = str(scratch / "log.d")
    with Crew(
        scratch, plain, 2, metrics_compat="seldon", query_log_dir=log_dir, shadow_gateway="unix:/nowhere"
    ) as crew:
        crew.once()
        names = [line.split()[2] for line in crew.metrics().splitlines() if line.startswith("# TYPE")]
    assert "headway_shadow_requests_total" in names
    missing = [name for name in names if f"`{name.removesuffix('_summary')}`" not in page]
    assert not missing
