"""What the command line owes its surroundings: help, completion, closed streams, tables, a quick start."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from typing import Any

import httpx
import pytest
import typer

from headway.cli import output
from headway.cli.app import app, run
from headway.cli.completion import model_names
from tests.unit.cli.wire import Terminal, model, summary

IRIS = "/v1/models/iris"
PANELS = ["Start and stop", "Publish", "Look and call", "Traffic and replicas", "Access and reference"]


# -- help ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [["--help"], ["-h"], []], ids=" ".join)
def test_help_groups_the_commands_and_tells_each_in_one_line(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, args: list[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    outcome = terminal.run(*args)
    assert outcome.code == (0 if args else 2)
    places = [outcome.stdout.index(f"─ {panel} ─") for panel in PANELS]
    assert places == sorted(places)
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for name, command in commands.items():
        lines = [line for line in outcome.stdout.splitlines() if line.startswith(f"│ {name} ")]
        assert len(lines) == 1
        assert command.help.split("\n\n")[0] in lines[0], f"{name} does not fit into one line of 80 columns"


def test_a_group_without_a_command_shows_its_help(terminal: Terminal) -> None:
    outcome = terminal.run("token")
    assert outcome.code == 2
    assert "revoke" in outcome.stdout


def test_a_misspelt_command_is_put_right(terminal: Terminal) -> None:
    outcome = terminal.run("depoy")
    assert outcome.code == 2
    assert outcome.stderr.splitlines() == [
        "error: No such command 'depoy'. Did you mean 'deploy'?",
        "hint: headway --help",
    ]


def test_arguments_that_do_not_fit_point_to_the_commands_own_help(terminal: Terminal) -> None:
    for args in (["token", "create"], ["token", "create", "ci", "--wings"]):
        assert terminal.run(*args).stderr.splitlines()[-1] == "hint: headway token create --help"


# -- completion ----------------------------------------------------------------------------------


def complete(line: str, monkeypatch: pytest.MonkeyPatch, terminal: Terminal) -> list[str]:
    """What bash is offered for the last word of ``line``."""
    monkeypatch.setenv("_HEADWAY_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    outcome = terminal.run()
    assert outcome.stderr == ""
    return outcome.stdout.split()


def test_commands_options_and_model_names_are_completed(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.answer("GET /v1/models", [summary("iris"), summary("irises"), summary("rain")])
    assert complete("headway de", monkeypatch, terminal) == ["deploy", "delete"]
    assert complete("headway deploy --ca", monkeypatch, terminal) == ["--canary"]
    for command in (
        "autoscale",
        "explain",
        "status",
        "logs",
        "predict",
        "scale",
        "traffic",
        "promote",
        "rollback",
        "versions",
        "delete",
    ):
        assert complete(f"headway {command} ir", monkeypatch, terminal) == ["iris", "irises"]


def test_completion_without_a_control_plane_offers_nothing_and_says_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    context = typer.Context(typer.main.get_command(app))
    assert model_names(context, "") == []
    monkeypatch.setenv("HEADWAY_CONTROL_PORT", "not a port")
    assert model_names(context, "") == []
    context.params = {"context_name": "nowhere", "namespace": None}
    assert model_names(context, "") == []
    assert capsys.readouterr() == ("", "")


# -- streams -------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [["schema"], ["list"], ["list", "-o", "json"], ["logs", "iris"]], ids=" ".join)
def test_a_reader_that_goes_away_ends_the_command_quietly(args: list[str]) -> None:
    command = [sys.executable, "-c", PLAYED.format(args=args)]
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


PLAYED = """
import json, sys, httpx, headway.client
from functools import partial
from headway.cli.app import run
from tests.unit.cli.wire import summary

def answer(request):
    if request.url.path.endswith("logs"):
        return httpx.Response(200, content=b"one\\ntwo\\n")
    return httpx.Response(200, json=[summary()])

