"""Panels over one axis of time as SVG, and what the pointer shows of them: of a load test or a simulation.

Names come from whoever wrote the files: every text is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from headway.cli.chart import stretches
from headway.cli.chart_page import Scale, embedded
from headway.cli.load_chart import Curve, LoadChart, Panel, clock

WIDTH: Final = 1000.0
LEFT, RIGHT, TOP, BETWEEN, BELOW = 64.0, 24.0, 58.0, 38.0, 34.0
FIRST_HEIGHT, HEIGHT = 230.0, 96.0
ERRORS: Final = -1


def drawn(chart: LoadChart) -> tuple[str, float]:
    """What stands within ``<svg>``, and how high that is."""
    tops = _tops(chart)
    bottom = tops[-1][1] if tops else TOP
    x: Scale = lambda at_s: LEFT + at_s / chart.until_s * (WIDTH - LEFT - RIGHT)  # noqa: E731
    parts = [
        *_time(chart, x, tops, bottom),
        *_marks(chart, x, bottom),
        *(part for panel, place in zip(chart.panels, tops, strict=True) for part in _panel(panel, chart, x, place)),
        f'<line id="here" class="here" y1="{TOP:g}" y2="{bottom:g}" visibility="hidden"/>',
    ]
    return "\n".join(parts), bottom + BELOW


def _tops(chart: LoadChart) -> list[tuple[float, float]]:
    """Top and bottom of each panel."""
    found, top = [], TOP
    for place, _ in enumerate(chart.panels):
        height = HEIGHT if place else FIRST_HEIGHT
        found.append((top, top + height))
        top += height + BETWEEN
    return found


def _time(chart: LoadChart, x: Scale, tops: list[tuple[float, float]], bottom: float) -> Iterator[str]:
    for tick in chart.time_ticks:
        at = f"{x(tick.at):.1f}"
        for top, end in tops:
            yield f'<line class="grid" x1="{at}" x2="{at}" y1="{top:g}" y2="{end:g}"/>'
        yield f'<text class="tick" x="{at}" y="{bottom + 24:g}" text-anchor="middle">{escape(tick.text)}</text>'


def _panel(panel: Panel, chart: LoadChart, x: Scale, place: tuple[float, float]) -> Iterator[str]:
    top, bottom = place
    y: Scale = lambda value: bottom - value / panel.top * (bottom - top)  # noqa: E731
    for tick in panel.ticks:
        at, text = y(tick.at), escape(tick.text)
        kind = "axis" if tick.at == 0 else "grid"
        yield f'<line class="{kind}" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 8:g}" y="{at + 4:.1f}" text-anchor="end">{text}</text>'
    name = f"{panel.title}, {panel.unit}" if panel.unit else panel.title
    yield f'<text class="name" x="{LEFT:g}" y="{top - 9:g}">{escape(name)}</text>'
    if panel.bound is not None:
        at = y(panel.bound)
        yield f'<line class="bound" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{at:.1f}" y2="{at:.1f}"/>'
    for curve in panel.curves:
        yield _curve(curve, chart, x, y)


def _curve(curve: Curve, chart: LoadChart, x: Scale, y: Scale) -> str:
    """Lines go through the middles of intervals, steps hold for the whole of each; a gap is where nothing is known."""
    path: list[str] = []
    area = curve.kind == "area"
    stepped = curve.kind in ("steps", "area", "dashed")
    for stretch in stretches(curve.values):
        first, last = chart.spans[stretch[0]], chart.spans[stretch[-1]]
        if not stepped and len(stretch) > 1:
            places = ((sum(chart.spans[at]) / 2, curve.values[at] or 0.0) for at in stretch)
            path.append("M" + "L".join(f"{x(at):.1f} {y(value):.1f}" for at, value in places))
            continue
        begin = f"M{x(first[0]):.1f} {y(0.0 if area else curve.values[stretch[0]] or 0.0):.1f}"
        steps = "".join(f"V{y(curve.values[at] or 0.0):.1f}H{x(chart.spans[at][1]):.1f}" for at in stretch)
        path.append(begin + steps + (f"V{y(0.0):.1f}H{x(first[0]):.1f}Z" if area and last else ""))
    kind = {"area": "area", "dashed": "curve dashed"}.get(curve.kind, "curve")
    return f'<path class="{kind} {_class(curve)}" d="{"".join(path)}"/>'


def _marks(chart: LoadChart, x: Scale, bottom: float) -> Iterator[str]:
    for number, phase in enumerate(chart.phases):
        at = x(phase.at_s)
        yield f'<line class="phase" x1="{at:.1f}" x2="{at:.1f}" y1="14" y2="{bottom:g}"/>'
        until = x(chart.phases[number + 1].at_s) if number + 1 < len(chart.phases) else WIDTH - RIGHT
        fits = max(0, int((until - at - 8) / 6.6))
        name = phase.text if len(phase.text) <= fits else phase.text[: max(0, fits - 1)] + "…" if fits > 1 else ""
        yield f'<text class="phase-name" x="{at + 5:.1f}" y="22">{escape(name)}</text>'
    for decision in chart.decisions:
        at = x(min(decision.at_s, chart.until_s))
        title = f"<title>{escape(clock(decision.at_s))} {escape(decision.text)}</title>"
        yield f'<path class="decision" d="M{at:.1f} {bottom:g}l-5 9h10z">{title}</path>'


def _class(curve: Curve) -> str:
    return "errors" if curve.colour == ERRORS else f"c{curve.colour}"


def legend(chart: LoadChart) -> Iterator[str]:
    """By panel, since a colour means something else in each."""
    for panel in chart.panels:
        parts = "".join(_key(curve) for curve in panel.curves)
        if panel.bound is not None:
            parts += '<span><i class="promised"></i>promised</span>'
        yield f'<span class="keys"><b>{escape(panel.title)}</b>{parts}</span>'
    if chart.decisions:
        yield '<span><b class="triangle">▲</b>scaling changed</span>'


def _key(curve: Curve) -> str:
    block = " block" if curve.kind == "area" else " dash" if curve.kind == "dashed" else ""
    return f'<span><i class="{_class(curve)}{block}"></i>{escape(curve.label)}</span>'


def told(chart: LoadChart) -> str:
    """What the pointer shows."""

    def rounded(value: float | None) -> float | None:
        return None if value is None else float(f"{value:.4g}")

    values = {
        "plot": [LEFT, WIDTH - RIGHT, WIDTH],
        "until": chart.until_s,
        "spans": [[round(begin, 2), round(end, 2)] for begin, end in chart.spans],
        "curves": [
            {"label": curve.label, "unit": panel.unit, "values": [rounded(value) for value in curve.values]}
            for panel in chart.panels
            for curve in panel.curves
        ],
    }
    return embedded(values)
