"""A chart as one HTML file: inline SVG in the frame of ``chart_page``.

Names of groups come from whoever sent the requests (a path, a token's name): every text is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from headway.cli.axes import Tick
from headway.cli.chart import Chart, Curve, stretches
from headway.cli.chart_page import PICTURE, Scale, embedded, page

WIDTH: Final = 1000.0
LEFT, RIGHT, TOP = 64.0, 30.0, 26.0
LATENCY_HEIGHT, RATE_HEIGHT, BETWEEN, BELOW = 300.0, 110.0, 44.0, 28.0
RATE_TOP: Final = TOP + LATENCY_HEIGHT + BETWEEN
BOTTOM: Final = RATE_TOP + RATE_HEIGHT
HEIGHT: Final = BOTTOM + BELOW


def render(chart: Chart) -> str:
    """The whole file."""
    size, unit = chart.unit()
    latency_ticks, rate_ticks = chart.latency_ticks(), chart.rate_ticks()
    x = _scale(chart.since_s, chart.until_s, LEFT, WIDTH - RIGHT)
    high = _scale(0.0, latency_ticks[-1].at * size, TOP + LATENCY_HEIGHT, TOP)
    low = _scale(0.0, rate_ticks[-1].at, BOTTOM, RATE_TOP)
    errors = chart.drawn_errors()
    drawn = [
        *_clock(chart.clock_ticks(), x),
        *_values(latency_ticks, lambda value: high(value * size), f"latency, {unit}", TOP),
        *_values(rate_ticks, low, "requests/s", RATE_TOP),
        *(_steps(curve, chart, x, low, filled=len(chart.rates) == 1) for curve in chart.rates),
        *([_steps(errors, chart, x, low, filled=True, kind="errors")] if errors is not None else []),
        *(_line(curve, chart, x, high) for curve in chart.latency),
        f'<line id="here" class="here" y1="{TOP:g}" y2="{BOTTOM:g}" visibility="hidden"/>',
    ]
    facts = "".join(f"<p>{escape(fact)}</p>" for fact in chart.facts)
    title = escape(chart.title)
    body = _BODY.format(
        title=title,
        facts=facts,
        legend="".join(_legend(chart)),
        width=f"{WIDTH:g}",
        height=f"{HEIGHT:g}",
        drawn="\n".join(drawn),
    )
    return page(title=title, style=_STYLE, body=body, data=_data(chart), script=_SCRIPT)


def _scale(low: float, high: float, begin: float, end: float) -> Scale:
    span = high - low
    return lambda value: begin + (value - low) / span * (end - begin) if span else (begin + end) / 2


def _clock(ticks: list[Tick], x: Scale) -> Iterator[str]:
    for tick in ticks:
        at = f"{x(tick.at):.1f}"
        yield f'<line class="grid" x1="{at}" x2="{at}" y1="{TOP:g}" y2="{TOP + LATENCY_HEIGHT:g}"/>'
        yield f'<line class="grid" x1="{at}" x2="{at}" y1="{RATE_TOP:g}" y2="{BOTTOM:g}"/>'
        yield f'<text class="tick" x="{at}" y="{BOTTOM + 18:g}" text-anchor="middle">{escape(tick.text)}</text>'


def _values(ticks: list[Tick], y: Scale, name: str, top: float) -> Iterator[str]:
    for tick in ticks:
        at = y(tick.at)
        kind = "axis" if tick.at == 0 else "grid"
        yield f'<line class="{kind}" x1="{LEFT:g}" x2="{WIDTH - RIGHT:g}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 8:g}" y="{at + 4:.1f}" text-anchor="end">{escape(tick.text)}</text>'
    yield f'<text class="name" x="{LEFT:g}" y="{top - 10:g}">{escape(name)}</text>'


def _line(curve: Curve, chart: Chart, x: Scale, y: Scale) -> str:
    """Values stand in the middle of their windows; one without neighbours is as wide as its window."""
    path = []
    for stretch in stretches(curve.values):
        if len(stretch) == 1:
            begin, end = chart.windows[stretch[0]]
            path.append(f"M{x(begin):.1f} {y(curve.values[stretch[0]] or 0.0):.1f}H{x(end):.1f}")
        else:
            places = ((sum(chart.windows[at]) / 2, curve.values[at] or 0.0) for at in stretch)
            path.append("M" + "L".join(f"{x(at):.1f} {y(value):.1f}" for at, value in places))
    kind = "curve dashed" if curve.dashed else "curve"
    return f'<path class="{kind} c{curve.colour}" d="{"".join(path)}"/>'


def _steps(curve: Curve, chart: Chart, x: Scale, y: Scale, *, filled: bool, kind: str = "") -> str:
    """A rate holds for the whole of its window, so it is drawn as steps."""
    floor = f"{y(0.0):.1f}"
    path = []
    for stretch in stretches(curve.values):
        begin = f"{x(chart.windows[stretch[0]][0]):.1f}"
        steps = "".join(f"V{y(curve.values[at] or 0.0):.1f}H{x(chart.windows[at][1]):.1f}" for at in stretch)
        path.append(f"M{begin} {floor}{steps}V{floor}{'Z' if filled else ''}")
    colour = kind or f"c{curve.colour}"
    return f'<path class="{"area" if filled else "steps"} {colour}" d="{"".join(path)}"/>'


def _legend(chart: Chart) -> Iterator[str]:
    for curve in chart.legend():
        kind = "block errors" if curve is chart.errors else f"c{curve.colour}"
        yield f'<span><i class="{kind}"></i>{escape(curve.legend)}</span>'


def _data(chart: Chart) -> str:
    """What the pointer shows."""

    def series(curve: Curve, factor: float = 1.0) -> dict[str, object]:
        values = [None if value is None else float(f"{value / factor:.4g}") for value in curve.values]
        return {"label": curve.label, "values": values}

    size, unit = chart.unit()
    told = {
        "unit": unit,
        "plot": [LEFT, WIDTH - RIGHT, WIDTH],
        "span": [chart.since_s, chart.until_s],
        "windows": [[round(begin, 3), round(end, 3)] for begin, end in chart.windows],
        "latency": [series(curve, size) for curve in chart.latency],
        "rates": [series(curve) for curve in chart.rates],
        "errors": None if chart.errors is None else series(chart.errors),
    }
    return embedded(told)


_STYLE: Final = """
h1{font-size:19px;margin:0 0 4px}
p{color:var(--soft)}
.legend{margin:14px 0 6px}
.curve.dashed{stroke-width:1.3}
.steps{fill:none;stroke:var(--c);stroke-width:1.5}
.area.errors{fill-opacity:.85;stroke:none}
"""

_SCRIPT: Final = """
const clock = at => new Date(at * 1000).toISOString().replace("T", " ").replace(/(\\.000)?Z$/, "");
follow(data.windows, data.span, 30, (at, begin, end) => {
  for (const one of data.latency) row(one.label, show(one.values[at], data.unit));
  for (const one of data.rates) row(one.label, show(one.values[at], "/s"));
  if (data.errors) row(data.errors.label, show(data.errors.values[at], "/s"));
  return clock(begin) + " \\u2013 " + clock(end).slice(11) + " UTC";
});
"""

_BODY: Final = (
    """<h1>{title}</h1>
{facts}
"""
    + PICTURE
)
