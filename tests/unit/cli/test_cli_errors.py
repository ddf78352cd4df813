"""Whatever goes wrong, the command line says it in one block, with the error's exit code, and never as a traceback."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from headway.cli import main as entry
from headway.cli.app import app, run
from headway.domain.errors import tree
from tests.unit.cli.wire import Terminal, summary

USAGE = [
    ["nonsense"],
    ["deploy"],
    ["list", "--wings"],
    ["list", "-o", "yaml"],
    ["scale", "iris", "many"],
    ["scale", "iris", "--", "-1"],
    ["scale", "iris", "1001"],
    ["events", "--after", "minus"],
    ["up", "--data-port", "0"],
    ["predict", "iris"],
]
INPUT = [
    (["status", "..%2f"], "lowercase"),
    (["status", "a" * 300], "40"),
    (["versions", "Iris"], "lowercase"),
    (["predict", "a/b", "-d", "[]"], "lowercase"),
    (["predict", "iris", "-d", "[]", "--version", "one"], "v1"),
    (["predict", "iris", "-d", "@no-such-file"], "no-such-file"),
    (["predict", "iris", "-d", "@."], "directory"),
    (["traffic", "iris", "v1"], "v1=90"),
    (["traffic", "iris", "v1=x"], "v1=90"),
    (["traffic", "iris", "v1=50", "v1=50"], "twice"),
    (["traffic", "iris", "one=100"], "v1"),
    (["deploy", "no-such-folder"], "no-such-folder"),
    (["deploy", ".", "--canary", "0%"], "--canary"),
    (["deploy", ".", "--canary", "100"], "--canary"),
    (["deploy", ".", "--canary", "ten"], "--canary"),
    (["deploy", ".", "--name", "My Model"], "--name"),
    (["apply", "-f", "no-such.yaml"], "no-such.yaml"),
    (["diff", "-f", "."], "."),
    (["init", "My Model"], "lowercase"),
    (["init", "../x"], "lowercase"),
    (["logs", "iris", "--version", "latest"], "--version"),
    (["events", "--model", "No"], "--model"),
    (["token", "create", "x y"], "token name"),
    (["token", "create", "x", "--model", "a/b"], "--model"),
    (["token", "create", "x", "--scope", "root"], "--scope"),
    (["token", "revoke", "x/y"], "token name"),
]


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("args", USAGE, ids=" ".join)
def test_options_that_do_not_fit(terminal: Terminal, args: list[str]) -> None:
    for form in ([], ["-o", "json"]):
        # Options of the command itself come before a "--".
        outcome = terminal.run(*args[:1], *form, *args[1:])
        assert outcome.code == 2
        assert "Traceback" not in outcome.stderr
        assert outcome.stderr.strip()
    assert not terminal.requests


@pytest.mark.parametrize("args", USAGE[3:-1], ids=" ".join)
def test_options_that_do_not_fit_are_told_as_json_when_that_was_asked_for(terminal: Terminal, args: list[str]) -> None:
    outcome = terminal.run(args[0], "--output=json", *(a for a in args[1:] if a not in {"-o", "yaml"}), "--wings")
    assert outcome.code == 2
    assert json.loads(outcome.stderr)["error"]["code"] == "invalid_input"


@pytest.mark.parametrize(("args", "says"), INPUT, ids=lambda value: " ".join(value)[:40] if value else "")
def test_input_that_cannot_be_is_refused_before_anything_is_asked_for(
    terminal: Terminal, args: list[str], says: str
) -> None:
    outcome = terminal.run(*args)
    assert outcome.code == 2, outcome
    assert outcome.stdout == ""
    assert "error: " in outcome.stderr
    assert says in outcome.stderr
    assert "Traceback" not in outcome.stderr
    assert not terminal.requests
    told = json.loads(terminal.run(*args, "-o", "json").stderr)
    assert set(told) == {"error"}
    assert told["error"]["message"]


@pytest.mark.parametrize("kind", tree(), ids=lambda kind: kind.code)
def test_every_error_of_the_api_keeps_its_words_and_has_its_exit_code(terminal: Terminal, kind: Any) -> None:
    told = {"message": "[bold]what", "where": "spec.a[0]", "hint": "do [this]"}
    terminal.refuse("GET /v1/models", kind.status, kind.code, **told)
    outcome = terminal.run("list")
    assert outcome.code == kind.exit_code != 0
    assert outcome.stderr == "error: [bold]what\nwhere: spec.a[0]\nhint: do [this]\n"
    again = terminal.run("list", "-o", "json")
    assert again.code == kind.exit_code
    assert again.stdout == ""
    assert json.loads(again.stderr) == {"error": {"code": kind.code, **told}}


def test_the_log_of_a_failed_replica_is_shown_without_looking_like_our_crash(terminal: Terminal) -> None:
    tail = "\n".join(f"line {i}" for i in range(40)) + "\nTraceback (most recent call last):\nValueError: [no]"
    terminal.refuse("GET /v1/models", 422, "load_failed", "ValueError: [no]", details={"log_tail": tail})
    outcome = terminal.run("list")
    assert outcome.code == 7
    assert "ValueError: [no]" in outcome.stderr.splitlines()[-1]
    assert "Traceback" not in outcome.stderr
    assert len(outcome.stderr.splitlines()) < 20


def test_nobody_listens(terminal: Terminal) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused", request=request)

    terminal.answers["GET /v1/models"] = refuse
    outcome = terminal.run("list")
    assert outcome.code == 8
    assert "Connection refused" in outcome.stderr
    assert "HEADWAY_URL" in outcome.stderr


def test_nothing_runs_on_this_home(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["list"]) == 8
    assert "headway up --detach" in capsys.readouterr().err


def test_a_fault_of_our_own_is_one_line_and_says_how_to_see_more(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_(request: httpx.Request) -> httpx.Response:
        raise RuntimeError("[oops]")

    terminal.answers["GET /v1/models"] = break_
    outcome = terminal.run("list")
    assert outcome.code == 70
    assert outcome.stderr == (
        "error: RuntimeError: [oops]\nhint: this is a fault of Headway; HEADWAY_DEBUG=1 shows where\n"
    )
    monkeypatch.setenv("HEADWAY_DEBUG", "1")
    assert "Traceback" in terminal.run("list").stderr


def test_an_interrupt_is_130_and_silent(terminal: Terminal) -> None:
    def interrupt(request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    terminal.answers["GET /v1/models"] = interrupt
    for form in ([], ["-o", "json"]):
        outcome = terminal.run("list", *form)
        assert (outcome.code, outcome.stdout, outcome.stderr) == (130, "", "")


def test_the_entry_point_ends_with_the_commands_exit_code(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["headway", "list"])
    at_first = signal.getsignal(signal.SIGINT)
    terminal.answer("GET /v1/models", [summary()])
    try:
        with pytest.raises(SystemExit) as ended:
            entry.main()
        assert ended.value.code == 0
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN, "a late Ctrl-C changes nothing"
        terminal.refuse("GET /v1/models", 401, "unauthenticated", "no token")
        with pytest.raises(SystemExit) as ended:
            entry.main()
        assert ended.value.code == 4
    finally:
        signal.signal(signal.SIGINT, at_first)


def test_the_format_of_one_command_is_not_kept_for_the_next(terminal: Terminal) -> None:
    terminal.answer("GET /v1/models", [summary()])
    assert terminal.run("list", "-o", "json").stdout.startswith("[")
    assert terminal.run("list").stdout.startswith("model")


def test_every_command_can_print_json() -> None:
    import typer

    def leaves(command: Any, path: str = "headway") -> dict[str, Any]:
        children = getattr(command, "commands", None)
        if children is None:
            return {path: command}
        return {name: leaf for key, child in children.items() for name, leaf in leaves(child, f"{path} {key}").items()}

    found = leaves(typer.main.get_command(app))
    assert len(found) > 20
    without = [name for name, leaf in found.items() if not any("-o" in param.opts for param in leaf.params)]
    assert not without
