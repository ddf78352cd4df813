"""What the server counts about itself, and how ``GET /metrics`` shows it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from time import perf_counter_ns

from headway.server.config import MetricsCompat
from headway.server.http import Request
from headway.server.metrics import CustomMetrics, Histogram, Labels, custom_lines, family, histogram_family
from headway.server.process_usage import own_cpu_seconds, resident_bytes
from headway.server.seldon_metrics import SeldonMetrics
from headway.server.shared_metrics import SharedMetrics, Snapshot


class Beside:
    """Of what the histogram of durations counts, the part that is no prediction request: health, metrics, …"""

    __slots__ = ("duration_ns", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.duration_ns = 0


class Telemetry:
    """One per process. ``model`` and ``version`` are labels of every series.

    Where several processes serve one replica (:attr:`shared`), each counts for itself and whichever is asked shows the
    sum of all.
    """

    def __init__(self, *, model: str, version: str, replica_id: str, compat: MetricsCompat = None) -> None:
        self.const: Labels = (("model", model), ("version", version))
        self._replica_id = replica_id
        self._answered: dict[tuple[str, int], int] = {}
        self.duration = Histogram.of_durations()
        self.queue = Histogram.of_durations()
        self.decode = Histogram.of_durations()
        self.predict = Histogram.of_durations()
        self.encode = Histogram.of_durations()
        self.batch_rows = Histogram.of_rows()
        self.batch_requests = Histogram.of_rows()
        self.beside = Beside()
        self.latency: Histogram | None = None
        """Of predictions alone, in fine buckets; None: nobody asks for it."""
        self.expired = 0
        self.abandoned = 0
        self.abandoned_ns = 0
        """From their arrival until their clients went away, added up."""
        self.seldon: SeldonMetrics | None = None
        if compat == "seldon":
            self.seldon = SeldonMetrics(model=model, version=version, replica_id=replica_id, environ=os.environ)
            self.custom = CustomMetrics((*self.const, *self.seldon.custom), overrides=True)
        else:
            self.custom = CustomMetrics(self.const)
        self.gauges: list[tuple[str, str, Callable[[], float]]] = []
        """Name, help and value of what is read when it is asked for; added up over processes."""
        self.counters: list[tuple[str, str, Callable[[], Iterable[tuple[Labels, float]]]]] = [
            (
                "headway_requests_expired_total",
                "Answered 504 before an answer was there.",
                lambda: [((), self.expired)],
            ),
            ("headway_requests_abandoned_total", "Whose client went away.", lambda: [((), self.abandoned)]),
            (
                "headway_model_metrics_refused_total",
                "Malformed or too many entries from the model's own metrics.",
                lambda: [((), self.custom.refused)],
            ),
        ]
        """Name, help and samples; added up over processes."""
        self.shared: SharedMetrics | None = None

    def answered(self, request: Request, status: int) -> None:
        """A request got its answer (routes are few: the label is bounded)."""
        key = (request.route, status)
        self._answered[key] = self._answered.get(key, 0) + 1
        duration_ns = perf_counter_ns() - request.received_ns
        self.duration.observe(duration_ns)
        if self.seldon is not None:
            self.seldon.observe(request.route, status, duration_ns)

    def described(self, request: Request, status: int) -> None:
        """As :meth:`answered`, for a request that is no load: health, metrics, descriptions."""
        before = self.duration.total
        self.answered(request, status)
        self.beside.requests += 1
        self.beside.duration_ns += int(self.duration.total - before)

    def answered_all(self, requests: Sequence[Request], routes: Sequence[str], statuses: Sequence[int]) -> None:
        """As :meth:`answered`, for requests that are answered together."""
        now_ns = perf_counter_ns()
        answered = self._answered
        for key in zip(routes, statuses, strict=True):
            answered[key] = answered.get(key, 0) + 1
        durations = [now_ns - request.received_ns for request in requests]
        self.duration.observe_all(durations)
        if self.latency is not None:
            self.latency.observe_all(durations)
        if self.seldon is not None:
            for request, status, duration_ns in zip(requests, statuses, durations, strict=True):
                self.seldon.observe(request.route, status, duration_ns)

    def gave_up(self, request: Request, status: int) -> None:
        """As :meth:`answered`, for a prediction that did not come in time."""
        before = self.duration.total
        self.answered(request, status)
        if self.latency is not None:
            self.latency.observe(self.duration.total - before)

    def latencies(self) -> dict[str, object] | None:
        """Of all processes of the replica, as in ``GET /stats``; None where they are not counted."""
        if self.latency is None:
            return None
        histograms = (self.snapshot() if self.shared is None else self.shared.gather(self.snapshot())).histograms
        counts, total_ns = histograms["latency"]
        found = {str(place): count for place, count in enumerate(counts) if count}
        return {"counts": found, "total_s": total_ns / 1e9, "queue_s": histograms["queue"][1] / 1e9}

    def snapshot(self) -> Snapshot:
        """What this process has counted until now."""
        answered: dict[str, dict[int, int]] = {}
        for (route, status), count in self._answered.items():
            answered.setdefault(route, {})[status] = count
        return Snapshot(
            answered,
            {name: (list(histogram.counts), histogram.total) for name, histogram in self._histograms()},
            {name: list(samples()) for name, _, samples in self.counters},
            {name: read() for name, _, read in self.gauges},
            list(self.custom.series()),
        )

    def render(self) -> bytes:
        """The whole exposition, of all processes of the replica."""
        own = self.snapshot()
        whole = own if self.shared is None else self.shared.gather(own)
        return ("\n".join(self._lines(whole)) + "\n").encode()

    def _histograms(self) -> tuple[tuple[str, Histogram], ...]:
        return (
            ("duration", self.duration),
            ("queue", self.queue),
            ("decode", self.decode),
            ("predict", self.predict),
            ("encode", self.encode),
            ("batch_rows", self.batch_rows),
            ("batch_requests", self.batch_requests),
            *(() if self.latency is None else (("latency", self.latency),)),
            *(() if self.seldon is None else self.seldon.histograms()),
        )

    def _lines(self, whole: Snapshot) -> Iterable[str]:
        const = self.const

        def durations(name: str) -> Histogram:
            return Histogram.of_durations().add(*whole.histograms[name])

        yield from family(
            "headway_model_info", "gauge", "What runs here.", [((*const, ("replica", self._replica_id)), 1)]
        )
        yield from family(
            "headway_requests_total",
            "counter",
            "Requests answered, by route and status.",
            [
                ((*const, ("route", route), ("status", str(status))), count)
                for route, statuses in sorted(whole.answered.items())
                for status, count in sorted(statuses.items())
            ],
        )
        yield from histogram_family(
            "headway_request_duration_seconds", "From the last byte in to the answer.", [(const, durations("duration"))]
        )
        yield from histogram_family(
            "headway_phase_duration_seconds",
            "Phases of a prediction; predict is per call, the others per request.",
            [((*const, ("phase", name)), durations(name)) for name in ("queue", "decode", "predict", "encode")],
        )
        for name, text in (
            ("batch_rows", "Rows per call of predict."),
            ("batch_requests", "Requests per call of predict."),
        ):
            histogram = Histogram.of_rows().add(*whole.histograms[name])
            yield from histogram_family(f"headway_{name}", text, [(const, histogram)])
        for name, text, _ in self.counters:
            samples = whole.counters.get(name, [])
            yield from family(name, "counter", text, [((*const, *labels), value) for labels, value in samples])
        for name, text, _ in self.gauges:
            yield from family(name, "gauge", text, [(const, whole.gauges.get(name, 0.0))])
        yield from self._process_lines()
        if self.seldon is not None:
            yield from self.seldon.lines(whole.histograms)
        yield from custom_lines(whole.custom, bare_timers=self.seldon is not None)

    def _process_lines(self) -> Iterable[str]:
        shared = self.shared
        if shared is None:
            cpu, memory = own_cpu_seconds(), float(resident_bytes())
            cpu_text, memory_text = "CPU time, its children's too.", "Resident memory, its children's too."
        else:
            const = self.const
            yield from family("headway_workers", "gauge", "Processes that take requests.", [(const, shared.running)])
            yield from family(
                "headway_worker_start", "gauge", "How they come to be.", [((*const, ("mode", shared.mode)), 1)]
            )
            yield from family(
                "headway_worker_restarts_total",
                "counter",
                "Processes started in the place of one that had ended.",
                [(const, shared.restarts)],
            )
            cpu, memory = shared.cpu_seconds(), float(shared.memory_bytes)
            cpu_text = "CPU time of all processes of the replica."
            memory_text = (
                "Memory of all processes of the replica, shared pages counted once (PSS); now and then measured."
            )
        yield from family("process_cpu_seconds_total", "counter", cpu_text, [((), cpu)])
        yield from family("process_resident_memory_bytes", "gauge", memory_text, [((), memory)])
