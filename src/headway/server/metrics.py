"""Counters, gauges and histograms in the Prometheus text format (0.0.4), with bounded label sets.

Written by one thread (the event loop's), so without locks.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from time import perf_counter_ns
from typing import Any, Final

import msgspec

from headway.domain.latency_counts import BOUNDS_NS
from headway.server.failures import well_formed

MAX_CUSTOM_NAMES: Final = 100
MAX_CUSTOM_SERIES: Final = 50
"""Label sets per custom metric."""
MAX_LABELS: Final = 8

DURATION_BOUNDS_S: Final = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
)  # fmt: skip
ROW_BOUNDS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 4096)

OURS: Final = (
    "headway_",
    "process_",
    "seldon_api_executor_",
    "seldon_model_infer",
    "seldon_model_aggregate_infer",
)
"""Beginnings of names that a model's own metrics cannot have."""

Labels = tuple[tuple[str, str], ...]

_RESERVED_LABEL = re.compile(r"[0-9]|__|le$").match


class Histogram:
    """Observations in whole units (nanoseconds, rows); ``scale`` turns them into the exposed unit."""

    __slots__ = ("_bounds", "_exposed", "_scale", "counts", "total")

    def __init__(self, bounds: Sequence[float], scale: float = 1.0) -> None:
        self._exposed = [_number(b) for b in bounds]
        self._bounds = [b / scale for b in bounds]
        self._scale = scale
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    @classmethod
    def of_durations(cls) -> Histogram:
        """Observed in nanoseconds, exposed in seconds."""
        return cls(DURATION_BOUNDS_S, 1e-9)

    @classmethod
    def of_latencies(cls) -> Histogram:
        """Observed in nanoseconds, in the buckets of :mod:`headway.domain.latency_counts`; not exposed."""
        return cls([bound / 1e9 for bound in BOUNDS_NS], 1e-9)

    @classmethod
    def of_rows(cls) -> Histogram:
        """Observed and exposed in rows, or requests."""
        return cls(ROW_BOUNDS)

    def add(self, counts: Sequence[int], total: float) -> Histogram:
        """Add what was observed elsewhere by the same bounds; this one itself, for chaining."""
        self.counts = add_counts(self.counts, counts)
        self.total += total
        return self

    def observe(self, value: float) -> None:
        """Count one observation."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def observe_all(self, values: Sequence[int]) -> None:
        """Count many observations, for less than one call each."""
        counts, bounds = self.counts, self._bounds
        for value in values:
            counts[bisect_left(bounds, value)] += 1
        self.total += sum(values)

    def lines(self, name: str, labels: Labels) -> Iterable[str]:
        """Buckets (cumulative), sum and count."""
        running = 0
        for bound, count in zip([*self._exposed, "+Inf"], self.counts, strict=True):
            running += count
            yield f"{name}_bucket{_label_text((*labels, ('le', bound)))} {running}"
        yield from self.sum_and_count(name, labels)

    def sum_and_count(self, name: str, labels: Labels) -> Iterable[str]:
        """What a summary without quantiles shows."""
        yield f"{name}_sum{_label_text(labels)} {_number(self.total * self._scale)}"
        yield f"{name}_count{_label_text(labels)} {sum(self.counts)}"


def family(name: str, kind: str, text: str, samples: Iterable[tuple[Labels, float]]) -> Iterable[str]:
    """HELP, TYPE and one line per sample."""
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for labels, value in samples:
        yield f"{name}{_label_text(labels)} {_number(value)}"


def histogram_family(name: str, text: str, samples: Iterable[tuple[Labels, Histogram]]) -> Iterable[str]:
    """HELP, TYPE and the lines of each histogram."""
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} histogram"
    for labels, histogram in samples:
        yield from histogram.lines(name, labels)


def add_counts(left: Sequence[int], right: Sequence[int]) -> list[int]:
    """Bucket by bucket."""
    return [a + b for a, b in zip(left, right, strict=True)]


class CustomSeries(msgspec.Struct, array_like=True):
    """One series of the model's own metrics."""

    kind: str
    name: str
    labels: Labels
    value: float
    """A timer's sum in nanoseconds."""
    counts: list[int]
    """A timer's buckets; empty for the others."""
    at_ns: int
    """When a gauge was set (``perf_counter_ns``)."""
    bare: str = ""
    """The name before a suffix was added to it."""


def summary_family(name: str, text: str, samples: Iterable[tuple[Labels, Histogram]]) -> Iterable[str]:
    """HELP, TYPE, sum and count of each histogram."""
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} summary"
    for labels, histogram in samples:
        yield from histogram.sum_and_count(name, labels)


