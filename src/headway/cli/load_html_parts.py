"""What a load test's page has of its own: style, script and body."""

from __future__ import annotations

from typing import Final

from headway.cli.chart_page import PICTURE

STYLE: Final = """
:root{--kept:#0f7a4f;--broken:#c01f2d;--refused:#a05a00;--none:#4b5563}
@media(prefers-color-scheme:dark){:root{--kept:#4cd79a;--broken:#ff7b84;--refused:#f5a742;--none:#aab4c0}}
body{line-height:1.5}
h1{font-size:20px;margin:0 0 2px;display:flex;flex-wrap:wrap;align-items:center;gap:4px 12px}
h2{font-size:15px;font-weight:600;margin:22px 0 4px}
.soft,li{color:var(--soft)}li b{color:var(--ink);font-weight:600}ul{margin:4px 0;padding-left:20px}
.facts{margin:12px 0}
.verdict{font-size:13px;font-weight:600;border:1.5px solid currentColor;border-radius:99px;padding:1px 11px}
.kept{color:var(--kept)}.broken{color:var(--broken)}.refused{color:var(--refused)}.none{color:var(--none)}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}
th,td{text-align:right;padding:4px 10px;white-space:nowrap;border-bottom:1px solid var(--grid)}
th{color:var(--soft);font-weight:500}th:first-child,td:first-child{text-align:left;padding-left:0}
.legend{margin:16px 0 4px}
.legend i.block{opacity:.6}
.legend i.dash{border-top-style:dashed;border-top-width:2px}
.legend i.promised{border-top:2px dotted var(--errors)}.triangle{font-size:10px;color:var(--ink)}
.legend{gap:4px 26px}.legend .keys{flex-wrap:wrap;gap:2px 12px}.legend .keys b{font-weight:600}
.name,.phase-name{paint-order:stroke;stroke:var(--page);stroke-width:5px;stroke-linejoin:round}
.phase-name{font-weight:600;fill:var(--ink)}
svg{min-width:860px}
code{font:inherit;white-space:nowrap}
.phase{stroke:var(--axis);stroke-dasharray:6 4}.bound{stroke:var(--errors);stroke-width:1.5;stroke-dasharray:2 3}
.decision{fill:var(--ink)}
.curve.dashed{stroke-width:1.4}
.area.errors{fill-opacity:.75}
"""

SCRIPT: Final = """
function clock(at) {
  const tenths = Math.round(at * 10), whole = Math.floor(tenths / 10), two = n => String(n).padStart(2, "0");
  const minutes = Math.floor(whole / 60), hours = Math.floor(minutes / 60);
  const text = hours ? hours + ":" + two(minutes % 60) + ":" + two(whole % 60) : minutes + ":" + two(whole % 60);
  return tenths % 10 ? text + "." + tenths % 10 : text;
}
follow(data.spans, [0, data.until], 50, (at, begin, end) => {
  for (const one of data.curves) row(one.label, show(one.values[at], one.unit));
  return clock(begin) + " \\u2013 " + clock(end);
});
"""

BODY: Final = (
    """<h1>{title} <span class="verdict {outcome}">{verdict}</span></h1>
<p class="soft">{when}</p>
<div class="facts">{facts}</div>
<div class="wide">{phases}</div>
"""
    + PICTURE
    + """
{decisions}
<h2>How to read it</h2>
<ul>{notes}</ul>"""
)
