"""What pages with a chart have in common: frame, colours, the look of axes and curves, values under the pointer.

Such a page loads nothing, so it can be mailed and opened years later. Whoever draws one escapes every text; the script
puts text into the page as text only.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Final

Scale = Callable[[float], float]
"""From a value to its place on the page."""

LIGHT: Final = ("#6aa9e9", "#1f66b5", "#d97706", "#a3308f", "#0f8a6d", "#7a5af0", "#8a6d3b", "#4b5563")
DARK: Final = ("#8cc2f7", "#4a94e8", "#f5a742", "#e07ad0", "#3cc7a2", "#a594fb", "#cdb17c", "#aab4c0")

PICTURE: Final = """<div class="legend">{legend}</div>
<div class="wide">
<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">
{drawn}
</svg>
</div>
<div id="tip"></div>"""
"""Part of a page's body, to be formatted: the picture with its legend, and where values under the pointer are told."""


def page(*, title: str, style: str, body: str, data: str, script: str) -> str:
    """The whole file. ``title`` and ``body`` are HTML; ``style`` and ``script`` come after what all pages share."""
    return _PAGE.format(title=title, style=_style(style), body=body, data=data, script=_SCRIPT + script)


def embedded(told: Mapping[str, object]) -> str:
    """What the script reads as ``data``, as JSON that is safe within ``<script>``. It must have a ``plot``."""
    return json.dumps(told, separators=(",", ":")).replace("<", "\\u003c")


def _style(own: str) -> str:
    def colours(values: tuple[str, ...]) -> str:
        return "".join(f"--c{place}:{value};" for place, value in enumerate(values))

    classes = "".join(f".c{place}{{--c:var(--c{place})}}" for place in range(len(LIGHT)))
    shared = _STYLE.replace("/*light*/", colours(LIGHT)).replace("/*dark*/", colours(DARK))
    return shared + own.lstrip("\n") + classes


_STYLE: Final = """
:root{color-scheme:light dark;--page:#fff;--ink:#1c2430;--soft:#5b6675;--grid:#e6e9ee;--axis:#9aa4b2;--card:#fffffff2;
--edge:#d4d9e0;--errors:#d3222f;/*light*/}
@media(prefers-color-scheme:dark){:root{--page:#14181f;--ink:#e8ecf2;--soft:#9ba6b5;--grid:#262d38;--axis:#5b6675;
--card:#1d232df2;--edge:#3a4350;--errors:#ff6b6b;/*dark*/}}
body{margin:0;padding:24px;background:var(--page);color:var(--ink);font:14px/1.45 system-ui,-apple-system,"Segoe UI",
Roboto,"DejaVu Sans",sans-serif}
main{max-width:1100px;margin:0 auto;position:relative}
h1{font-weight:600}
p{margin:0}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px}
.legend span{display:inline-flex;align-items:center;gap:7px}
.legend i{width:20px;border-top:3px solid var(--c)}
.legend i.block{height:10px;width:12px;border:0;background:var(--c)}
.wide{overflow-x:auto}
svg{display:block;width:100%;min-width:660px;height:auto}
text{font-size:12px;fill:var(--soft);font-variant-numeric:tabular-nums}
.name{font-weight:600;fill:var(--ink)}
.grid{stroke:var(--grid)}.axis{stroke:var(--axis)}.here{stroke:var(--axis);stroke-dasharray:3 3}
.curve{fill:none;stroke:var(--c);stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
.curve.dashed{stroke-dasharray:5 4}
.area{fill:var(--c);fill-opacity:.3;stroke:var(--c);stroke-width:1}
.errors{--c:var(--errors)}
#tip{position:absolute;top:0;left:0;pointer-events:none;background:var(--card);border:1px solid var(--edge);
border-radius:6px;padding:8px 10px;font-size:12.5px;white-space:nowrap;visibility:hidden;box-shadow:0 2px 10px #0002}
#tip b{display:block;margin-bottom:3px;font-weight:600}
#tip div{display:flex;justify-content:space-between;gap:18px;font-variant-numeric:tabular-nums}
#tip div span:first-child{color:var(--soft)}
"""

# ``follow``: what lies under the pointer among ``spans``, which divide the axis from ``since`` to ``until``. ``tell``
# adds the rows of the span at a place and answers with their heading; they are shown ``below`` pixels under the top.
_SCRIPT: Final = """
const data = JSON.parse(document.getElementById("data").textContent);
const svg = document.querySelector("svg"), here = document.getElementById("here"), tip = document.getElementById("tip");
const [left, right, width] = data.plot;
const show = (value, unit) => value === null ? "\\u2013" : value.toLocaleString("en") + (unit ? " " + unit : "");
function row(name, text) {
  const line = document.createElement("div");
  for (const part of [name, text]) line.appendChild(document.createElement("span")).textContent = part;
  tip.appendChild(line);
}
function nearest(spans, at) {
  let low = 0, high = spans.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (spans[middle][1] <= at) low = middle + 1; else high = middle;
  }
  return low;
}
function leave() { here.setAttribute("visibility", "hidden"); tip.style.visibility = "hidden"; }
function follow(spans, [since, until], below, tell) {
  svg.addEventListener("pointerleave", leave);
  svg.addEventListener("pointermove", event => {
    const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * width;
    if (!spans.length || x < left || x > right) return leave();
    const at = nearest(spans, since + (x - left) / (right - left) * (until - since)), [begin, end] = spans[at];
    const place = left + ((begin + end) / 2 - since) / (until - since) * (right - left);
    here.setAttribute("x1", place); here.setAttribute("x2", place); here.setAttribute("visibility", "visible");
    tip.replaceChildren();
    const head = tip.appendChild(document.createElement("b"));
    head.textContent = tell(at, begin, end);
    const main = document.querySelector("main").getBoundingClientRect();
    const wish = box.left - main.left + place / width * box.width + 14;
    const turned = wish + tip.offsetWidth > main.width;
    tip.style.left = (turned ? Math.max(0, wish - tip.offsetWidth - 28) : wish) + "px";
    tip.style.top = box.top - main.top + below + "px";
    tip.style.visibility = "visible";
  });
}
"""

_PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""