class CustomMetrics:
    """What the model's own ``metrics`` reports: dicts with ``type``, ``key``, ``value`` and maybe ``tags``.

    The rules are Seldon's: a COUNTER is added to, a GAUGE set, a TIMER (milliseconds) observed. Names and label
    sets beyond the bounds, and malformed entries, are counted in ``refused``. So are entries with a tag named as a
    label of ``const``; with ``overrides`` only that tag is left out.
    """

    def __init__(self, const: Labels, *, overrides: bool = False) -> None:
        self._const = const
        self._overridden = {name for name, _ in const} if overrides else set[str]()
        self._bare: dict[str, str] = {}
        self._series: dict[tuple[str, str], dict[Labels, Any]] = {}
        self.refused = 0

    def record(self, entries: Any) -> None:
        """Take in what one call of ``metrics`` returned."""
        if entries is None:
            return
        if not isinstance(entries, list | tuple):
            self.refused += 1
            return
        for entry in entries:
            try:
                taken = self._record(entry)
            except Exception:  # objects of the user's that raise when they are looked at
                taken = False
            if not taken:
                self.refused += 1

    def _record(self, entry: Any) -> bool:
        if not isinstance(entry, Mapping):
            return False
        kind, key, value, tags = entry.get("type"), entry.get("key"), entry.get("value"), entry.get("tags") or {}
        number = float(value)  # type: ignore[arg-type]
        if kind not in ("COUNTER", "GAUGE", "TIMER") or not isinstance(key, str) or not isinstance(tags, Mapping):
            return False
        if number != number or len(tags) > MAX_LABELS or (kind != "GAUGE" and not 0 <= number < math.inf):
            return False
        name = re.sub(r"[^a-zA-Z0-9_]", "_", key[:120])
        if not name or name[0].isdigit() or name.startswith(OURS):
            name = f"model_{name}"
        bare, suffix = name, {"COUNTER": "_total", "TIMER": "_seconds"}.get(str(kind), "")
        name = name if name.endswith(suffix) else name + suffix
        if any(of != kind and shared_samples(kind, name, of, known) for of, known in self._series):
            return False
        found = sorted(
            (re.sub(r"[^a-zA-Z0-9_]", "_", f"{t}")[:60] or "_", well_formed(f"{v}"[:120])) for t, v in tags.items()
        )
        labels = (*self._const, *(label for label in found if label[0] not in self._overridden))
        if len({label for label, _ in labels}) != len(labels) or any(_RESERVED_LABEL(label) for label, _ in labels):
            return False
        self._bare.setdefault(name, bare)
        return self._store(str(kind), name, labels, number)

    def _store(self, kind: str, name: str, labels: Labels, number: float) -> bool:
        series = self._series.get((kind, name))
        if series is None:
            if len(self._series) >= MAX_CUSTOM_NAMES:
                return False
            series = self._series[kind, name] = {}
        if labels not in series and len(series) >= MAX_CUSTOM_SERIES:
            return False
        if kind == "COUNTER":
            series[labels] = series.get(labels, 0.0) + number
        elif kind == "GAUGE":
            series[labels] = number, perf_counter_ns()
        else:
            series.setdefault(labels, Histogram.of_durations()).observe(number * 1e6)
        return True

    def series(self) -> Iterable[CustomSeries]:
        """All of them as they are now."""
        for (kind, name), found in self._series.items():
            for labels, value in found.items():
                if kind == "TIMER":
                    yield CustomSeries(kind, name, labels, value.total, list(value.counts), 0, self._bare[name])
                elif kind == "GAUGE":
                    yield CustomSeries(kind, name, labels, value[0], [], value[1])
                else:
                    yield CustomSeries(kind, name, labels, value, [], 0)

    def lines(self) -> Iterable[str]:
        """All of them as text."""
        return custom_lines(self.series())


def shared_samples(kind: str, name: str, other_kind: str, other: str) -> bool:
    """Whether two metrics would write samples of one name: a timer has ``_bucket``, ``_sum`` and ``_count`` too."""
    parts = ("", "_bucket", "_sum", "_count")
    own = {name + part for part in (parts if kind == "TIMER" else ("",))}
    return not own.isdisjoint({other + part for part in (parts if other_kind == "TIMER" else ("",))})


def custom_lines(found: Iterable[CustomSeries], *, bare_timers: bool = False) -> Iterable[str]:
    """The families of the model's own metrics; with ``bare_timers`` timers also without their suffix."""
    families: dict[tuple[str, str], list[CustomSeries]] = {}
    for one in found:
        families.setdefault((one.kind, one.name), []).append(one)
    for (kind, name), series in families.items():
        text = f"Reported by the model ({kind})."
        if kind == "TIMER":
            timers = [(s.labels, Histogram.of_durations().add(s.counts, s.value)) for s in series]
            yield from histogram_family(name, text, timers)
            if bare_timers and not any(shared_samples(kind, series[0].bare, of, known) for of, known in families):
                yield from histogram_family(series[0].bare, text, timers)
        else:
            yield from family(name, kind.lower(), text, ((s.labels, s.value) for s in series))


def _label_text(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    if value == float("-inf"):
        return "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
