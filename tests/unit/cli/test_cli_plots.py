"""Plots and what they are made of: sparklines, axes, charts as HTML and PNG."""

from __future__ import annotations

import itertools
import json
import re
import struct
import sys
from typing import Any
from xml.etree import ElementTree

import pytest

from headway.cli import chart_html, chart_png
from headway.cli.axes import clock_ticks, figure, round_step, time_unit, value_ticks
from headway.cli.chart import Chart, chart_of, stretches
from headway.cli.sparkline import mean, sparkline, squeeze
from headway.client.windows import Windows
from tests.unit.client.query_log_answers import SINCE, latency, many, window


def chart(told: dict[str, Any]) -> Chart:
    return chart_of(Windows.model_validate(told), "iris: total time", ("half an hour",))


# -- sparklines ----------------------------------------------------------------------------------


def test_bars_are_proportional_and_nothing_is_a_dot() -> None:
    assert sparkline([0, 1, 2, 4, 8, None]) == "▁▂▃▅█·"
    assert sparkline([4], top=8) == "▅"
    assert sparkline([9], top=8) == "█"
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([None]) == "·"
    assert sparkline([]) == ""


@pytest.mark.parametrize("count", [1, 5, 7, 80, 81, 1000])
@pytest.mark.parametrize("width", [1, 7, 80])
def test_squeezing_keeps_every_value_in_one_place(count: int, width: int) -> None:
    squeezed = squeeze([1.0] * count, width, sum)
    assert len(squeezed) == min(count, width)
    assert sum(value or 0 for value in squeezed) == count
    assert max(value or 0 for value in squeezed) - min(value or 0 for value in squeezed) <= 1


def test_squeezing_keeps_peaks_and_gaps() -> None:
    assert squeeze([1, 9, None, None, None, 2], 3, max) == [9, None, 2]
    assert squeeze([1, 3, None, 5], 2, mean) == [2, 5]
    assert squeeze([], 10, max) == []
    assert squeeze([1.0], 0, max) == []


# -- axes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("span", "most", "step"), [(1, 5, 0.2), (0.3, 3, 0.1), (7, 5, 2), (100, 5, 20), (101, 5, 50), (0, 5, 1), (3, 3, 1)]
)
def test_steps_are_round(span: float, most: int, step: float) -> None:
    assert round_step(span, most) == pytest.approx(step)


@pytest.mark.parametrize("top", [1e-9, 0.00123, 0.3, 1.0, 6.999, 7, 99.99, 1234.5, 8.8e9])
def test_value_axes_begin_at_zero_and_hold_the_top(top: float) -> None:
    ticks = value_ticks(top)
    assert ticks[0].at == 0
    assert ticks[-2].at < top <= ticks[-1].at * (1 + 1e-9)
    assert 2 <= len(ticks) <= 6
    assert len({tick.text for tick in ticks}) == len(ticks)


def test_value_ticks_are_written_alike() -> None:
    assert [tick.text for tick in value_ticks(0.9)] == ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]
    assert [tick.text for tick in value_ticks(1234)] == ["0", "500", "1,000", "1,500"]


@pytest.mark.parametrize("span_s", [0.1, 0.9, 1, 7, 59, 60, 1800, 3601, 86_400, 259_200, 3e6, 4e7, 1e9])
def test_instants_are_round_distinct_and_few(span_s: float) -> None:
    since = SINCE + 11.3
    ticks = clock_ticks(since, since + span_s)
    assert 3 <= len(ticks) <= 9
    assert all(since - 1e-6 <= tick.at <= since + span_s + 1e-6 for tick in ticks)
    assert all(one.text != two.text for one, two in itertools.pairwise(ticks))


def test_a_day_begins_with_its_date() -> None:
    assert [tick.text for tick in clock_ticks(SINCE, SINCE + 86_400)] == [
        *("09:00", "12:00", "15:00", "18:00", "21:00"),
        *("23 Nov", "03:00", "06:00"),
    ]
    assert [tick.text for tick in clock_ticks(SINCE, SINCE)] == ["06:20:00"]


@pytest.mark.parametrize(("ns", "unit"), [(0, "ns"), (999, "ns"), (1000, "µs"), (2e6, "ms"), (999e6, "ms"), (1e9, "s")])
def test_the_unit_suits_the_greatest(ns: float, unit: str) -> None:
    assert time_unit(ns)[1] == unit


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.01234, "0.0123"),
        (1.2345, "1.23"),
        (9.999, "10.0"),
        (12.34, "12.3"),
        (123.4, "123"),
        (999.6, "1,000"),
        (12345.6, "12,346"),
    ],
)
def test_figures_have_three_digits_that_count(value: float, text: str) -> None:
    assert figure(value) == text


# -- charts --------------------------------------------------------------------------------------


def test_without_groups_the_quantiles_are_drawn_with_gaps() -> None:
    drawn = chart(latency([window(0), window(1, errors=30), window(3)]))
    assert [curve.label for curve in drawn.latency] == ["p50", "p75", "p95", "p99"]
    assert drawn.latency[2].values == (10e6, 11e6, None, 13e6, None)
    assert drawn.rates[0].values == (1.0, 1.0, 0.0, 1.0, 0.0)
    assert drawn.errors is not None
    assert drawn.errors.values == (0.0, 0.5, 0.0, 0.0, 0.0)
    assert drawn.unit() == (1e6, "ms")
    assert [curve.legend for curve in drawn.legend()] == ["p50", "p75", "p95", "p99", "errors/s"]


