"""What the page of a load test shows, before it is drawn: panels over one axis of time, phases, decisions. Pure.

A long test has more intervals than a page has pixels. Then each place of the chart stands for several: rates, users and
cores are their means, the median is that of the medians weighted by requests, and of p95 and errors the highest shows,
since a peak must not vanish by drawing it smaller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from headway.cli.axes import Tick, round_step, time_unit, value_ticks
from headway.domain import promises
from headway.domain.load_reports import LoadPoint, LoadReport
from headway.domain.load_shapes import Loop

MOST_PLACES: Final = 600
MOST_STEPS: Final = 6


@dataclass(frozen=True, slots=True)
class Curve:
    """One value per place; None where there is none."""

    label: str
    values: tuple[float | None, ...]
    colour: int
    kind: str = "line"
    """``line``, ``dashed``, ``steps`` or ``area``."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Curves that share an axis of values."""

    title: str
    unit: str
    curves: tuple[Curve, ...]
    ticks: tuple[Tick, ...]
    bound: float | None = None
    """A promise, in the panel's unit."""

    @property
    def top(self) -> float:
        return self.ticks[-1].at


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment worth a word."""

    at_s: float
    text: str


@dataclass(frozen=True, slots=True)
class LoadChart:
    """All of it. Instants in seconds after the begin."""

    until_s: float
    spans: tuple[tuple[float, float], ...]
    panels: tuple[Panel, ...]
    phases: tuple[Mark, ...]
    decisions: tuple[Mark, ...]
    time_ticks: tuple[Tick, ...]
    merged: int
    """Intervals in one place of the chart."""


def chart_of(report: LoadReport) -> LoadChart:
    """How to draw ``report``."""
    groups, merged = _groups(report.points)
    spans = tuple((group[0].begin_s, group[-1].end_s) for group in groups)
    until_s = max(spans[-1][1] if spans else 0.0, 1e-3)
    named = len(report.phases) > 1 or any(stage.name for stage in report.shape.stages)
    return LoadChart(
        until_s=until_s,
        spans=spans,
        panels=tuple(_panels(report, groups)),
        phases=tuple(Mark(phase.begin_s, phase.name) for phase in report.phases) if named else (),
        decisions=tuple(
            Mark(
                max(0.0, mark.at_s),
                f"{mark.version} {mark.current} → {mark.desired}: {mark.summary}" if mark.version else mark.summary,
            )
            for mark in report.decisions
        ),
        time_ticks=tuple(elapsed_ticks(until_s)),
        merged=merged,
    )


def elapsed_ticks(until_s: float, most: int = 8) -> list[Tick]:
    """Round lengths of time from 0 on: ``0:30``, ``1:00``; below ten seconds with a decimal."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 28_800, 86_400)
    step = (
        next((one for one in steps if until_s / one <= most), 86_400.0) if until_s >= 4 else round_step(until_s, most)
    )
    return [Tick(number * step, clock(number * step, step)) for number in range(int(until_s / step + 1e-9) + 1)]


