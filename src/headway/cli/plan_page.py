"""The page of a plan: its answer, the picture as SVG, the table, and how far to trust it. One file that loads nothing.

Names come from whoever deployed the model: every text is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from headway.cli import plan_text
from headway.cli.chart_page import PICTURE, Scale, embedded, page
from headway.cli.load_html_parts import STYLE
from headway.cli.plan_picture import Picture, Series, picture_of

if TYPE_CHECKING:
    from headway.api.schemas_plans import PlanView

WIDTH, HEIGHT = 1000.0, 470.0
LEFT, RIGHT, TOP, BOTTOM = 64.0, 24.0, 40.0, 54.0
BAND: Final = 6.0
STEPS: Final = 120
"""Places across the picture at which the pointer tells what is foretold."""


def render(name: str, stored: PlanView) -> str:
    """The whole file."""
    plan = stored.document
    picture = picture_of(name, plan)
    heads = "".join(f"<th>{escape(head)}</th>" for head in plan_text.columns(plan))
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in plan_text.rows(plan)
    )
    stale = "" if not stored.stale else f'<p class="broken"><b>stale:</b> {escape("; ".join(stored.stale))}</p>'
    notes = [
        *plan_text.bounds(plan),
        *plan_text.trust(plan),
        *([] if stored.stale else [plan_text.standing(name, stored)]),
    ]
    policy = "\n".join(line.plain for line in plan_text.policy(plan, None)).strip()
    content = _BODY.format(
        title=escape(picture.title),
        promise=escape(f"{name} {stored.basis.version}: {plan_text.promised_text(plan)}"),
        when=escape(plan_text.made(stored)),
        stale=stale,
        answer="".join(_answer(line) for line, _ in plan_text.answer(plan)),
        legend="".join(f'<span><i class="c{one.colour}"></i>{one.name}</span>' for one in picture.series),
        width=f"{WIDTH:g}",
        height=f"{HEIGHT:g}",
        drawn="\n".join(_drawn(picture)),
        table=f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>",
        notes="".join(f"<li>{escape(told)}</li>" for told in (*plan["notes"], *notes)),
        reading="".join(f"<li>{told}</li>" for told in _reading(picture)),
        policy=f"<h2>Policy</h2><div class='wide'><pre>{escape(policy)}</pre></div>" if policy else "",
    )
    return page(title=escape(picture.title), style=STYLE + _STYLE, body=content, data=_told(picture), script=_SCRIPT)


def _answer(line: str) -> str:
    text = escape(line.strip())
    return f"<p>{text}</p>" if line.startswith(" ") else f"<p><b>{text}</b></p>"


def _drawn(picture: Picture) -> Iterator[str]:
    across, up = picture.across_ticks(), picture.up_ticks()
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def x(value: float) -> float:
        return LEFT + min(value / across[-1].at, 1.0) * (right - LEFT)

    def y(value: float) -> float:
        return bottom + min(value / up[-1].at, 1.0) * (TOP - bottom)

    for tick in up:
        kind, level = "axis" if tick.at == 0 else "grid", f"{y(tick.at):.1f}"
        yield f'<line class="{kind}" x1="{LEFT:g}" x2="{right:g}" y1="{level}" y2="{level}"/>'
        yield f'<text x="{LEFT - 8:g}" y="{y(tick.at) + 4:.1f}" text-anchor="end">{escape(tick.text)}</text>'
    for tick in across:
        yield f'<text x="{x(tick.at):.1f}" y="{bottom + 20:g}" text-anchor="middle">{escape(tick.text)}</text>'
    yield f'<text class="name" x="{LEFT:g}" y="{TOP - 16:g}">{escape(picture.up)}</text>'
    yield f'<text x="{right:g}" y="{HEIGHT - 10:g}" text-anchor="end">{escape(picture.across)}</text>'
    limit = f"{y(picture.limit):.1f}"
    yield f'<line class="bound" x1="{LEFT:g}" x2="{right:g}" y1="{limit}" y2="{limit}"/>'
    yield f'<text class="limit" x="{LEFT + 6:g}" y="{y(picture.limit) - 7:.1f}">{escape(picture.promise)}</text>'
    if picture.asked is not None:
        at, told = x(picture.asked[0]), escape(picture.asked[1])
        side, place = ("end", at - 6) if at > WIDTH / 2 else ("start", at + 6)
        yield f'<line class="phase" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP:g}" y2="{bottom:g}"/>'
        yield f'<text class="name" x="{place:.1f}" y="{TOP + 12:g}" text-anchor="{side}">{told}</text>'
    for place, one in enumerate(picture.series):
        yield from _series(one, picture, x, y, BAND * (place - (len(picture.series) - 1) / 2))
    yield f'<line id="here" class="here" y1="{TOP:g}" y2="{bottom:g}" visibility="hidden"/>'


def _series(one: Series, picture: Picture, x: Scale, y: Scale, aside: float) -> Iterator[str]:
    """``aside``: how far its interval is below the promise, so that none covers another."""
    top = picture.up_ticks()[-1].at
    colour = f"c{one.colour}"
    if (carried := one.carried) is not None:
        span = f"M{x(carried.low):.1f} {y(picture.limit) + aside:.1f}H{max(x(carried.high), x(carried.low) + 2):.1f}"
        yield f'<path class="interval {colour}" d="{span}"><title>{escape(carried.told)}</title></path>'
    shown = [(a, b) for a, b in one.curve if b <= top]
    if shown:
        path = "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in shown)
        yield f'<path class="curve {colour}" d="M{path}"/>'
    for tried in one.tried:
        at, low, high = x(tried.at), y(tried.low), y(tried.high)
        bar = f"M{at - 5:.1f} {low:.1f}h10M{at:.1f} {low:.1f}V{high:.1f}M{at - 5:.1f} {high:.1f}h10"
        yield f'<path class="curve {colour}" d="{bar}"><title>{escape(tried.told)}</title></path>'
    for dot in one.measured:
        kind, title = "" if dot.kept else " open", f"<title>{escape(f'{one.name}, {dot.told}')}</title>"
        yield f'<circle class="{colour}{kind}" cx="{x(dot.at):.1f}" cy="{y(dot.value):.1f}" r="4.5">{title}</circle>'
    if carried is not None:
        place = f"M{x(carried.at):.1f} {y(carried.value):.1f}m0 -8l8 8l-8 8l-8 -8z"
        yield f'<path class="planned {colour}" d="{place}"><title>{escape(carried.told)}</title></path>'


def _reading(picture: Picture) -> Iterator[str]:
    yield "Curves are foretold. Dots are measured: filled where the promise was kept, hollow where it was broken."
    if picture.cut():
        yield "Above the axis a dot is drawn at its end."
    if any(one.carried for one in picture.series):
        yield "A diamond is the load that is planned with; the band on the promise is its 90 % interval."
    if any(one.tried for one in picture.series):
        yield "A bar is a prediction that was made before its load was run: the dot of its colour is what came out."


def _told(picture: Picture) -> str:
    """What the pointer shows."""
    until = picture.across_ticks()[-1].at
    edges = [until * step / STEPS for step in range(STEPS + 1)]
    middles = [(a + b) / 2 for a, b in pairwise(edges)]

    def rounded(value: float | None) -> float | None:
        return None if value is None else float(f"{value:.3g}")

    return embedded(
        {
            "plot": [LEFT, WIDTH - RIGHT, WIDTH],
            "until": until,
            "across": picture.across,
            "spans": [[float(f"{a:.4g}"), float(f"{b:.4g}")] for a, b in pairwise(edges)],
            "curves": [
                {"label": one.name, "values": [rounded(one.at(at)) for at in middles]} for one in picture.series
            ],
        }
    )


_SCRIPT: Final = """
follow(data.spans, [0, data.until], 50, (at, begin, end) => {
  for (const one of data.curves) if (one.values[at] !== null) row(one.label, show(one.values[at], "ms"));
  return Number(((begin + end) / 2).toPrecision(3)).toLocaleString("en") + " " + data.across;
});
"""
_STYLE: Final = """
svg text.limit{fill:var(--errors);font-weight:600}
.interval{stroke:var(--c);stroke-width:5;stroke-opacity:.5}
circle{fill:var(--c);stroke:var(--page);stroke-width:1}circle.open{fill:var(--page);stroke:var(--c);stroke-width:2}
.planned{fill:var(--c);stroke:var(--page);stroke-width:1.5}
pre{font-size:12.5px;line-height:1.45;color:var(--soft);margin:4px 0}
td:last-child,th:last-child{text-align:left;padding-left:24px}
.table{margin-top:14px}
.phase{stroke-dasharray:2 4}
"""
_BODY: Final = (
    """<h1>{promise}</h1>
<p class="soft">{when}</p>
{stale}
<div class="facts">{answer}</div>
"""
    + PICTURE
    + """
<div class="wide table">{table}</div>
<h2>What to know of it</h2>
<ul>{notes}</ul>
{policy}
<h2>How to read it</h2>
<ul>{reading}</ul>"""
)