url = "http://control.example:8421"
headway.client.Client = partial(headway.client.Client, url, "hw_x", transport=httpx.MockTransport(answer))
sys.exit(run({args!r}))
"""


def test_a_disk_that_is_full_is_told_as_what_it_is(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(text: str) -> int:
        raise OSError(28, "No space left on device")

    terminal.answer("GET /v1/models", [])
    monkeypatch.setattr("sys.stdout.write", full, raising=False)
    code = run(["list", "-o", "json"])
    monkeypatch.undo()
    assert code == 9


def test_predict_reads_standard_input(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.answer("POST /models/iris/predict", {"predictions": []})
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"[[\xff]]")))
    assert terminal.run("predict", "iris", "-d", "@-").code == 0
    assert terminal.requests[0].content == b"[[\xff]]"
    monkeypatch.setattr("sys.stdin", None)
    outcome = terminal.run("predict", "iris", "-d", "@-")
    assert outcome.code == 2
    assert "standard input" in outcome.stderr


def test_predict_sends_the_bytes_that_the_shell_gave(terminal: Terminal) -> None:
    terminal.answer("POST /models/iris/predict", {"predictions": []})
    assert terminal.run("predict", "iris", "-d", os.fsdecode(b'["\xff\xe9"]')).code == 0
    assert terminal.requests[0].content == b'["\xff\xe9"]'


def test_events_that_are_followed_are_one_json_value_per_line(terminal: Terminal) -> None:
    event = {"cursor": 3, "at": 0.0, "type": "version_live.v1", "model": "iris", "version": "v1", "data": {}}

    def stream(request: httpx.Request) -> httpx.Response:
        if request.headers["last-event-id"] == "3":
            raise KeyboardInterrupt
        return httpx.Response(200, content=f"id: 3\ndata: {json.dumps(event)}\n\n".encode())

    terminal.answers["GET /v1/events"] = stream
    outcome = terminal.run("events", "-f", "-o", "json")
    assert outcome.code == 130
    assert [json.loads(line)["cursor"] for line in outcome.stdout.splitlines()] == [3]
    assert terminal.run("events", "-f").stdout.split()[0] == "3"


# -- what is printed -----------------------------------------------------------------------------


def test_a_table_has_columns_and_nothing_at_the_end_of_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(("name", "what"), [("iris", "[red]two\nlines"), ("日本", ""), ("longer-name", "x" * 300)], empty="-")
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["name          what", "iris          [red]two lines", "日本"]
    assert lines[3].endswith("x" * 300)
    output.table(("name",), [], empty="none yet")
    assert capsys.readouterr().out == "none yet\n"


def test_of_a_stack_the_users_own_frames_are_shown() -> None:
    bundle = "/home/x/.headway/bundles/" + "a" * 64
    tail = f"""2026-01-01 headway ERROR importing model failed
Traceback (most recent call last):
  File "/x/headway/server/loading.py", line 67, in guard
    return call()
           ^^^^^^
  File "/usr/lib/python3.11/importlib/__init__.py", line 126, in import_module
    return _bootstrap._gcd_import(name[level:], package, level)
  File "<frozen importlib._bootstrap>", line 1204, in _gcd_import
  File "{bundle}/model.py", line 16, in <module>
    raise RuntimeError("not today")
RuntimeError: not today
"""
    assert output.log_lines(tail) == [
        "2026-01-01 headway ERROR importing model failed",
        "the model's stack:",
        '  File "model.py", line 16, in <module>',
        '    raise RuntimeError("not today")',
        "RuntimeError: not today",
    ]
    assert output.log_lines("\n".join(map(str, range(100)))) == [str(n) for n in range(85, 100)]
    assert output.log_lines("") == []


def test_status_shows_why_the_newest_version_failed_and_its_log(terminal: Terminal) -> None:
    failure = {"code": "load_failed", "message": "ValueError: no", "where": "model.py:3", "hint": "h", "log_tail": "l1"}
    failed = {
        "name": "v2",
        "digest": "d" * 64,
        "bundle_digest": "b" * 64,
        "state": "failed",
        "state_since": 0.0,
        "created_at": 0.0,
        "failure": failure,
    }
    view = model()
    view["versions"].append(failed)
    terminal.answer(f"GET {IRIS}", view)
    shown = terminal.run("status", "iris").stdout
    assert shown.endswith("v2 failed: ValueError: no (model.py:3)\nlast lines of its log:\n  l1\nhint: h\n")
    view["versions"].append({**failed, "name": "v3", "state": "live", "failure": None})
    terminal.answer(f"GET {IRIS}", view)
    assert "v2 failed" not in terminal.run("status", "iris").stdout


# -- a quick start -------------------------------------------------------------------------------

HEAVY = {"fastapi", "uvicorn", "sqlalchemy", "alembic", "psutil", "yaml", "pathspec", "numpy", "headway.bootstrap"}


def imported(statement: str) -> set[str]:
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_help_needs_neither_a_client_nor_a_server() -> None:
    found = imported("import headway.cli.app")
    assert not found & (HEAVY | {"httpx", "headway.client", "headway.settings", "headway.api.schemas"})


def test_looking_at_a_model_needs_no_server_and_no_document() -> None:
    found = imported("import headway.cli.app\nfrom headway.client import Client")
    assert not found & (HEAVY | {"headway.domain.spec"})


def test_the_whole_command_line_can_be_run_as_a_module(capsys: pytest.CaptureFixture[Any]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "headway.cli.main", "version"], capture_output=True, text=True, check=True, timeout=60
    )
    assert run(["version"]) == 0
    assert done.stdout == capsys.readouterr().out
