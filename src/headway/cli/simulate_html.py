"""The page of a simulation: the policies in a table, and over one axis of time what each would have done.

Names come from whoever wrote the files: every text is escaped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Final

from headway.cli import simulate_text
from headway.cli.axes import Tick, clock_ticks, time_unit
from headway.cli.chart_page import PICTURE, page
from headway.cli.load_chart import Curve, LoadChart, Panel, counted_panel, panel_of
from headway.cli.load_drawing import WIDTH, drawn, told
from headway.cli.load_html_parts import STYLE
from headway.cli.output import count_text
from headway.cli.times import length, local
from headway.domain.errors import InvalidInput
from headway.domain.promises import parse

Document = Mapping[str, Any]
COLOURS: Final = (1, 2, 3, 4, 5, 0, 6, 7)
"""Of the policies, in their order: as many as may be compared."""
MOST_LISTED: Final = 200


def write(found: Document, place: Path) -> None:
    """The page at ``place`` and its JSON beside it. Raises ``InvalidInput`` when they cannot be written."""
    try:
        place.write_text(render(found))
        place.with_suffix(".json").write_text(json.dumps(found, ensure_ascii=False) + "\n")
    except OSError as error:
        raise InvalidInput(f"cannot write {place}: {error.strerror or error}", where="--report") from None


def render(found: Document) -> str:
    """The whole file."""
    chart = chart_of(found)
    picture, height = drawn(chart)
    title = escape(f"Simulation of {found['model']}")
    facts = "".join(f"<p>{escape(line)}</p>" for line in simulate_text.head(found))
    best = found["best"]
    verdict = "" if not found["promises"] else _verdict(best, " and ".join(found["promises"]))
    heads = "".join(f"<th>{escape(name)}</th>" for name in simulate_text.columns(found))
    body = "".join(_row(row, chosen=row[0] == best) for row in simulate_text.rows(found))
    content = _BODY.format(
        title=title,
        verdict=verdict,
        facts=facts,
        table=f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>",
        legend="".join(_legend(found, chart)),
        width=f"{WIDTH:g}",
        height=f"{height:g}",
        drawn=picture,
        changes="".join(_changes(one) for one in found["policies"]),
        notes="".join(f"<li>{escape(note)}</li>" for note in _notes(found)),
    )
    return page(title=title, style=STYLE + _STYLE, body=content, data=told(chart), script=_script(found["begin_at"]))


def _row(cells: Sequence[str], *, chosen: bool) -> str:
    inner = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr class="best">{inner}</tr>' if chosen else f"<tr>{inner}</tr>"


def chart_of(found: Document) -> LoadChart:
    """Latency, replicas, requests, and failed ones where there are any; a curve for each policy."""
    policies, begin_at = found["policies"], found["begin_at"]
    windows = policies[0]["windows"]
    until_s = max(found["until"] - begin_at, 1e-3)
    spans = tuple(
        (one["begin_at"] - begin_at, min(one["begin_at"] + one["length_s"] - begin_at, until_s)) for one in windows
    )
    ticks = tuple(Tick(one.at - begin_at, one.text) for one in clock_ticks(begin_at, found["until"]))
    panels = tuple(_panels(found, policies, spans))
    return LoadChart(until_s=until_s, spans=spans, panels=panels, phases=(), decisions=(), time_ticks=ticks, merged=1)


def _panels(found: Document, policies: Sequence[Document], spans: Sequence[tuple[float, float]]) -> Iterator[Panel]:
    promised = [parse(text) for text in found["promises"]]
    shown = next((one for one in promised if one.of_latency and f"{_name(one.what)}_s" in policies[0]["figures"]), None)
    what = "p95" if shown is None else _name(shown.what)
    values = [[window[f"{what}_s"] for window in one["windows"]] for one in policies]
    greatest = max((value for line in values for value in line if value is not None), default=0.0)
    bound = None if shown is None or shown.bound > 4 * greatest else shown.bound
    # One policy that fails would press all others to the floor; a curve may leave the picture at the top.
    top = greatest if bound is None else min(greatest, 4 * bound)
    size, unit = time_unit(max(top, bound or 0.0) * 1e9)
    factor = 1e9 / size
    curves = [
        Curve(f"{one['name']}: {what}", tuple(None if v is None else min(v, top) * factor for v in line), colour)
        for one, line, colour in zip(policies, values, COLOURS, strict=False)
    ]
    yield panel_of(f"response time, {what}", unit, curves, None if bound is None else bound * factor)
    yield counted_panel(
        "replicas wished",
        [
            Curve(f"{one['name']}: replicas", tuple(window["wished"] for window in one["windows"]), colour, "steps")
            for one, colour in zip(policies, COLOURS, strict=False)
        ],
    )
    counts = [window["count"] for window in policies[0]["windows"]]
    rates = tuple(n / max(end - begin, 1e-9) for n, (begin, end) in zip(counts, spans, strict=True))
    yield panel_of("requests", "/s", [Curve("requests", rates, 7, "area")])
    if any(one["failed_share"] for one in policies):
        yield panel_of(
            "refused or too late",
            "/s",
            [
                Curve(
                    f"{one['name']}: failed",
                    tuple(
                        (w["refused"] + w["expired"]) / max(end - begin, 1e-9)
                        for w, (begin, end) in zip(one["windows"], spans, strict=True)
                    ),
                    colour,
                    "steps",
                )
                for one, colour in zip(policies, COLOURS, strict=False)
            ],
        )


def _legend(found: Document, chart: LoadChart) -> Iterator[str]:
    """A policy has one colour in all panels."""
    for one, colour in zip(found["policies"], COLOURS, strict=False):
        yield f'<span><i class="c{colour}"></i>{escape(one["name"])}</span>'
    if any(panel.bound is not None for panel in chart.panels):
        yield '<span><i class="promised"></i>promised</span>'


def _name(what: str) -> str:
    return "average" if what == "mean" else what


def _verdict(best: str | None, promised: str) -> str:
    outcome, words = ("broken", f"none keeps {promised}") if best is None else ("kept", f"{best} keeps {promised}")
    return f'<span class="verdict {outcome}">{escape(words)}</span>'


def _notes(found: Document) -> Iterator[str]:
    if found["promises"]:
        yield f"Beside a promise: in how many of the windows of {length(found['window_s'])} it was not kept."
    yield "A curve that leaves the picture at its top goes on above it."
    yield from found["notes"]


def _changes(policy: Document) -> str:
    decisions = policy["decisions"]
    if not decisions:
        return f"<p class='soft'>{escape(policy['name'])}: nothing was changed</p>"
    listed = "".join(
        f"<li><b>{escape(local(one['at']))}</b> {escape(one['summary'])}</li>" for one in decisions[:MOST_LISTED]
    )
    more = len(decisions) - MOST_LISTED
    rest = f"<li>and {more} more, in the JSON beside this page</li>" if more > 0 else ""
    head = f"{escape(policy['name'])}: {count_text(len(decisions), 'change')}"
    return f"<details><summary>{head}</summary><ul>{listed}{rest}</ul></details>"


def _script(begin_at: float) -> str:
    return (
        "const text = at => new Date((" + repr(float(begin_at)) + " + at) * 1000).toISOString()"
        '.slice(0, 19).replace("T", " ");\n'
        "follow(data.spans, [0, data.until], 50, (at, begin, end) => {\n"
        "  for (const one of data.curves) row(one.label, show(one.values[at], one.unit));\n"
        '  return text(begin) + " \\u2013 " + text(end).slice(11) + " UTC";\n'
        "});\n"
    )


_STYLE: Final = """
tr.best td{font-weight:600}summary{cursor:pointer;color:var(--soft);padding:3px 0}details ul{margin-left:8px}
"""
_BODY: Final = (
    """<h1>{title} {verdict}</h1>
<div class="facts soft">{facts}</div>
<div class="wide">{table}</div>
"""
    + PICTURE
    + """
<h2>Changes of the number of replicas</h2>
{changes}
<h2>How to read it</h2>
<ul>{notes}</ul>"""
)
