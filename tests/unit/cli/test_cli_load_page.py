"""The page of a load test: any number of points, whatever the names, and nothing from elsewhere."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from headway.cli import load_html
from headway.cli.load_chart import MOST_PLACES, chart_of, clock, elapsed_ticks
from headway.cli.load_text import PHASES, block, fitting, line, load_text, rows, summary
from headway.domain.load_documents import to_document
from headway.domain.load_reports import (
    Ending,
    GeneratorHealth,
    LoadPhase,
    LoadPoint,
    LoadReport,
    Outcome,
    PromiseResult,
    ScalingMark,
    Verdict,
)
from headway.domain.load_samples import Figures
from headway.domain.load_shapes import Arrivals, LoadShape, Loop, Stage

EVIL = "<script>alert(1)</script>&\"'"


def figures(p50_s: float | None = 0.01, p95_s: float | None = 0.05, count: int = 100, errors: int = 0) -> Figures:
    return Figures(
        count=count,
        errors=errors,
        per_s=100.0,
        mean_s=p50_s,
        p50_s=p50_s,
        p75_s=p50_s,
        p95_s=p95_s,
        p99_s=p95_s,
        max_s=p95_s,
    )


def report(points: int, *, peak_at: int | None = None, loop: Loop = Loop.OPEN) -> LoadReport:
    made = tuple(
        LoadPoint(
            begin_s=float(at),
            end_s=at + 1.0,
            stage=0,
            users=20 if loop is Loop.CLOSED else None,
            offered_per_s=100.0 if loop is Loop.OPEN else None,
            sent_per_s=100.0,
            answered_per_s=100.0,
            figures=figures(p95_s=2.0) if at == peak_at else figures() if at % 7 != 3 else figures(None, None, count=0),
            in_flight=3,
            late_s=0.0,
            replicas=2,
            wished=3,
            cpu_cores=0.8,
            memory_bytes=1 << 27,
        )
        for at in range(points)
    )
    return LoadReport(
        model="iris",
        url="http://127.0.0.1:8420/models/iris",
        started_at=1_760_000_000.0,
        duration_s=float(points),
        shape=LoadShape(loop=loop, stages=(Stage(duration_s=max(points, 1), begin=100, end=100, name=EVIL),)),
        generator="headway",
        ending=Ending.FINISHED,
        total=figures(errors=2),
        points=made,
        phases=(
            LoadPhase(
                name=EVIL,
                begin_s=0.0,
                end_s=float(points),
                load_begin=100,
                load_end=100,
                answered_per_s=100.0,
                figures=figures(),
                replicas_least=1,
                replicas_most=2,
            ),
        ),
        decisions=(ScalingMark(0.5, "v1", 1, 2, EVIL),),
        faults={EVIL: 2},
        health=GeneratorHealth(saturated=False, reasons=(), late_p99_s=0.0001, late_max_s=0.001, cpu_share=0.2),
        verdict=Verdict(
            outcome=Outcome.BROKEN,
            promises=(
                PromiseResult(promise="p95<100ms", measured=0.2, kept=False, broken_at_s=5.0, broken_at_load=100),
            ),
            reasons=("p95<100ms was broken: 200 ms",),
        ),
        notes=(EVIL,),
    )


class Page(HTMLParser):
    """Tags and attributes of a page, and what its script reads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
        assert found
        self.data = json.loads(found[1])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.mark.parametrize("points", [0, 1, 2, 100_000])
def test_any_number_of_points_is_a_page_of_bounded_size(points: int) -> None:
    text = load_html.render(report(points))
    page = Page(text)
    assert len(page.data["spans"]) == (points if points <= MOST_PLACES else 599)
    assert len(text) < 300_000
    assert "NaN" not in text
    assert (points > MOST_PLACES) == ("Each place of the chart stands for 167 intervals" in text)


def test_names_are_text_and_nothing_is_loaded_from_elsewhere() -> None:
    text = load_html.render(report(5))
    page = Page(text)
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert "<script>alert" not in text
    assert not [attrs for _, attrs in page.tags if {"src", "href"} & set(attrs)]
    assert "http://" not in text.replace("http://127.0.0.1:8420", "")
    assert "prefers-color-scheme:dark" in text


def test_a_peak_does_not_vanish_where_intervals_are_merged() -> None:
    chart = chart_of(report(100_000, peak_at=54_321))
    latency = chart.panels[0]
    assert max(value for value in latency.curves[0].values if value is not None) == pytest.approx(
        2.0 if latency.unit == "s" else 2000
    )
    assert len(chart.spans) == 599


def test_a_promise_is_drawn_where_it_can_be_seen() -> None:
    assert chart_of(report(5)).panels[0].bound == pytest.approx(100)
    far = report(5)
    far = replace(
        far, verdict=replace(far.verdict, promises=(PromiseResult(promise="p95<1h", measured=0.2, kept=True),))
    )
    assert chart_of(far).panels[0].bound is None


def test_what_is_not_known_is_not_drawn() -> None:
    made = report(3)
    blind = replace(
        made,
        points=tuple(replace(one, replicas=None, wished=None, cpu_cores=None, in_flight=None) for one in made.points),
    )
    assert [panel.title for panel in chart_of(made).panels] == [
        "response time",
        "requests",
        "requests in flight",
        "replicas",
        "processor",
    ]
    assert [panel.title for panel in chart_of(blind).panels] == ["response time", "requests"]
    crowd = report(3, loop=Loop.CLOSED)
    assert chart_of(crowd).panels[2].title == "users"
    of_locust = replace(crowd, points=tuple(replace(one, in_flight=None) for one in crowd.points))
    assert [curve.label for curve in chart_of(of_locust).panels[2].curves] == ["users"]


