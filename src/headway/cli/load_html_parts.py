"""Style, script and frame of a load test's page."""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root{color-scheme:light dark;--page:#fff;--ink:#1c2430;--soft:#5b6675;--grid:#e6e9ee;--axis:#9aa4b2;--card:#fffffff2;
--edge:#d4d9e0;--errors:#d3222f;--kept:#0f7a4f;--broken:#c01f2d;--refused:#a05a00;--none:#4b5563;/*light*/}
@media(prefers-color-scheme:dark){:root{--page:#14181f;--ink:#e8ecf2;--soft:#9ba6b5;--grid:#262d38;--axis:#5b6675;
--card:#1d232df2;--edge:#3a4350;--errors:#ff6b6b;--kept:#4cd79a;--broken:#ff7b84;--refused:#f5a742;--none:#aab4c0;
/*dark*/}}
body{margin:0;padding:24px;background:var(--page);color:var(--ink);font:14px/1.5 system-ui,-apple-system,"Segoe UI",
Roboto,"DejaVu Sans",sans-serif}
main{max-width:1100px;margin:0 auto;position:relative}
h1{font-size:20px;font-weight:600;margin:0 0 2px;display:flex;flex-wrap:wrap;align-items:center;gap:4px 12px}
h2{font-size:15px;font-weight:600;margin:22px 0 4px}
p{margin:0}.soft,li{color:var(--soft)}li b{color:var(--ink);font-weight:600}ul{margin:4px 0;padding-left:20px}
.facts{margin:12px 0}
.verdict{font-size:13px;font-weight:600;border:1.5px solid currentColor;border-radius:99px;padding:1px 11px}
.kept{color:var(--kept)}.broken{color:var(--broken)}.refused{color:var(--refused)}.none{color:var(--none)}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}
th,td{text-align:right;padding:4px 10px;white-space:nowrap;border-bottom:1px solid var(--grid)}
th{color:var(--soft);font-weight:500}th:first-child,td:first-child{text-align:left;padding-left:0}
.legend{display:flex;flex-wrap:wrap;gap:4px 18px;margin:16px 0 4px}
.legend span{display:inline-flex;align-items:center;gap:7px}
.legend i{width:20px;border-top:3px solid var(--c)}
.legend i.block{height:10px;width:12px;border:0;background:var(--c);opacity:.6}
.legend i.dash{border-top-style:dashed;border-top-width:2px}
.legend i.promised{border-top:2px dotted var(--errors)}.triangle{font-size:10px;color:var(--ink)}
svg{display:block;width:100%;min-width:660px;height:auto}
text{font-size:12px;fill:var(--soft);font-variant-numeric:tabular-nums}
.name,.phase-name{font-weight:600;fill:var(--ink)}
.grid{stroke:var(--grid)}.axis{stroke:var(--axis)}.here{stroke:var(--axis);stroke-dasharray:3 3}
.phase{stroke:var(--axis);stroke-dasharray:6 4}.bound{stroke:var(--errors);stroke-width:1.5;stroke-dasharray:2 3}
.decision{fill:var(--ink)}
.curve{fill:none;stroke:var(--c);stroke-width:1.8;stroke-linejoin:round;stroke-linecap:round}
.curve.dashed{stroke-width:1.4;stroke-dasharray:5 4}
.area{fill:var(--c);fill-opacity:.3;stroke:var(--c);stroke-width:1}
.errors{--c:var(--errors)}.area.errors{fill-opacity:.75}
#tip{position:absolute;top:0;left:0;pointer-events:none;background:var(--card);border:1px solid var(--edge);
border-radius:6px;padding:8px 10px;font-size:12.5px;white-space:nowrap;visibility:hidden;box-shadow:0 2px 10px #0002}
#tip b{display:block;margin-bottom:3px;font-weight:600}
#tip div{display:flex;justify-content:space-between;gap:18px;font-variant-numeric:tabular-nums}
#tip div span:first-child{color:var(--soft)}
"""

SCRIPT: Final = """
const data = JSON.parse(document.getElementById("data").textContent);
const svg = document.querySelector("svg"), here = document.getElementById("here"), tip = document.getElementById("tip");
const [left, right, width] = data.plot;
function clock(at) {
  const tenths = Math.round(at * 10), whole = Math.floor(tenths / 10), two = n => String(n).padStart(2, "0");
  const minutes = Math.floor(whole / 60), hours = Math.floor(minutes / 60);
  const text = hours ? hours + ":" + two(minutes % 60) + ":" + two(whole % 60) : minutes + ":" + two(whole % 60);
  return tenths % 10 ? text + "." + tenths % 10 : text;
}
const show = (value, unit) => value === null ? "\\u2013" : value.toLocaleString("en") + (unit ? " " + unit : "");
function row(name, text) {
  const line = document.createElement("div");
  for (const part of [name, text]) line.appendChild(document.createElement("span")).textContent = part;
  tip.appendChild(line);
}
function nearest(at) {
  let low = 0, high = data.spans.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (data.spans[middle][1] <= at) low = middle + 1; else high = middle;
  }
  return low;
}
function leave() { here.setAttribute("visibility", "hidden"); tip.style.visibility = "hidden"; }
svg.addEventListener("pointerleave", leave);
svg.addEventListener("pointermove", event => {
  const box = svg.getBoundingClientRect(), x = (event.clientX - box.left) / box.width * width;
  if (!data.spans.length || x < left || x > right) return leave();
  const at = nearest((x - left) / (right - left) * data.until), [begin, end] = data.spans[at];
  const place = left + (begin + end) / 2 / data.until * (right - left);
  here.setAttribute("x1", place); here.setAttribute("x2", place); here.setAttribute("visibility", "visible");
  tip.replaceChildren();
  tip.appendChild(document.createElement("b")).textContent = clock(begin) + " \\u2013 " + clock(end);
  for (const one of data.curves) row(one.label, show(one.values[at], one.unit));
  const main = document.querySelector("main").getBoundingClientRect();
  const wish = box.left - main.left + place / width * box.width + 14;
  const turned = wish + tip.offsetWidth > main.width;
  tip.style.left = (turned ? Math.max(0, wish - tip.offsetWidth - 28) : wish) + "px";
  tip.style.top = box.top - main.top + 50 + "px";
  tip.style.visibility = "visible";
});
"""

PAGE: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>{title} <span class="verdict {outcome}">{verdict}</span></h1>
<p class="soft">{when}</p>
<div class="facts">{facts}</div>
<div class="wide">{phases}</div>
<div class="legend">{legend}</div>
<div class="wide">
<svg viewBox="0 0 {width} {height}" role="img" aria-label="{title}">
{drawn}
</svg>
</div>
<div id="tip"></div>
{decisions}
<h2>How to read it</h2>
<ul>{notes}</ul>
</main>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""