def test_groups_are_drawn_by_p95_and_few_of_them_by_their_median_too() -> None:
    few = chart(many(5, ["a", "b"]))
    assert [(curve.label, curve.dashed) for curve in few.latency] == [
        *(("a p95", False), ("a p50", True)),
        *(("b p95", False), ("b p50", True)),
    ]
    assert [curve.legend for curve in few.legend()] == ["a", "b", "errors/s"]
    assert few.errors is not None
    assert few.errors.values == (2 / 60, 0.0, 0.0, 2 / 60, 0.0)
    assert few.facts == ("half an hour", "lines: p95; dashed: p50")
    busy = chart(many(5, [f"client {number}" for number in range(11)]))
    assert len(busy.latency) == len(busy.rates) == 8
    assert not any(curve.dashed for curve in busy.latency)
    assert busy.facts[-1] == "lines: p95; 3 groups with fewer requests are left out"
    assert "client 10 p95" in [curve.label for curve in busy.latency]


def test_a_few_errors_among_many_requests_can_be_seen() -> None:
    few = chart(latency([window(0, count=60_000, rate_per_s=1000.0, errors=6), window(1, errors=6000)]))
    assert few.rate_ticks()[-1].at == 1000
    drawn = few.drawn_errors()
    assert drawn is not None
    assert drawn.values == (20.0, 100.0, 0.0, 0.0, 0.0)
    assert few.errors is not None
    assert few.errors.values[0] == 0.1
    assert chart(latency([window(0)])).drawn_errors() is None


def test_stretches_are_runs_of_values() -> None:
    assert stretches((None, 1.0, 2.0, None, 3.0)) == [range(1, 3), range(4, 5)]
    assert stretches(()) == []


# -- HTML ----------------------------------------------------------------------------------------


def parts(page: str) -> tuple[ElementTree.Element, dict[str, Any]]:
    """The SVG, read strictly, and the data of the script."""
    svg = re.search(r"<svg.*?</svg>", page, re.DOTALL)
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert svg is not None
    assert data is not None
    return ElementTree.fromstring(svg[0]), json.loads(data[1])


@pytest.mark.parametrize("count", [1, 30, 10_000])
def test_any_number_of_windows_makes_a_page(count: int) -> None:
    svg, data = parts(chart_html.render(chart(many(count, length_s=1800 / count))))
    curves = [path.get("d", "") for path in svg.iter("path") if "curve" in path.get("class", "")]
    assert len(curves) == 4
    assert all(path.count("L") == count - 1 for path in curves)
    assert len(data["windows"]) == len(data["latency"][0]["values"]) == count
    numbers = [float(number) for path in curves for number in re.findall(r"-?\d+(?:\.\d+)?", path)]
    assert 0 <= min(numbers) <= max(numbers) <= 1000


def test_a_window_between_empty_ones_is_a_stroke_as_wide_as_itself() -> None:
    svg, data = parts(chart_html.render(chart(latency([window(2)]))))
    path = next(path.get("d", "") for path in svg.iter("path") if "curve" in path.get("class", ""))
    assert re.fullmatch(r"M[\d.]+ [\d.]+H[\d.]+", path)
    assert data["latency"][0]["values"] == [None, None, 2.0, None, None]


def test_a_page_without_requests_is_drawn_too() -> None:
    for told in (latency([]), latency([], by=["client"])):
        svg, _ = parts(chart_html.render(chart(told)))
        assert "latency, ms" in [text.text for text in svg.iter("text")]


def test_a_page_loads_nothing_and_is_light_and_dark() -> None:
    page = chart_html.render(chart(many(3)))
    assert not re.search(r"""(src|href)=|url\(|@import|https?://""", page)
    assert "prefers-color-scheme:dark" in page


def test_names_from_outside_stay_text() -> None:
    evil = "</script><img src=x onerror=alert(1)>"
    told = many(3, [evil[:26], "&amp;"])
    told["model"] = "iris"
    page = chart_html.render(chart(told))
    assert "<img" not in page
    _, data = parts(page)
    assert data["latency"][0]["label"].startswith("&amp;")
    assert data["latency"][2]["label"].startswith("</script><img")


def test_no_two_labels_of_an_axis_overlap() -> None:
    """Digits are about 7 units wide at this size; the narrowest distance is asked of texts of ``06:20:00.00``."""
    for length_s in (0.1, 1.0, 60.0, 7200.0):
        svg, _ = parts(chart_html.render(chart(many(13, length_s=length_s))))
        ticks = [text for text in svg.iter("text") if text.get("text-anchor") == "middle"]
        ends = [(float(one.get("x", 0)), len(one.text or "") * 7 / 2) for one in ticks]
        for (one, half), (two, other) in itertools.pairwise(ends):
            assert one + half < two - other
        assert ends[-1][0] + ends[-1][1] <= 1000


# -- PNG -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told",
    [many(1), many(40), latency([]), latency([window(1)]), many(4, [f"_$x{n}$" for n in range(11)])],
    ids=["one", "many", "empty", "lone", "groups"],
)
def test_a_png_is_drawn_without_pyplot(told: dict[str, Any]) -> None:
    before = "matplotlib.pyplot" in sys.modules
    image = chart_png.render(chart(told))
    assert image.startswith(b"\x89PNG\r\n\x1a\n")
    assert struct.unpack(">II", image[16:24]) == (1500, 900)
    assert ("matplotlib.pyplot" in sys.modules) == before
