"""The report of a load test as one HTML file: inline SVG in the frame of ``chart_page``.

Names come from whoever wrote the files: every text is escaped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape
from typing import Final

from headway.cli.chart_page import page
from headway.cli.load_chart import LoadChart, chart_of, clock
from headway.cli.load_drawing import WIDTH, drawn, legend, told
from headway.cli.load_html_parts import BODY, SCRIPT, STYLE
from headway.cli.load_text import OUTCOMES, PHASES, latency, rows, summary
from headway.cli.output import moment
from headway.domain.load_reports import LoadReport
from headway.domain.load_shapes import Arrivals, Loop

_OPTION: Final = re.compile(r"--[a-z][a-z-]*")


_ARRIVALS: Final = {
    Arrivals.CONSTANT: "Arrivals are evenly spaced.",
    Arrivals.POISSON: "Arrivals are Poisson, as of many independent callers; seed {seed}.",
    Arrivals.RECORDED: "Arrivals are recorded ones.",
}


def render(report: LoadReport) -> str:
    """The whole file."""
    chart = chart_of(report)
    picture, height = drawn(chart)
    verdict = report.verdict.outcome
    title = escape(f"Load test of {report.model}")
    body = BODY.format(
        title=title,
        outcome=verdict.value,
        verdict=escape(OUTCOMES[verdict]),
        when=escape(f"{moment(report.started_at)}, {report.url}, {report.shape.loop.value} loop, {report.generator}"),
        facts="".join(f"<p>{_unbroken(line)}</p>" for line in summary(report)),
        phases=_table(report),
        width=f"{WIDTH:g}",
        height=f"{height:g}",
        drawn=picture,
        legend="".join(legend(chart)),
        decisions=_decisions(chart),
        notes="".join(f"<li>{_unbroken(note)}</li>" for note in _notes(report, chart)),
    )
    return page(title=title, style=STYLE, body=body, data=told(chart), script=SCRIPT)


def _unbroken(text: str) -> str:
    """Escaped; options stay on one line."""
    return _OPTION.sub(r"<code>\g<0></code>", escape(text))


def _table(report: LoadReport) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in PHASES)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows(report))
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _decisions(chart: LoadChart) -> str:
    if not chart.decisions:
        return ""
    listed = "".join(f"<li><b>{clock(one.at_s)}</b> {escape(one.text)}</li>" for one in chart.decisions[:200])
    more = len(chart.decisions) - 200
    return f"<h2>Scaling changed</h2><ul>{listed}{f'<li>and {more} more</li>' if more > 0 else ''}</ul>"


def _notes(report: LoadReport, chart: LoadChart) -> Iterator[str]:
    yield from report.notes[:1]
    if report.shape.loop is Loop.OPEN:
        yield _ARRIVALS[report.shape.arrivals].format(seed=report.shape.seed)
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