def test_the_legend_names_curves_by_panel() -> None:
    text = load_html.render(report(5))
    keys = re.findall(r'<span class="keys"><b>(.*?)</b>(.*?)</span></span>', text)
    assert [title for title, _ in keys] == ["response time", "requests", "requests in flight", "replicas", "processor"]
    assert "promised" in keys[0][1]
    assert "promised" not in keys[1][1]


def test_options_in_the_words_of_a_page_are_not_broken_over_lines() -> None:
    text = load_html.render(replace(report(1), notes=("another question: --spawn-rate <b>.",)))
    assert "another question: <code>--spawn-rate</code> &lt;b&gt;." in text


@pytest.mark.parametrize(
    ("arrivals", "said"),
    [(Arrivals.POISSON, "seed 7"), (Arrivals.CONSTANT, "evenly spaced"), (Arrivals.RECORDED, "recorded ones")],
)
def test_the_page_says_how_requests_arrived(arrivals: Arrivals, said: str) -> None:
    made = report(1)
    assert said in load_html.render(replace(made, shape=replace(made.shape, arrivals=arrivals, seed=7)))
    assert "Arrivals are" not in load_html.render(report(1, loop=Loop.CLOSED))


def test_users_are_whole_and_rates_are_not() -> None:
    assert load_text(1, 200, Loop.CLOSED) == "1 → 200 users"
    assert load_text(20.0, 20.0, Loop.CLOSED) == "20 users"
    assert load_text(1.0, 1.0, Loop.CLOSED) == "1 user"
    assert load_text(2.5, 2.5, Loop.OPEN) == "2.50/s"


@pytest.mark.parametrize("width", [40, 60, 80, 100, 200])
def test_on_a_terminal_the_line_takes_as_many_as_it_needs_and_nothing_is_cut_off(width: int) -> None:
    point = report(3).points[1]
    lines = block(point, 180, width).splitlines()
    assert max(map(len, lines)) <= width
    assert lines[0].startswith("  0:02 of 3:00  offered 100/s")
    assert " ".join(" ".join(lines).split()).partition("3:00 ")[2] == " ".join(line(point).split()[1:])
    assert (len(lines) == 1) == (width == 200)


def test_on_a_narrow_terminal_columns_asked_for_least_are_left_out() -> None:
    named = replace(report(3).phases[0], name="stage 1")
    made = replace(report(3), phases=(named, replace(named, name="stage 2")))
    assert fitting(made, None) == (PHASES, rows(made))
    columns, cells = fitting(made, 80)
    assert columns == ("phase", "load", "requests", "errors", "answered/s", "p50", "p95", "p99")
    assert cells[1] == ("stage 2", "100/s", "100", "0", "100", "10.0 ms", "50.0 ms", "50.0 ms")
    assert cells[2][0] == "all"


def test_the_words_of_a_report() -> None:
    made = report(5)
    assert rows(made)[0] == (
        EVIL,
        "0:00",
        "100/s",
        "100",
        "0",
        "100",
        "10.0 ms",
        "10.0 ms",
        "50.0 ms",
        "50.0 ms",
        "1-2",
        "-",
    )
    assert list(summary(made)) == [
        "finished after 0:05, 100 requests",
        f"  2 x {EVIL}",
        "p95<100ms: broken, measured 200 ms; first broken at 0:05, at 100 requests/s",
    ]
    refused = Verdict(outcome=Outcome.REFUSED, promises=made.verdict.promises, reasons=("it ended too early",))
    early = replace(made, verdict=refused, ending=Ending.FAILED, notes=("how to read it", "more", "it ended too early"))
    assert list(summary(early)) == [
        "the generator failed after 0:05, 100 requests",
        "more",
        f"  2 x {EVIL}",
        "p95<100ms: not judged, measured 200 ms; first broken at 0:05, at 100 requests/s",
        "no verdict, for these figures say nothing of the model:",
        "  it ended too early",
    ]
    told = line(made.points[1])
    assert told == (
        "  0:02  offered 100/s  answered 100/s  p50 10.0 ms  p95 50.0 ms  errors 0  in flight 3  replicas 2/3  "
        "cpu 0.80  memory 128.0 MiB"
    )


def test_the_document_is_json_without_the_single_requests() -> None:
    document = json.loads(json.dumps(to_document(report(2))))
    assert document["format"] == 1
    assert document["verdict"]["outcome"] == "broken"
    assert document["points"][1]["figures"]["p95_s"] == 0.05
    assert "samples" not in document


@pytest.mark.parametrize(
    ("until_s", "first"), [(0.5, ["0 s", "0.1 s"]), (60, ["0:00", "0:10"]), (86_400, ["0:00", "4:00:00"])]
)
def test_ticks_of_time(until_s: float, first: list[str]) -> None:
    ticks = elapsed_ticks(until_s)
    assert [tick.text for tick in ticks[:2]] == first
    assert len(ticks) <= 9
    assert clock(3725) == "1:02:05"