def clock(at_s: float, step_s: float = 1.0) -> str:
    """``1:05``, ``1:02:03``; with ``step_s`` below one ``0.25 s``."""
    if step_s < 1:
        return f"{at_s:g} s"
    whole = round(at_s)
    if whole >= 3600:
        return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{whole // 60}:{whole % 60:02}"


Group = Sequence[LoadPoint]
Of = Callable[[LoadPoint], float | None]


def _groups(points: Sequence[LoadPoint]) -> tuple[list[Group], int]:
    merged = max(1, -(-len(points) // MOST_PLACES))
    return [points[place : place + merged] for place in range(0, len(points), merged)], merged


def _panels(report: LoadReport, groups: list[Group]) -> list[Panel]:
    closed = report.shape.loop is Loop.CLOSED
    found = [_latency(report, groups), _rates(groups, closed)]
    waiting = Curve("in flight", _mean(groups, lambda one: one.in_flight), 6, "steps")
    people = Curve("users", _mean(groups, lambda one: one.users), 5, "steps")
    if closed:
        found.append(counted_panel("users", [people, waiting]))
    else:
        found.append(counted_panel("requests in flight", [waiting]))
    found.append(
        counted_panel(
            "replicas",
            [
                Curve("wished", _mean(groups, lambda one: one.wished), 7, "dashed"),
                Curve("ready", _mean(groups, lambda one: one.replicas), 4, "steps"),
            ],
        )
    )
    found.append(
        panel_of("processor", "cores", [Curve("cores used", _mean(groups, lambda one: one.cpu_cores), 3, "area")])
    )
    told = [replace(one, curves=tuple(curve for curve in one.curves if _says(curve))) for one in found]
    return [one for one in told if one.curves]


def _says(curve: Curve) -> bool:
    return any(value is not None for value in curve.values)


def _latency(report: LoadReport, groups: list[Group]) -> Panel:
    p50 = tuple(_weighted(group) for group in groups)
    p95 = _highest(groups, lambda one: one.figures.p95_s)
    greatest = max((value for value in (*p50, *p95) if value is not None), default=0.0)
    bounds = [
        promise.bound
        for promise in (promises.parse(one.promise) for one in report.verdict.promises)
        if promise.of_latency
    ]
    bound = min(bounds, default=None)
    # A bound far above what was measured would press the curves to the floor.
    shown = bound if bound is not None and bound < 4 * greatest else None
    size, unit = time_unit(max(greatest, shown or 0.0) * 1e9)
    factor = 1e9 / size
    curves = [
        Curve("p95", tuple(None if value is None else value * factor for value in p95), 2),
        Curve("median", tuple(None if value is None else value * factor for value in p50), 1),
    ]
    return panel_of("response time", unit, curves, None if shown is None else shown * factor)


def _rates(groups: list[Group], closed: bool) -> Panel:
    answered = Curve("answered", _mean(groups, lambda one: one.answered_per_s), 1, "steps")
    offered = Curve("offered", _mean(groups, lambda one: one.offered_per_s), 7, "dashed")
    errors = _highest(groups, lambda one: one.figures.errors / max(one.end_s - one.begin_s, 1e-9))
    failing = [Curve("errors", errors, -1, "area")] if any(errors) else []
    return panel_of("requests", "/s", [*([] if closed else [offered]), answered, *failing])


def panel_of(title: str, unit: str, curves: list[Curve], bound: float | None = None) -> Panel:
    """Curves over an axis that is as high as they are, and as their bound."""
    greatest = max((value for curve in curves for value in curve.values if value is not None), default=0.0)
    ticks = value_ticks(max(greatest, bound or 0.0), most=4)
    return Panel(title, unit, tuple(curves), tuple(ticks), bound)


def counted_panel(title: str, curves: list[Curve]) -> Panel:
    """Of whole things, so there are no halves on the axis."""
    panel = panel_of(title, "", curves)
    most = max(1, math.ceil(max((value for curve in curves for value in curve.values if value is not None), default=0)))
    return panel if most > MOST_STEPS else replace(panel, ticks=tuple(Tick(n, str(n)) for n in range(most + 1)))


def _mean(groups: list[Group], of: Of) -> tuple[float | None, ...]:
    found: list[float | None] = []
    for group in groups:
        values = [value for one in group if (value := of(one)) is not None]
        found.append(sum(values) / len(values) if values else None)
    return tuple(found)


def _highest(groups: list[Group], of: Of) -> tuple[float | None, ...]:
    return tuple(max((value for one in group if (value := of(one)) is not None), default=None) for group in groups)


def _weighted(group: Group) -> float | None:
    known = [(one.figures.p50_s, one.figures.count) for one in group if one.figures.p50_s is not None]
    weight = sum(count for _, count in known)
    return sum(value * count for value, count in known) / weight if weight else None
