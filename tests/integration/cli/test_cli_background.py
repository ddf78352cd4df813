"""``up --detach`` and ``down`` with a stub for the control plane: started, awaited, refused, told to end."""

from __future__ import annotations

import json
import os
import shlex
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from headway.cli import process
from headway.cli.app import run
from headway.domain.errors import ControlUnreachable
from tests.leaks import processes_of
from tests.waiting import PortPicker, wait_until

STUB = Path(__file__).with_name("stub_control.py")
Start = Callable[[str], None]


@pytest.fixture
def home(scratch: Path) -> Path:
    return scratch / "home"


@pytest.fixture
def stub(scratch: Path, home: Path, free_port: PortPicker, monkeypatch: pytest.MonkeyPatch) -> Start:
    """``stub("ready")``: what the next start of a control plane gets instead."""
    port = free_port()
    monkeypatch.setenv("HEADWAY_CONTROL_PORT", str(port))
    interpreter = scratch / "python"
    interpreter.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(str(STUB))} "$@"\n')
    interpreter.chmod(interpreter.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(sys, "executable", str(interpreter))

    def choose(how: str) -> None:
        monkeypatch.setenv("STUB", how)

    return choose


@pytest.fixture
def started(stub: Start, home: Path, capsys: pytest.CaptureFixture[str]) -> int:
    """The pid of a running stub."""
    stub("ready")
    assert run(["up", "--detach", "--data-port", "12345", "-o", "json"]) == 0
    home.mkdir(exist_ok=True)
    (home / "admin.token").write_text("hw_home")
    return int(json.loads(capsys.readouterr().out)["pid"])


def gone(pid: int) -> bool:
    """Whether our child has ended; reaped, so that it is no zombie."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def test_up_detach_ends_once_it_answers_and_down_once_it_has_ended(
    started: int, home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log = (home / "control.log").read_text()
    assert "arguments -m headway.cli.main up -o json --data-port 12345" in log
    assert "GET /healthz" in log

    assert run(["up", "--detach"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "Headway is already up"

    # Another machine's: not what "down" is about.
    monkeypatch.setenv("HEADWAY_URL", "http://elsewhere.example:1")
    monkeypatch.setenv("HEADWAY_TOKEN", "hw_elsewhere")
    assert run(["down"]) == 0
    assert capsys.readouterr().out == "Headway is down\n"
    wait_until(lambda: gone(started), what="the end of the stub")


def test_down_waits_no_longer_than_told(started: int) -> None:
    with process.Watched(started) as watched, pytest.raises(ControlUnreachable, match="has not ended"):
        watched.await_end(0.01)
    os.kill(started, signal.SIGKILL)
    wait_until(lambda: gone(started))
    with process.Watched(started) as watched:
        watched.await_end(0.01)


def test_the_error_it_ends_with_is_the_commands(stub: Start, capsys: pytest.CaptureFixture[str]) -> None:
    stub("refuses")
    assert run(["up", "--detach"]) == 5
    assert capsys.readouterr().err == "error: taken\nwhere: --control-port\nhint: another\n"


def test_a_crash_shows_the_end_of_the_log_as_far_as_it_is_of_today(
    stub: Start, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stub("crashes")
    home.mkdir(exist_ok=True)
    (home / "control.log").write_text('{"error": {"code": "forbidden", "message": "of another day"}}\n')
    assert run(["up", "--detach"]) == 70
    told = capsys.readouterr().err
    assert "RuntimeError: not foreseen" in told
    assert "control.log" in told
    assert "Traceback" not in told


def test_one_that_never_answers_is_given_up_and_told_to_end(
    stub: Start, scratch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub("silent")
    monkeypatch.setattr(process, "START_S", 0.5)
    assert run(["up", "--detach"]) == 8
    assert "did not come up" in capsys.readouterr().err
    assert not processes_of(scratch)


def test_what_a_crash_left_behind_is_not_taken_for_a_running_one(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home.mkdir(exist_ok=True)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    for content in (f'{{"pid": {ended.pid}}}', '{"pid": "x"}', "[]", "{", '{"pid": 1e400}', f'{{"pid": {10**30}}}'):
        (home / "control.json").write_text(content)
        assert process.announced(home) is None, content
    assert not process.answers({})
    assert not process.answers({"control_url": "http://127.0.0.1:1"})
    assert run(["down", "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"stopped": []}


def test_a_long_log_is_put_aside(
    stub: Start, home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub("refuses")
    monkeypatch.setattr(process, "MAX_LOG_BYTES", 10)
    home.mkdir(exist_ok=True)
    (home / "control.log").write_text("something long ago\n")
    assert run(["up", "--detach"]) == 5
    assert "something" not in (home / "control.log").read_text()
    assert (home / "control.log.1").read_text() == "something long ago\n"


@pytest.mark.parametrize(
    ("args", "variable", "where"),
    [
        (["up", "--detach"], "HEADWAY_DATA_PORT", "HEADWAY_DATA_PORT"),
        (["down"], "HEADWAY_CONTROL_PORT", "HEADWAY_CONTROL_PORT"),
    ],
)
def test_a_setting_that_cannot_be_is_named(
    args: list[str], variable: str, where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, "many")
    assert run(args) == 2
    assert f"where: {where}" in capsys.readouterr().err


def test_a_home_that_cannot_be_is_named(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (scratch / "file").write_text("")
    monkeypatch.setenv("HEADWAY_HOME", str(scratch / "file" / "home"))
    assert run(["up", "--detach"]) == 2
    assert "where: HEADWAY_HOME" in capsys.readouterr().err
