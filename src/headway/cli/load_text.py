"""A load test in words: a line per interval while it runs, and what it came to. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from rich.cells import cell_len

from headway.cli.axes import figure, time_unit
from headway.cli.load_chart import clock
from headway.cli.output import GAP, size
from headway.control.load_verdict import measured_text
from headway.domain.load_reports import Ending, LoadPhase, LoadPoint, LoadReport, Outcome
from headway.domain.load_samples import Figures
from headway.domain.load_shapes import Loop

ENDINGS = {
    Ending.FINISHED: "finished",
    Ending.INTERRUPTED: "interrupted",
    Ending.BREACH: "stopped: a promise was broken",
    Ending.FAILED: "the generator failed",
}
OUTCOMES = {
    Outcome.KEPT: "promise kept",
    Outcome.BROKEN: "promise broken",
    Outcome.REFUSED: "no verdict",
    Outcome.NONE: "nothing promised",
}


def latency(seconds: float | None) -> str:
    """``12.3 ms``; a dash when there is none."""
    if seconds is None:
        return "-"
    unit, name = time_unit(seconds * 1e9)
    return f"{figure(seconds * 1e9 / unit)} {name}"


def line(point: LoadPoint) -> str:
    """How it stands, as one line."""
    return "  ".join([f"{clock(point.end_s):>6}", *_parts(point)])


def block(point: LoadPoint, duration_s: float, width: int) -> str:
    """The same for a terminal of so many columns, on as many lines as it takes: nothing is cut off."""
    head = f"{clock(point.end_s):>6} of {clock(duration_s)}"
    lines = [head]
    for part in _parts(point):
        if len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += f"  {part}"
        else:
            lines.append(" " * min(len(head), max(0, width - len(part) - 2)) + f"  {part}")
    return "\n".join(lines)


def _parts(point: LoadPoint) -> list[str]:
    figures = point.figures
    return [
        *([f"users {point.users}"] if point.users is not None else []),
        *([f"offered {figure(point.offered_per_s)}/s"] if point.offered_per_s is not None else []),
        f"answered {figure(point.answered_per_s)}/s",
        f"p50 {latency(figures.p50_s)}",
        f"p95 {latency(figures.p95_s)}",
        f"errors {figures.errors}",
        *([f"in flight {point.in_flight}"] if point.in_flight is not None else []),
        *([f"replicas {replicas(point)}"] if point.replicas is not None else []),
        *([f"cpu {point.cpu_cores:.2f}"] if point.cpu_cores is not None else []),
        *([f"memory {size(point.memory_bytes)}"] if point.memory_bytes is not None else []),
    ]


def replicas(point: LoadPoint) -> str:
    """``2``, or ``2/3`` while not all wished ones are ready."""
    return str(point.replicas) if point.wished in (None, point.replicas) else f"{point.replicas}/{point.wished}"


_COLUMNS: Final = ("phase", "from", "load", "requests", "errors", "answered/s", "p50", "p75", "p95", "p99")
PHASES: Final[tuple[str, ...]] = (*_COLUMNS, "replicas", "cpu")
_LEFT_OUT: Final = ("p75", "from", "cpu", "replicas", "answered/s", "p50")


def fitting(report: LoadReport, width: int | None) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of the phases for a terminal of so many columns: those asked for least are left out, if need be.

    None: all of them.
    """
    columns, found = PHASES, rows(report)
    for name in _LEFT_OUT:
        if width is None or _width([columns, *found]) <= width:
            break
        place = columns.index(name)
        columns, *found = [(*cells[:place], *cells[place + 1 :]) for cells in [columns, *found]]
    return columns, found


def _width(lines: Sequence[tuple[str, ...]]) -> int:
    return sum(max(map(cell_len, column)) + GAP for column in zip(*lines, strict=True)) - GAP


def rows(report: LoadReport) -> list[tuple[str, ...]]:
    """Of each phase, and of the whole when there are several, the cells under :data:`PHASES`."""
    found = [_row(phase, report.shape.loop) for phase in report.phases]
    if len(found) != 1:
        found.append(("all", "0:00", "", *_cells(report.total, report.total.per_s), "", ""))
    return found


def summary(report: LoadReport) -> Iterator[str]:
    """What it came to, below the table of phases."""
    yield f"{ENDINGS[report.ending]} after {clock(report.duration_s)}, {_requests(report.total.count)}"
    refused = report.verdict.outcome is Outcome.REFUSED
    # The first tells how to read any such report; why there is no verdict comes below.
    yield from (note for note in report.notes[1:] if not (refused and note in report.verdict.reasons))
    for why, count in sorted(report.faults.items(), key=lambda item: -item[1])[:5]:
        yield f"  {count:,} x {why}"
    for one in report.verdict.promises:
        kept = "not known" if one.kept is None else "not judged" if refused else "kept" if one.kept else "broken"
        since = ""
        if one.broken_at_s is not None and one.broken_at_load is not None:
            closed = report.shape.loop is Loop.CLOSED
            at = f"{one.broken_at_load:.0f} users" if closed else f"{figure(one.broken_at_load)} requests/s"
            since = f"; first broken at {clock(one.broken_at_s)}, at {at}"
        yield f"{one.promise}: {kept}, measured {measured_text(one)}{since}"
    if refused:
        yield "no verdict, for these figures say nothing of the model:"
    if refused or report.health.saturated:
        yield from (f"  {reason}" for reason in report.verdict.reasons)


def _requests(count: int) -> str:
    return f"{count:,} request" if count == 1 else f"{count:,} requests"


def load_text(begin: float, end: float, loop: Loop) -> str:
    """``20 users``, ``50 → 400/s``."""
    texts = [f"{load:.0f}" if loop is Loop.CLOSED else figure(load) for load in (begin, end)]
    what = "/s" if loop is Loop.OPEN else " user" if texts == ["1", "1"] else " users"
    return f"{texts[0]}{what}" if texts[0] == texts[1] else f"{' → '.join(texts)}{what}"


def _row(phase: LoadPhase, loop: Loop) -> tuple[str, ...]:
    least, most = phase.replicas_least, phase.replicas_most
    counts = "-" if least is None else str(least) if least == most else f"{least}-{most}"
    cpu = "-" if phase.cpu_cores is None else f"{phase.cpu_cores:.2f}"
    loaded = load_text(phase.load_begin, phase.load_end, loop)
    return (phase.name, clock(phase.begin_s), loaded, *_cells(phase.figures, phase.answered_per_s), counts, cpu)


def _cells(figures: Figures, answered_per_s: float) -> tuple[str, ...]:
    quantiles = (figures.p50_s, figures.p75_s, figures.p95_s, figures.p99_s)
    return (f"{figures.count:,}", f"{figures.errors:,}", figure(answered_per_s), *map(latency, quantiles))
