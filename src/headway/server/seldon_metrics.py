"""``metrics.compat: seldon``: the names and labels under which Seldon Core shows the same facts.

So that KEDA triggers, Prometheus rules and Grafana dashboards written for Seldon go on working. Names, labels and
buckets are those of Seldon Core 1 (the executor's ``seldon_api_executor_…``, the Python wrapper's custom metrics) and
of Core 2's agent (``seldon_model_infer…``). Where Seldon has two processes, an executor that calls a model, there is
one here: a prediction counts as a request to the executor ("server") and as its call of the model ("client").

Label values come from the variables that Seldon sets for its own wrapper, where the spec's ``env`` sets them, else from
model and version.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

from headway.server.metrics import Histogram, Labels, family, histogram_family, summary_family

BOUNDS_S: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
PREFIX: Final = "seldon "
"""Before the names of these histograms in a snapshot."""

_PREDICTIONS: Final = "predictions"
_SERVICES: Final = {
    "/predict": (_PREDICTIONS, "post"),
    "/invocations": (_PREDICTIONS, "post"),
    "/api/v1.0/predictions": (_PREDICTIONS, "post"),
    "/api/v0.1/predictions": (_PREDICTIONS, "post"),
    "/v2/models/infer": (_PREDICTIONS, "post"),
    "/health/status": ("status", "get"),
    "/v2/health/ready": ("status", "get"),
    "/v2/models/ready": ("status", "get"),
    "/v2/models": ("metadata", "get"),
}
"""Service and method by route; what is not here, Seldon does not count."""


def labels_of(model: str, version: str, environ: Mapping[str, str]) -> dict[str, str]:
    """Deployment, predictor and model as Seldon labels them."""
    image, colon, tag = environ.get("PREDICTIVE_UNIT_IMAGE", "").rpartition(":")
    return {
        "deployment_name": environ.get("SELDON_DEPLOYMENT_ID") or model,
        "predictor_name": environ.get("PREDICTOR_ID") or version,
        "predictor_version": _labelled_version(environ) or version,
        "model_name": environ.get("PREDICTIVE_UNIT_ID") or model,
        "model_image": image if colon else model,
        "model_version": tag if colon else version,
    }


def _labelled_version(environ: Mapping[str, str]) -> str | None:
    try:
        found: Any = json.loads(environ.get("PREDICTOR_LABELS", "{}"))
    except ValueError:
        return None
    version = found.get("version") if isinstance(found, dict) else None
    return version if isinstance(version, str) else None


class SeldonMetrics:
    """Counts as Seldon does; one per process."""

    def __init__(self, *, model: str, version: str, replica_id: str, environ: Mapping[str, str]) -> None:
        labels = labels_of(model, version, environ)
        self._server: Labels = tuple((n, labels[n]) for n in ("deployment_name", "predictor_name", "predictor_version"))
        self._client: Labels = tuple(labels.items())
        self.custom: Labels = (
            *self._client,
            # Their names before Seldon Core 1.3; its wrapper still sets them.
            ("seldon_deployment_name", labels["deployment_name"]),
            ("image_name", labels["model_image"]),
            ("image_version", labels["model_version"]),
            ("method", "predict"),
        )
        """Labels of the model's own metrics."""
        self._agent: Labels = (("server", "headway"), ("server_replica", replica_id))
        self._models: Labels = (("model", model), ("model_internal", f"{model}_{version}"))
        self._requests: dict[tuple[str, int], Histogram] = {}

    def observe(self, route: str, status: int, duration_ns: int) -> None:
        """A request to ``route`` was answered."""
        histogram = self._requests.get((route, status))
        if histogram is None:
            if route not in _SERVICES:
                return
            histogram = self._requests[route, status] = Histogram(BOUNDS_S, 1e-9)
        histogram.observe(duration_ns)

    def histograms(self) -> Iterable[tuple[str, Histogram]]:
        """By their names in a snapshot."""
        for (route, status), histogram in self._requests.items():
            yield f"{PREFIX}{route} {status}", histogram

    def lines(self, histograms: Mapping[str, tuple[list[int], float]]) -> Iterable[str]:
        """The exposition of those of ``histograms`` that are Seldon's."""
        found: dict[tuple[str, str, str], Histogram] = {}
        for name, (counts, total) in histograms.items():
            if name.startswith(PREFIX):
                route, status = name.removeprefix(PREFIX).split()
                known = found.setdefault((*_SERVICES[route], status), Histogram(BOUNDS_S, 1e-9))
                known.add(counts, total)
        predictions = {key: histogram for key, histogram in found.items() if key[0] == _PREDICTIONS}
        server = [
            ((*self._server, ("service", service), ("method", method), ("code", code)), histogram)
            for (service, method, code), histogram in sorted(found.items(), key=lambda item: item[0])
        ]
        client = [
            ((*self._client, ("service", "/predict"), ("method", method), ("code", code)), histogram)
            for (_, method, code), histogram in sorted(predictions.items(), key=lambda item: item[0])
        ]
        for side, text, samples in (
            ("server", "Requests, as Seldon's executor counts what it answers.", server),
            ("client", "Predictions, as Seldon's executor counts its calls of the model.", client),
        ):
            name = f"seldon_api_executor_{side}_requests_seconds"
            yield from histogram_family(name, text, samples)
            yield from summary_family(f"{name}_summary", text, samples)
        yield from self._agent_lines(predictions)

    def _agent_lines(self, predictions: Mapping[tuple[str, str, str], Histogram]) -> Iterable[str]:
        agent, rest = self._agent, ("method_type", "rest")
        found = sorted(((code, method, histogram) for (_, method, code), histogram in predictions.items()), key=_first)
        yield from histogram_family(
            "seldon_model_infer_api_seconds",
            "Predictions, as Seldon Core 2 counts requests to an inference server.",
            [((*agent, ("method", method), ("code", code)), histogram) for code, method, histogram in found],
        )
        each = [((*agent, *self._models, rest, ("code", code)), histogram) for code, _, histogram in found]
        whole = [((*agent, rest), histogram) for _, _, histogram in found]
        for name, text, samples in (
            ("seldon_model_infer", "Predictions, as Seldon Core 2 counts inference calls", each),
            ("seldon_model_aggregate_infer", "Predictions of all models of this server", whole),
        ):
            counts: dict[Labels, int] = {}
            seconds: dict[Labels, float] = {}
            for labels, histogram in samples:
                counts[labels] = counts.get(labels, 0) + sum(histogram.counts)
                seconds[labels] = seconds.get(labels, 0.0) + histogram.total * 1e-9
            yield from family(f"{name}_total", "counter", f"{text}.", counts.items())
            yield from family(f"{name}_seconds_total", "counter", f"{text}: their time.", seconds.items())


def _first(item: tuple[str, str, Histogram]) -> tuple[str, str]:
    return item[0], item[1]
