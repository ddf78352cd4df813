"""The report of a load test as one HTML file: inline SVG in the frame of ``chart_page``.

Names come from whoever wrote the files: every text is escaped.
"""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from typing import Final

from headway.cli.chart import stretches
from headway.cli.chart_page import Scale, embedded, page
from headway.cli.load_chart import Curve, LoadChart, Panel, chart_of, clock
from headway.cli.load_html_parts import BODY, SCRIPT, STYLE
from headway.cli.load_text import OUTCOMES, PHASES, latency, rows, summary
from headway.cli.output import moment
from headway.domain.load_reports import LoadReport

WIDTH: Final = 1000.0
LEFT, RIGHT, TOP, BETWEEN, BELOW = 64.0, 24.0, 58.0, 38.0, 34.0
FIRST_HEIGHT, HEIGHT = 230.0, 96.0
ERRORS: Final = -1


def render(report: LoadReport) -> str:
    """The whole file."""
    chart = chart_of(report)
    tops = _tops(chart)
    bottom = tops[-1][1] if tops else TOP
    x: Scale = lambda at_s: LEFT + at_s / chart.until_s * (WIDTH - LEFT - RIGHT)  # noqa: E731
    drawn = [
        *_time(chart, x, tops, bottom),
        *(part for panel, place in zip(chart.panels, tops, strict=True) for part in _panel(panel, chart, x, place)),
        *_marks(chart, x, bottom),
        f'<line id="here" class="here" y1="{TOP:g}" y2="{bottom:g}" visibility="hidden"/>',
    ]
    verdict = report.verdict.outcome
    title = escape(f"Load test of {report.model}")
    body = BODY.format(
        title=title,
        outcome=verdict.value,
        verdict=escape(OUTCOMES[verdict]),
        when=escape(f"{moment(report.started_at)}, {report.url}, {report.shape.loop.value} loop, {report.generator}"),
        facts="".join(f"<p>{escape(line)}</p>" for line in summary(report)),
        phases=_table(report),
        width=f"{WIDTH:g}",
        height=f"{bottom + BELOW:g}",
        drawn="\n".join(drawn),
        legend="".join(_legend(chart)),
        decisions=_decisions(chart),
        notes="".join(f"<li>{escape(note)}</li>" for note in _notes(report, chart)),
    )
    return page(title=title, style=STYLE, body=body, data=_data(chart), script=SCRIPT)


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


def _legend(chart: LoadChart) -> Iterator[str]:
    for panel in chart.panels:
        for curve in panel.curves:
            block = " block" if curve.kind == "area" else " dash" if curve.kind == "dashed" else ""
            yield f'<span><i class="{_class(curve)}{block}"></i>{escape(curve.label)}</span>'
    if any(panel.bound is not None for panel in chart.panels):
        yield '<span><i class="promised"></i>promised</span>'
    if chart.decisions:
        yield '<span><b class="triangle">▲</b>replicas changed</span>'


def _table(report: LoadReport) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in PHASES)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows(report))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _decisions(chart: LoadChart) -> str:
    if not chart.decisions:
        return ""
    listed = "".join(f"<li><b>{clock(one.at_s)}</b> {escape(one.text)}</li>" for one in chart.decisions[:200])
    more = len(chart.decisions) - 200
    return f"<h2>Replicas changed</h2><ul>{listed}{f'<li>and {more} more</li>' if more > 0 else ''}</ul>"


def _notes(report: LoadReport, chart: LoadChart) -> Iterator[str]:
    yield from report.notes
    health = report.health
    cpu = "" if health.cpu_share is None else f", busiest process {health.cpu_share:.0%} of a core"
    late = f"p99 {latency(health.late_p99_s)}, at worst {latency(health.late_max_s)}"
    yield f"The generator was late by: {late}{cpu}."
    if report.generator == "locust":
        yield "Requests are timed one by one, not by Locust's rounded percentiles."
    if chart.merged > 1:
        yield (
            f"Each place of the chart stands for {chart.merged} intervals: rates, users, cores and medians are means, "
            "p95 and errors the highest. The JSON beside this page has every interval."
        )


def _data(chart: LoadChart) -> str:
    """What the pointer shows."""

    def rounded(value: float | None) -> float | None:
        return None if value is None else float(f"{value:.4g}")

    told = {
        "plot": [LEFT, WIDTH - RIGHT, WIDTH],
        "until": chart.until_s,
        "spans": [[round(begin, 2), round(end, 2)] for begin, end in chart.spans],
        "curves": [
            {"label": curve.label, "unit": panel.unit, "values": [rounded(value) for value in curve.values]}
            for panel in chart.panels
            for curve in panel.curves
        ],
    }
    return embedded(told)
