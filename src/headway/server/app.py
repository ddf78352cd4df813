"""The application: one request to one response, whatever carries them. No sockets here.

``handle`` returns the response, or None when it comes later through ``request.peer.settle``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from time import perf_counter_ns
from typing import Any

from headway.domain.errors import HeadwayError, InvalidRequest, MethodNotAllowed, NotFound, Overloaded
from headway.domain.query_segments import Flag
from headway.server.bodies import collector_paused, inflate
from headway.server.codecs import Codec
from headway.server.codecs.mlflow import MlflowCodec
from headway.server.codecs.open_inference import OpenInferenceCodec
from headway.server.codecs.rows import RowsCodec
from headway.server.codecs.seldon import SeldonCodec
from headway.server.config import ServerConfig
from headway.server.descriptions import Descriptions
from headway.server.execution import Execution, Ticket
from headway.server.feedback import FeedbackDesk
from headway.server.feedback_message import request_path
from headway.server.health import Health
from headway.server.http import PROMETHEUS, Request, Response, error_response
from headway.server.json_text import MAX_VALUES
from headway.server.limits import FREE_BODY_BYTES
from headway.server.metrics import Histogram, Labels
from headway.server.predictor import Predictor
from headway.server.query_log import QueryLogWriter
from headway.server.seldon_feedback import SeldonFeedbackDesk
from headway.server.shadow import ShadowSender
from headway.server.stats_page import StatsMeter, StatsPage
from headway.server.telemetry import Telemetry

log = logging.getLogger("headway.server")

Endpoint = Callable[[Request], Response | None]

MAX_TIMEOUT_MS = 24 * 3600 * 1000


class Route:
    """One path: an endpoint per method, the name that metrics know it by, and whether the query log has it."""

    __slots__ = ("allow", "endpoints", "logged", "name")

    def __init__(self, name: str, endpoints: Mapping[bytes, Endpoint], *, logged: bool) -> None:
        self.name = name
        self.logged = logged
        self.endpoints = dict(endpoints)
        if b"GET" in self.endpoints:
            self.endpoints[b"HEAD"] = self.endpoints[b"GET"]
        self.allow = ", ".join(sorted(m.decode() for m in self.endpoints))


class Application:
    """Routes, and the way of a prediction request through codec and queue."""

    def __init__(
        self,
        config: ServerConfig,
        execution: Execution,
        loop: asyncio.AbstractEventLoop,
        shadow: ShadowSender | None = None,
        query_log: QueryLogWriter | None = None,
    ) -> None:
        self._config = config
        self._query_log = query_log
        self._model = execution.model
        self._shadow = shadow
        self.telemetry = Telemetry(
            model=config.model, version=config.version, replica_id=config.replica_id, compat=config.metrics_compat
        )
        if config.latency_counts:
            self.telemetry.latency = Histogram.of_latencies()
        self.predictor = Predictor(execution, config.options, self.telemetry, loop, query_log)
        self.stats = StatsMeter(self.telemetry, self.predictor, None)
        self.health = Health(execution.model, self.telemetry, loop)
        self.telemetry.gauges += [
            ("headway_queue_depth", "Requests that wait.", lambda: self.predictor.waiting),
            ("headway_requests_in_flight", "Requests being predicted.", lambda: self.predictor.in_flight),
            ("headway_predict_on_loop", "1: the model is fast enough to run on the event loop.", self._on_loop),
        ]
        if query_log is not None:
            segments, payloads = query_log.segments, query_log.payloads
            self.telemetry.counters += [
                ("headway_query_log_records_total", "Records written.", lambda: [((), segments.written)]),
                ("headway_query_log_dropped_total", "Records that could not be.", lambda: [((), segments.dropped)]),
                ("headway_feedback_total", "Feedback that was taken.", lambda: [((), query_log.feedback_taken)]),
            ]
            if payloads is not None:
                self.telemetry.counters += [
                    ("headway_payloads_kept_total", "Requests kept whole.", lambda: [((), payloads.kept)]),
                    ("headway_payloads_dropped_total", "Chosen, but not kept.", lambda: [((), payloads.dropped)]),
                ]
        if shadow is not None:
            self.predictor.on_predicted = self._copy_to_shadow
            self.telemetry.counters.append(
                ("headway_shadow_requests_total", "Copies for a shadow version.", lambda: _shadow_samples(shadow))
            )
        self.feedback = FeedbackDesk(query_log, config.options.max_body_bytes)
        log_it = None if query_log is None else self.feedback.record
        values = max(MAX_VALUES, config.options.max_body_bytes // 16)
        self.rewards = SeldonFeedbackDesk(config, self._model, self.telemetry, loop, shadow, log_it, values)
        self._descriptions = Descriptions(config, execution, lambda: (path.decode() for path in self._routes))
        self._routes = self._make_routes(config)

    def _make_routes(self, config: ServerConfig) -> dict[bytes, Route]:
        model, health, about = self._model, self.health, self._descriptions
        values = max(MAX_VALUES, config.options.max_body_bytes // 16)
        rows = self.prediction(RowsCodec(model.kind, model.columns(), max_values=values))
        mlflow = self.prediction(MlflowCodec(model, max_values=values))
        answers = request_path(config.model, config.version)
        seldon = self.prediction(SeldonCodec(model, unit=config.model, answers=answers, max_values=values))
        names = {"model_name": config.model, "model_version": config.version}
        infer = self.prediction(OpenInferenceCodec(model, **names, max_values=values))
        table: dict[str, tuple[bytes, Endpoint]] = {
            "/": (b"GET", about.about),
            "/openapi.json": (b"GET", about.openapi),
            "/metrics": (b"GET", self._metrics),
            "/stats": (b"GET", self._stats),
            "/predict": (b"POST", rows),
            "/invocations": (b"POST", mlflow),
            "/api/v1.0/predictions": (b"POST", seldon),
            "/api/v0.1/predictions": (b"POST", seldon),
            "/feedback": (b"POST", self.feedback.take),
            "/api/v1.0/feedback": (b"POST", self.rewards.take),
            "/api/v0.1/feedback": (b"POST", self.rewards.take),
            "/health": (b"GET", health.ready),
            "/health/live": (b"GET", health.live),
            "/health/ping": (b"GET", health.live),
            "/health/ready": (b"GET", health.ready),
            "/health/status": (b"GET", health.status),
            "/ping": (b"GET", health.ready),
            "/version": (b"GET", about.version),
            "/v2": (b"GET", about.server),
            "/v2/health/live": (b"GET", health.live),
            "/v2/health/ready": (b"GET", health.ready),
            "/v2/repository/index": (b"POST", about.repository),
        }
        # Triton's clients number versions; Headway's names are v1, v2, …
        for version in ("", f"/versions/{config.version}", f"/versions/{config.version.removeprefix('v')}"):
            base = f"/v2/models/{config.model}{version}"
            table[base] = (b"GET", about.model)
            table[f"{base}/ready"] = (b"GET", health.ready)
            table[f"{base}/infer"] = (b"POST", infer)
        predicting = (rows, mlflow, seldon, infer)
        return {
            path.encode(): Route(_label(path), {method: endpoint}, logged=endpoint in predicting)
            for path, (method, endpoint) in table.items()
        }

    def handle(self, request: Request) -> Response | None:
        """The answer, or None when it comes later. Never raises."""
        logged = True
        try:
            route = self._routes.get(request.path)
            if route is None:
                if request.path.startswith(b"/v2/models/"):
                    raise self._descriptions.other_model(request.path)
                raise NotFound(
                    f"nothing at {request.path[:100].decode('latin-1')}",
                    hint=f"paths: {', '.join(sorted(p.decode() for p in self._routes))}",
                )
            request.route = route.name
            logged = route.logged
            endpoint = route.endpoints.get(request.method)
            if endpoint is None:
                raise MethodNotAllowed(
                    f"{request.method.decode()} is not allowed at {route.name}", details={"allow": route.allow}
                )
            response = endpoint(request)
            if response is None:
                return None
        except HeadwayError as error:
            response = error_response(error, request)
        except Exception as error:
            log.exception("a fault in the model server", exc_info=error)
            response = error_response(HeadwayError("internal error"), request)
        if not logged:
            self.telemetry.described(request, response.status)
            return response
        self.telemetry.answered(request, response.status)
        if self._query_log is not None:
            shed = Flag.SHED if response.status == Overloaded.status else 0
            self._query_log.answered(request, response.status, len(response.body), shed)
        return response

    def unhandled(self, request: Request, status: int, bytes_out: int) -> None:
        """The HTTP layer answered ``request`` itself, or its client had gone before it was looked at."""
        self.telemetry.answered(request, status)
        if self._query_log is not None:
            self._query_log.answered(request, status, bytes_out)

    def prediction(self, codec: Codec) -> Endpoint:
        """The endpoint that predicts what ``codec`` reads."""
        predictor = self.predictor
        max_body_bytes = self._config.options.max_body_bytes

        def endpoint(request: Request) -> None:
            predictor.admit()
            headers = request.headers
            if b"content-encoding" in headers:
                request.wire_bytes = len(request.body)
                request.body = inflate(request.body, headers[b"content-encoding"], max_body_bytes)
                if len(request.body) > FREE_BODY_BYTES:
                    request.peer.charge(request, len(request.body))
            asked_ms = _asked_ms(headers[b"x-request-timeout-ms"]) if b"x-request-timeout-ms" in headers else None
            if len(request.body) > FREE_BODY_BYTES:
                with collector_paused():
                    inputs = codec.decode(request)
            else:
                inputs = codec.decode(request)
            now_ns = perf_counter_ns()
            deadline_ns = predictor.ticket_deadline_ns(request.received_ns, asked_ms)
            predictor.submit(Ticket(request, inputs, codec, now_ns, deadline_ns))

        return endpoint

    def count_on(self, page: StatsPage | None, place: int = 0) -> None:
        """Tell what is counted on ``page`` too, from now on."""
        self.stats = StatsMeter(self.telemetry, self.predictor, page, place)
        self.stats.publish()
        self.predictor.on_load = self.stats.publish

    def drain(self) -> None:
        """Not ready from here on."""
        self.health.draining = True

    def _metrics(self, request: Request) -> Response:
        return Response(200, self.telemetry.render(), PROMETHEUS)

    def _stats(self, request: Request) -> Response:
        return self.stats.tell(request)

    def _on_loop(self) -> float:
        return float(self.predictor.placement.on_loop)

    def _copy_to_shadow(self, ticket: Ticket, response: Response) -> None:
        request = ticket.request
        version = request.headers.get(b"x-headway-shadow")
        if version is not None and self._shadow is not None:
            self._shadow.offer(request, version)


def _asked_ms(value: bytes) -> int:
    """``x-request-timeout-ms``: how long the client will wait."""
    if not value.isdigit() or len(value) > 12 or int(value) == 0:
        raise InvalidRequest("x-request-timeout-ms must be a whole number of milliseconds above 0")
    return min(int(value), MAX_TIMEOUT_MS)


def _label(path: str) -> str:
    """The name of a route in metrics: without model and version."""
    if path.startswith("/v2/models/"):
        last = path.rpartition("/")[2]
        return f"/v2/models/{last}" if last in ("infer", "ready") else "/v2/models"
    return path


def _shadow_samples(shadow: ShadowSender) -> Iterable[tuple[Labels, float]]:
    counts: dict[str, Any] = {"sent": shadow.sent, "dropped": shadow.dropped, "failed": shadow.failed}
    return [((("result", name),), value) for name, value in counts.items()]
