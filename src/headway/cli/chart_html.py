"""A chart as one HTML file: inline SVG, its own style for light and dark, a few lines of script for the pointer.

It loads nothing, so it can be mailed and opened years later. Names of groups come from whoever sent the requests
(a path, a token's name): every text is escaped, and the script puts text into the page as text only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from html import escape
from typing import Final

from headway.cli.axes import Tick
from headway.cli.chart import Chart, Curve, stretches

WIDTH: Final = 1000.0
LEFT, RIGHT, TOP = 64.0, 30.0, 26.0
LATENCY_HEIGHT, RATE_HEIGHT, BETWEEN, BELOW = 300.0, 110.0, 44.0, 28.0
RATE_TOP: Final = TOP + LATENCY_HEIGHT + BETWEEN
BOTTOM: Final = RATE_TOP + RATE_HEIGHT
HEIGHT: Final = BOTTOM + BELOW
LIGHT: Final = ("#6aa9e9", "#1f66b5", "#d97706", "#a3308f", "#0f8a6d", "#7a5af0", "#8a6d3b", "#4b5563")
DARK: Final = ("#8cc2f7", "#4a94e8", "#f5a742", "#e07ad0", "#3cc7a2", "#a594fb", "#cdb17c", "#aab4c0")

Scale = Callable[[float], float]


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
    return _PAGE.format(
        title=escape(chart.title),
        style=_style(),
        facts=facts,
        legend="".join(_legend(chart)),
        width=f"{WIDTH:g}",
        height=f"{HEIGHT:g}",
        drawn="\n".join(drawn),
        data=_data(chart),
        script=_SCRIPT,
    )


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


def _style() -> str:
    def colours(values: tuple[str, ...]) -> str:
        return "".join(f"--c{place}:{value};" for place, value in enumerate(values))

    classes = "".join(f".c{place}{{--c:var(--c{place})}}" for place in range(len(LIGHT)))
    return _STYLE.replace("/*light*/", colours(LIGHT)).replace("/*dark*/", colours(DARK)) + classes


def _data(chart: Chart) -> str:
    """What the pointer shows, as JSON that is safe within ``<script>``."""

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
    return json.dumps(told, separators=(",", ":")).replace("<", "\\u003c")


_STYLE = """
:root{color-scheme:light dark;--page:#fff;--ink:#1c2430;--soft:#5b6675;--grid:#e6e9ee;--axis:#9aa4b2;--card:#fffffff2;
--edge:#d4d9e0;--errors:#d3222f;/*light*/}
@media(prefers-color-scheme:dark){:root{--page:#14181f;--ink:#e8ecf2;--soft:#9ba6b5;--grid:#262d38;--axis:#5b6675;
--card:#1d232df2;--edge:#3a4350;--errors:#ff6b6b;/*dark*/}}
body{margin:0;padding:24px;background:var(--page);color:var(--ink);font:14px/1.45 system-ui,-apple-system,"Segoe UI",
Roboto,"DejaVu Sans",sans-serif}
main{max-width:1100px;margin:0 auto;position:relative}
h1{font-size:19px;font-weight:600;margin:0 0 4px}
p{margin:0;color:var(--soft)}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:14px 0 6px}
.legend span{display:inline-flex;align-items:center;gap:7px}
.legend i{width:20px;border-top:3px solid var(--c)}
.legend i.block{height:10px;width:12px;border:0;background:var(--c)}
.plot{overflow-x:auto}
svg{display:block;width:100%;min-width:660px;height:auto}
text{font-size:12px;fill:var(--soft);font-variant-numeric:tabular-nums}
.name{font-weight:600;fill:var(--ink)}
.grid{stroke:var(--grid)}.axis{stroke:var(--axis)}.here{stroke:var(--axis);stroke-dasharray:3 3}
.curve{fill:none;stroke:var(--c);stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
.curve.dashed{stroke-width:1.3;stroke-dasharray:5 4}
.steps{fill:none;stroke:var(--c);stroke-width:1.5}
.area{fill:var(--c);fill-opacity:.3;stroke:var(--c);stroke-width:1}
.errors{--c:var(--errors)}.area.errors{fill-opacity:.85;stroke:none}
#tip{position:absolute;top:0;left:0;pointer-events:none;background:var(--card);border:1px solid var(--edge);
border-radius:6px;padding:8px 10px;font-size:12.5px;white-space:nowrap;visibility:hidden;box-shadow:0 2px 10px #0002}
#tip b{display:block;margin-bottom:3px;font-weight:600}
#tip div{display:flex;justify-content:space-between;gap:18px;font-variant-numeric:tabular-nums}
#tip div span:first-child{color:var(--soft)}
"""

_SCRIPT = """
const data = JSON.parse(document.getElementById("data").textContent);
const svg = document.querySelector("svg"), here = document.getElementById("here"), tip = document.getElementById("tip");
const [left, right, width] = data.plot, [since, until] = data.span;
const clock = at => new Date(at * 1000).toISOString().replace("T", " ").replace(/(\\.000)?Z$/, "");
const show = (value, unit) => value === null ? "\\u2013" : value.toLocaleString("en") + (unit ? " " + unit : "");
function row(name, text) {
  const line = document.createElement("div");
  for (const part of [name, text]) line.appendChild(document.createElement("span")).textContent = part;
  tip.appendChild(line);
}
function nearest(at) {
  let low = 0, high = data.windows.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (data.windows[middle][1] <= at) low = middle + 1; else high = middle;
  }
  return low;
}
function leave() { here.setAttribute("visibility", "hidden"); tip.style.visibility = "hidden"; }
svg.addEventListener("pointerleave", leave);
svg.addEventListener("pointermove", event => {
  const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * width;
  if (!data.windows.length || x < left || x > right) return leave();
  const at = nearest(since + (x - left) / (right - left) * (until - since)), [begin, end] = data.windows[at];
  const place = left + ((begin + end) / 2 - since) / (until - since) * (right - left);
  here.setAttribute("x1", place); here.setAttribute("x2", place); here.setAttribute("visibility", "visible");
  tip.replaceChildren();
  tip.appendChild(document.createElement("b")).textContent = clock(begin) + " \\u2013 " + clock(end).slice(11) + " UTC";
  for (const one of data.latency) row(one.label, show(one.values[at], data.unit));
  for (const one of data.rates) row(one.label, show(one.values[at], "/s"));
  if (data.errors) row(data.errors.label, show(data.errors.values[at], "/s"));
  const main = document.querySelector("main").getBoundingClientRect();
  const wish = box.left - main.left + place / width * box.width + 14;
  const turned = wish + tip.offsetWidth > main.width;
  tip.style.left = (turned ? Math.max(0, wish - tip.offsetWidth - 28) : wish) + "px";
  tip.style.top = box.top - main.top + 30 + "px";
  tip.style.visibility = "visible";
});
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{facts}
<div class="legend">{legend}</div>
<div class="plot">
<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">
{drawn}
</svg>
</div>
<div id="tip"></div>
</main>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""
