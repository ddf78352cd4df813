"""Progress: lines in a pipe, one moving line on a terminal, nothing for programs."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from headway.cli import live_line, output, progress
from headway.cli.progress import LiveProgress
from headway.client import Progress
from tests.waiting import wait_until

QUICK = [
    Progress("bundle", "running", "reading the files"),
    Progress("bundle", "done", "3 files"),
    Progress("start", "running", "iris-v1-bcdfg loads the model"),
    Progress("start", "done", "iris-v1-bcdfg has loaded the model"),
]
FOREVER = 3600.0
CONTROL_CODES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def screen(monkeypatch: pytest.MonkeyPatch, *, terminal: bool) -> io.StringIO:
    """Where progress is written to from now on."""
    written = io.StringIO()
    console = Console(file=written, force_terminal=terminal, width=90, highlight=False, soft_wrap=True)
    for module in (progress, live_line, output):
        monkeypatch.setattr(module, "err", console)
    return written


def interrupt_after(steps: list[Progress]) -> None:
    with LiveProgress("deploying") as live:
        for step in steps:
            live.update(step)
        raise KeyboardInterrupt


@pytest.fixture
def pipe(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    return screen(monkeypatch, terminal=False)


@pytest.fixture
def terminal_screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    return screen(monkeypatch, terminal=True)


def lines(written: io.StringIO) -> list[list[str]]:
    """Columns of what was printed: divided where two spaces or more are, times left out."""
    return [re.split(r" {2,}", line.strip())[:-1] for line in written.getvalue().splitlines()]


def test_in_a_pipe_each_stage_gets_one_line(pipe: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINGER_S", FOREVER)
    with LiveProgress("deploying") as live:
        for step in [*QUICK, QUICK[-1]]:
            live.update(step)
    assert lines(pipe) == [
        ["bundle", "done", "3 files"],
        ["start", "done", "iris-v1-bcdfg has loaded the model"],
    ]
    places = {line.rindex(" s") for line in pipe.getvalue().splitlines()}
    assert len(places) == 1, "times stand below one another"


def test_in_a_pipe_what_takes_long_says_what_it_waits_for(pipe: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINGER_S", 0.0)
    with LiveProgress("deploying") as live:
        live.update(QUICK[2])
        wait_until(lambda: pipe.getvalue().count("\n") == 1, what="the late line")
        live.update(QUICK[3])
    assert lines(pipe) == [
        ["start", "running", "iris-v1-bcdfg loads the model"],
        ["start", "done", "iris-v1-bcdfg has loaded the model"],
    ]


def test_nothing_is_told_after_the_end(pipe: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    live = LiveProgress("deploying")
    with live:
        live.update(QUICK[2])
        late = live._late
        assert late is not None
    late.function(*late.args)  # as if its time had come at that very moment
    late.join(10)
    assert pipe.getvalue() == ""


def test_a_brief_progress_keeps_quick_stages_to_itself(pipe: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LINGER_S", FOREVER)
    with LiveProgress("scaling", brief=True) as live:
        for step in QUICK:
            live.update(step)
    assert pipe.getvalue() == ""
    monkeypatch.setattr(progress, "LINGER_S", -1.0)
    with LiveProgress("scaling", brief=True) as live:
        live.update(QUICK[1])
    assert lines(pipe) == [["bundle", "done", "3 files"]]


@pytest.mark.parametrize("brief", [False, True])
def test_a_stage_that_failed_is_named_and_its_reason_left_to_the_error(pipe: io.StringIO, brief: bool) -> None:
    with LiveProgress("deploying", brief=brief) as live:
        live.update(Progress("start", "failed", "RuntimeError: [not] today"))
    assert lines(pipe) == [["start", "failed"]]


def test_on_a_terminal_finished_stages_stay_and_the_moving_line_goes(terminal_screen: io.StringIO) -> None:
    with LiveProgress("deploying [iris]") as live:
        for step in QUICK[:3]:
            live.update(step)
        assert "loads the model" in live._moving().plain
    text = terminal_screen.getvalue()
    assert "deploying [iris]" in text
    # The last thing written to the screen is the removal of the moving line.
    assert text.rstrip().endswith("\x1b[2K")
    kept = [CONTROL_CODES.sub("", part).split("\r")[-1] for part in text.split("\n")]
    assert [line.split()[:3] for line in kept if line.startswith("✓")] == [["✓", "bundle", "3"]]


def test_on_a_terminal_the_moving_line_is_one_line_however_long(terminal_screen: io.StringIO) -> None:
    with LiveProgress("deploying") as live:
        live.update(Progress("environment", "running", "x" * 500))
        live._live.refresh()  # type: ignore[union-attr]
    shown = [CONTROL_CODES.sub("", part) for part in re.split(r"[\r\n]", terminal_screen.getvalue())]
    assert max(len(part) for part in shown) <= 90
    assert any(part.endswith("…") for part in shown)


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    written = screen(monkeypatch, terminal=True)
    with LiveProgress("deploying") as live:
        live.update(QUICK[1])
    assert "done" in written.getvalue()
    assert "\r" not in written.getvalue()


def test_interrupting_says_that_it_goes_on_once_something_was_begun(pipe: io.StringIO) -> None:
    for step, told in ((QUICK[0], False), (QUICK[3], True)):
        with pytest.raises(KeyboardInterrupt):
            interrupt_after([step])
        assert ("goes on" in pipe.getvalue()) is told


def test_programs_are_told_nothing(terminal_screen: io.StringIO) -> None:
    output.reset(output.Format.JSON)
    with pytest.raises(KeyboardInterrupt):
        interrupt_after(QUICK)
    assert terminal_screen.getvalue() == ""
