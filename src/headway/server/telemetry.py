"""What the server counts about itself, and how ``GET /metrics`` shows it."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter_ns

from headway.server.http import Request
from headway.server.metrics import ROW_BOUNDS, CustomMetrics, Histogram, Labels, family, histogram_family


class Telemetry:
    """One per process. ``model`` and ``version`` are labels of every series."""

    def __init__(self, *, model: str, version: str, replica_id: str) -> None:
        self.const: Labels = (("model", model), ("version", version))
        self._replica_id = replica_id
        self._answered: dict[tuple[str, int], int] = {}
        self.duration = Histogram.of_durations()
        self.queue = Histogram.of_durations()
        self.decode = Histogram.of_durations()
        self.predict = Histogram.of_durations()
        self.encode = Histogram.of_durations()
        self.batch_rows = Histogram(ROW_BOUNDS)
        self.batch_requests = Histogram(ROW_BOUNDS)
        self.expired = 0
        self.abandoned = 0
        self.custom = CustomMetrics(self.const)
        self.gauges: list[tuple[str, str, Callable[[], float]]] = []
        """Name, help and value of what is read when it is asked for."""
        self.counters: list[tuple[str, str, Callable[[], Iterable[tuple[Labels, float]]]]] = []

    def answered(self, request: Request, status: int) -> None:
        """A request got its answer (routes are few: the label is bounded)."""
        key = (request.route, status)
        self._answered[key] = self._answered.get(key, 0) + 1
        self.duration.observe(perf_counter_ns() - request.received_ns)

    def render(self) -> bytes:
        """The whole exposition."""
        return ("\n".join(self._lines()) + "\n").encode()

    def _lines(self) -> Iterable[str]:
        const = self.const
        yield from family(
            "headway_model_info", "gauge", "What runs here.", [((*const, ("replica", self._replica_id)), 1)]
        )
        yield from family(
            "headway_requests_total",
            "counter",
            "Requests answered, by route and status.",
            [
                ((*const, ("route", route), ("status", str(status))), count)
                for (route, status), count in sorted(self._answered.items())
            ],
        )
        yield from histogram_family(
            "headway_request_duration_seconds", "From the last byte in to the answer.", [(const, self.duration)]
        )
        phases = (("queue", self.queue), ("decode", self.decode), ("predict", self.predict), ("encode", self.encode))
        yield from histogram_family(
            "headway_phase_duration_seconds",
            "Phases of a prediction; predict is per call, the others per request.",
            [((*const, ("phase", name)), histogram) for name, histogram in phases],
        )
        yield from histogram_family("headway_batch_rows", "Rows per call of predict.", [(const, self.batch_rows)])
        yield from histogram_family(
            "headway_batch_requests", "Requests per call of predict.", [(const, self.batch_requests)]
        )
        yield from family(
            "headway_requests_expired_total",
            "counter",
            "Answered 504 before an answer was there.",
            [(const, self.expired)],
        )
        yield from family(
            "headway_requests_abandoned_total", "counter", "Whose client went away.", [(const, self.abandoned)]
        )
        yield from family(
            "headway_model_metrics_refused_total",
            "counter",
            "Malformed or too many entries from the model's own metrics.",
            [(const, self.custom.refused)],
        )
        for name, text, samples in self.counters:
            yield from family(name, "counter", text, [((*const, *labels), value) for labels, value in samples()])
        for name, text, read in self.gauges:
            yield from family(name, "gauge", text, [(const, read())])
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield from family("process_cpu_seconds_total", "counter", "CPU time.", [((), usage.ru_utime + usage.ru_stime)])
        yield from family("process_resident_memory_bytes", "gauge", "Resident memory.", [((), resident_bytes())])
        yield from self.custom.lines()


def resident_bytes() -> int:
    """Resident memory of this process; 0 where the kernel does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * resource.getpagesize()
