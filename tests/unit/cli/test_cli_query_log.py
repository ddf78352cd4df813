"""``headway latency`` and ``headway log`` against a control API pretended at the wire."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from headway.api.schemas_query_log import RecordView
from headway.cli import latency_text, record_text
from headway.client.windows import Windows
from tests.unit.cli.wire import Terminal
from tests.unit.client.query_log_answers import NO_LOSSES, SINCE, cursor, latency, page, record, window

LATENCY = "GET /v1/models/iris/latency"
LOG = "GET /v1/models/iris/log"
LOSSES = {"dropped": 3, "torn": 1, "missing": 1, "clock_steps": 2}


def answer_windows(terminal: Terminal, *windows: dict[str, Any], **more: Any) -> None:
    """The windows, and for the question about the whole span one window."""
    total = window(0, length_s=300.0, count=185, errors=3, p95_ms=99.5)

    def answer(request: httpx.Request) -> httpx.Response:
        asked = request.url.params
        if asked["window"] == "301.000000000s":
            assert (asked["since"], asked["until"]) == (f"{SINCE:.9f}", f"{SINCE + 300:.9f}")
            return httpx.Response(200, json=latency([total], count=1, length_s=300.0, **more))
        return httpx.Response(200, json=latency(windows, **more))

    terminal.answers[LATENCY] = answer


# -- latency as text -----------------------------------------------------------------------------


def test_a_line_per_window_dashes_for_empty_ones_and_the_whole_span(terminal: Terminal) -> None:
    answer_windows(terminal, window(0, errors=3), window(1, count=5, p50_ms=None, rate_per_s=5 / 60), window(4))
    outcome = terminal.run("latency", "iris")
    assert outcome.code == 0
    assert outcome.stderr == ""
    assert outcome.stdout.splitlines() == [
        "iris: total time in windows of 1m, 2026-11-22 06:20:00Z to 06:25:00Z",
        "",
        "start (UTC)  count  rate/s  errors  avg ms   p50   p75   p95   p99",
        "06:20:00        60    1.00       3    2.50  2.00  3.00  10.0  20.5",
        "06:21:00         5  0.0833       0    2.50     -  3.00  11.0  20.5",
        "06:22:00         -       -       -       -     -     -     -     -",
        "06:23:00         -       -       -       -     -     -     -     -",
        "06:24:00        60    1.00       0    2.50  2.00  3.00  14.0  20.5",
        "whole span     185   0.617       3    2.50  2.00  3.00  99.5  20.5",
    ]


def test_what_was_asked_for_is_asked_twice_but_for_the_window(terminal: Terminal) -> None:
    answer_windows(terminal, window(0, group={"version": "v1"}), by=["version"], field="queue")
    args = ["--by", "version", "--field", "queue", "--where", "status>=500", "--where", "rows>1", "--sketch"]
    # The pretended answer to the second question has no group; only the questions matter here.
    terminal.run("latency", "iris", "--window", "1m", "--since", "1h", "--until", "55m", *args)
    first, second = (request.url.params for request in terminal.requests)
    assert (first["since"], first["until"], first["window"]) == ("1h", "55m", "1m")
    for params in (first, second):
        assert (params["by"], params["field"], params["exact"]) == ("version", "queue", "false")
        assert params.get_list("where") == ["status>=500", "rows>1"]


def test_one_window_is_its_own_total(terminal: Terminal) -> None:
    terminal.answer(LATENCY, latency([window(0)], count=1))
    lines = terminal.run("latency", "iris").stdout.splitlines()
    assert len(terminal.requests) == 1
    assert [line.split()[0] for line in lines[2:]] == ["start", "06:20:00"]


def test_nothing_to_show_is_said(terminal: Terminal) -> None:
    terminal.answer(LATENCY, latency([]))
    assert terminal.run("latency", "iris").stdout.splitlines()[1:] == ["no requests in this time"]
    terminal.answer(LOG, page())
    assert terminal.run("log", "iris").stdout == "no requests in this time\n"


def test_groups_have_columns_and_an_empty_window_is_one_line() -> None:
    windows = [window(0, group={"version": v, "status": s}) for v, s in (("v1", "200"), ("", "503"))]
    found = Windows.model_validate(latency(windows, count=2, by=["version", "status"]))
    lines = [line.plain for line in latency_text.report(found, None, width=80, curves=False)]
    assert [line.split()[:4] for line in lines[2:]] == [
        ["start", "(UTC)", "version", "status"],
        ["06:20:00", "v1", "200", "60"],
        ["06:20:00", "-", "503", "60"],
        ["06:21:00", "-", "-", "-"],
    ]


def test_sketches_and_an_incomplete_log_are_told(terminal: Terminal) -> None:
    answer_windows(terminal, window(0), exact=False, relative_error=0.005, losses=LOSSES)
    assert terminal.run("latency", "iris").stdout.splitlines()[-3:] == [
        "quantiles are within 0.5 % of the true ones (from sketches); --exact reads every record",
        "the log is incomplete: 3 records could not be stored, 1 record missing, 1 segment with a damaged end",
        "the clock was set back 2 times: windows around it mix two passes of the same time",
    ]


def test_an_incomplete_log_without_requests_is_told_too(terminal: Terminal) -> None:
    terminal.answer(LATENCY, latency([], losses={**NO_LOSSES, "dropped": 1}))
    assert "the log is incomplete: 1 record could not be stored" in terminal.run("latency", "iris").stdout


def test_starts_are_as_long_as_they_have_to_be() -> None:
    def starts(**more: float) -> list[str]:
        found = Windows.model_validate(latency([window(0)], count=2, **more))
        lines = [line.plain for line in latency_text.report(found, None, width=80, curves=False)]
        return [line.split("  ")[0] for line in lines[3:]]

    assert starts() == ["06:20:00", "06:21:00"]
    assert starts(length_s=0.25) == ["06:20:00.000", "06:20:00.250"]
    assert starts(length_s=86_400.0) == ["2026-11-22 06:20:00", "2026-11-23 06:20:00"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.1, "100ms"), (1, "1s"), (1.5, "1.5s"), (60, "1m"), (90, "1m30s"), (86_400, "1d"), (90_061, "1d1h1m1s")],
)
def test_lengths_are_written_as_they_are_typed(seconds: float, text: str) -> None:
    assert latency_text.length(seconds) == text


# -- curves --------------------------------------------------------------------------------------


def test_a_terminal_shows_curves_that_fit_its_width() -> None:
    windows = [window(place, p95_ms=1.0 + place % 8) for place in range(500) if place % 100]
    found = Windows.model_validate(latency(windows, count=500))
    for width in (80, 120):
        lines = [line.plain for line in latency_text.report(found, None, width=width, curves=True)]
        p95, rate = lines[2:4]
        assert len(p95) == width
        assert p95.endswith("p95, top 8.00 ms")
        assert rate.endswith("rate, top 1.00/s")
        assert max(p95) == "█"


def test_curves_of_groups_share_one_scale_and_show_gaps() -> None:
    windows = [window(place, group={"version": "v1"}, p95_ms=80.0) for place in range(5)]
    windows += [window(place, group={"version": "v2"}, p95_ms=10.0) for place in (0, 4)]
    found = Windows.model_validate(latency(windows, by=["version"]))
    lines = [line.plain for line in latency_text.report(found, None, width=80, curves=True)]
    assert [line.split() for line in lines[3:5]] == [["v1", "█████", "█████"], ["v2", "▂···▂", "█···█"]]


def test_without_a_terminal_there_are_no_curves_and_no_colours(terminal: Terminal) -> None:
    answer_windows(terminal, window(0, errors=1), window(1))
    shown = terminal.run("latency", "iris").stdout
    assert "█" not in shown
    assert "\x1b" not in shown


def test_a_name_that_would_move_the_cursor_is_shown_without_doing_so() -> None:
    windows = [window(0, group={"client": "\x1b[2Jevil\n[red]"})]
    found = Windows.model_validate(latency(windows, count=2, by=["client"]))
    lines = [line.plain for line in latency_text.report(found, found, width=80, curves=True)]
    assert not any("\x1b" in line or "\n" in line for line in lines)
    assert any("[red]" in line for line in lines)


# -- latency for programs ------------------------------------------------------------------------


def test_json_is_the_answer_itself(terminal: Terminal) -> None:
    told = latency([window(0), window(3)], losses=LOSSES)
    terminal.answer(LATENCY, told)
    outcome = terminal.run("latency", "iris", "-o", "json")
    assert outcome.json == told
    assert len(terminal.requests) == 1
    assert outcome.stderr == ""


@pytest.mark.parametrize(("kind", "media"), [("csv", "text/csv"), ("parquet", "application/vnd.apache.parquet")])
def test_files_are_those_of_the_api_over_the_same_span(terminal: Terminal, kind: str, media: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers["accept"] == media:
            assert request.url.params["since"] == f"{SINCE:.9f}"
            return httpx.Response(200, content=b"start,count\r\n0,1\r\n")
        return httpx.Response(200, json=latency([window(0)], losses={**NO_LOSSES, "missing": 2}))

    terminal.answers[LATENCY] = answer
    outcome = terminal.run("latency", "iris", "-o", kind)
    assert outcome.code == 0
    assert outcome.stdout == "start,count\r\n0,1\r\n"
    assert outcome.stderr == "the log is incomplete: 2 records missing\n"


def test_a_file_of_requests_has_the_span_that_was_looked_at(terminal: Terminal) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers["accept"] == "text/csv":
            assert (request.url.params["since"], request.url.params["limit"]) == (f"{SINCE:.9f}", "5")
            return httpx.Response(200, content=b"at,status\r\n")
        return httpx.Response(200, json=page(0, losses={**NO_LOSSES, "dropped": 1}))

    terminal.answers[LOG] = answer
    outcome = terminal.run("log", "iris", "-o", "csv", "-n", "5")
    assert outcome.stdout == "at,status\r\n"
    assert outcome.stderr == "the log is incomplete: 1 record could not be stored\n"


def test_parquet_is_not_printed_on_a_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for command in ("latency", "log"):
        outcome = terminal.run(command, "iris", "-o", "parquet")
        assert outcome.code == 2
        assert "> FILE.parquet" in outcome.stderr
    assert not terminal.requests


# -- what cannot be asked ------------------------------------------------------------------------


def test_a_question_that_the_api_refuses_names_the_option(terminal: Terminal) -> None:
    terminal.refuse(LATENCY, 400, "invalid_input", "windows of 1us are too short", where="?window", hint="100ms")
    outcome = terminal.run("latency", "iris", "--window", "1us")
    assert outcome.code == 2
    assert "where: --window\n" in outcome.stderr
    terminal.refuse(LOG, 400, "invalid_input", "no condition", where="?where")
    assert json.loads(terminal.run("log", "iris", "--where", "x", "-o", "json").stderr)["error"]["where"] == "--where"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["latency", "iris", "--by", "colour"], "version"),
        (["latency", "iris", "--field", "sleep"], "total"),
        (["latency", "iris", "-o", "xml"], "parquet"),
        (["latency", "IRIS"], "IRIS"),
        (["latency", "iris", "--plot", "x.pdf"], ".html or .png"),
        (["latency", "iris", "--plot", "x"], ".html or .png"),
        (["latency", "iris", "--plot", "no/such/folder/x.html"], "no/such/folder"),
        (["log", "iris", "-n", "0"], "-n"),
        (["log", "iris", "-f", "--until", "1m"], "--until"),
        (["log", "iris", "-f", "-o", "csv"], "-f"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_asked(
    terminal: Terminal, args: list[str], words: str
) -> None:
    outcome = terminal.run(*args)
    assert outcome.code == 2
    assert words in outcome.stderr
    assert not terminal.requests


def test_an_unknown_model_is_not_found(terminal: Terminal) -> None:
    for place in (LATENCY, LOG):
        terminal.refuse(place, 404, "model_not_found", "no model iris")
    assert terminal.run("latency", "iris").code == 3
    assert terminal.run("log", "iris").code == 3


# -- log -----------------------------------------------------------------------------------------


def test_a_line_per_request_with_everything_in_a_pipe(terminal: Terminal) -> None:
    refused = record(
        1,
        status=429,
        version="",
        replica="",
        shed=True,
        batch=0,
        queue_ns=None,
        predict_ns=None,
        format="",
        client="ci",
        arm="pinned",
    )
    terminal.answer(LOG, {**page(0), "records": [record(0), refused]})
    lines = terminal.run("log", "iris").stdout.splitlines()
    assert [" ".join(line.split()) for line in lines] == [
        "time status version total ms queue predict rows batch format route replica request id client remarks",
        "2026-11-22 06:20:00.000Z 200 v1 1.23 0.0200 0.510 1 1 rows predict iris-v1-bcdfg request-0 -",
        "2026-11-22 06:20:00.010Z 429 - 1.23 - - 1 - - predict - request-1 ci shed, pinned",
    ]


def test_on_a_terminal_whole_columns_are_left_out() -> None:
    assert len(record_text.fitting(None)) == 14
    for width in (20, 40, 80, 120, 160, 250):
        columns = record_text.fitting(width)
        line = record_text.line(RecordView.model_validate(record(0)), columns).plain
        assert len(line) <= max(width, 24)
        assert columns == record_text.COLUMNS[: len(columns)]
    assert [column.head for column in record_text.fitting(80)][-2:] == ["predict", "rows"]


def test_failures_stand_out() -> None:
    def style(status: int) -> str:
        return str(record_text.line(RecordView.model_validate(record(0, status=status)), record_text.COLUMNS).style)

    assert [style(status) for status in (200, 404, 429, 499, 500)] == ["", "yellow", "red", "yellow", "red"]


def test_the_log_is_read_to_its_end_and_what_is_missing_is_told(terminal: Terminal) -> None:
    pages = iter([page(0, 1, more=True), page(2, losses=LOSSES)])
    terminal.answers[LOG] = lambda request: httpx.Response(200, json=next(pages))
    outcome = terminal.run("log", "iris", "--since", "1h", "--where", "status=200")
    assert [line.split()[-2] for line in outcome.stdout.splitlines()[1:]] == ["request-0", "request-1", "request-2"]
    assert outcome.stderr.startswith("the log is incomplete: 3 records could not be stored")
    assert [request.url.params.get("after") for request in terminal.requests] == [None, cursor(1)]


def test_json_is_one_list_without_follow(terminal: Terminal) -> None:
    pages = iter([page(0, 1, more=True), page(2)])
    terminal.answers[LOG] = lambda request: httpx.Response(200, json=next(pages))
    assert [one["seq"] for one in terminal.run("log", "iris", "-o", "json").json] == [0, 1, 2]
    terminal.answer(LOG, page())
    assert terminal.run("log", "iris", "-o", "json").json == []


def test_limit_asks_for_the_newest(terminal: Terminal) -> None:
    terminal.answer(LOG, page(8, 9))
    assert len(terminal.run("log", "iris", "-n", "2", "-o", "json").json) == 2
    params = terminal.requests[-1].url.params
    assert (params["limit"], params["newest"]) == ("2", "true")


@pytest.mark.parametrize("kind", ["text", "json"])
def test_following_prints_what_was_and_what_comes_until_ctrl_c(terminal: Terminal, kind: str) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers["accept"] != "text/event-stream":
            return httpx.Response(200, json=page(0))
        if request.headers.get("last-event-id") == cursor(2):
            raise KeyboardInterrupt
        frames = (f"id: {cursor(seq)}\ndata: {json.dumps(record(seq))}\n\n" for seq in (0, 1, 2))
        return httpx.Response(200, content=": requests follow\n\n" + "".join(frames))

    terminal.answers[LOG] = answer
    outcome = terminal.run("log", "iris", "-f", "-o", kind)
    assert outcome.code == 130
    lines = outcome.stdout.splitlines()
    if kind == "json":
        assert [json.loads(line)["seq"] for line in lines] == [0, 1, 2]
    else:
        assert [line.split()[-2] for line in lines[1:]] == ["request-0", "request-1", "request-2"]


# -- plots ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.html", "out.png"])
def test_a_plot_is_written_beside_the_table(terminal: Terminal, tmp_path: Path, name: str) -> None:
    answer_windows(terminal, window(0), window(1))
    path = tmp_path / name
    outcome = terminal.run("latency", "iris", "--plot", str(path))
    assert outcome.code == 0
    assert outcome.stderr == f"plot: {path}\n"
    assert "whole span" in outcome.stdout
    assert path.read_bytes().startswith(b"\x89PNG" if name.endswith("png") else b"<!doctype html>")


def test_a_plot_tells_the_whole_span_and_what_is_missing(terminal: Terminal, tmp_path: Path) -> None:
    answer_windows(terminal, window(0), exact=False, relative_error=0.005, losses=LOSSES)
    path = tmp_path / "out.html"
    assert terminal.run("latency", "iris", "--plot", str(path), "-o", "json").code == 0
    text = path.read_text()
    for told in ("185 requests, 3 errors, average 2.50 ms", "p95 99.5 ms", "within 0.5 %", "3 records could not be"):
        assert told in text


def test_html_needs_no_matplotlib_and_png_names_the_extra(
    terminal: Terminal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    answer_windows(terminal, window(0))
    assert terminal.run("latency", "iris", "--plot", str(tmp_path / "out.html")).code == 0
    terminal.requests.clear()
    outcome = terminal.run("latency", "iris", "--plot", str(tmp_path / "out.png"))
    assert outcome.code == 9
    assert "headway[plot]" in outcome.stderr
    assert not terminal.requests
    assert not (tmp_path / "out.png").exists()


def test_a_folder_is_no_place_for_a_plot(terminal: Terminal, tmp_path: Path) -> None:
    answer_windows(terminal, window(0))
    (tmp_path / "out.html").mkdir()
    outcome = terminal.run("latency", "iris", "--plot", str(tmp_path / "out.html"))
    assert outcome.code == 2
    assert "out.html" in outcome.stderr
