"""Every command that talks to the control API: what it asks for, what it prints, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.cli.wire import GATEWAY, Terminal, change, model, summary, version

IRIS = "/v1/models/iris"


def test_list_shows_state_traffic_and_readiness(terminal: Terminal) -> None:
    terminal.answer("GET /v1/models", [summary()])
    outcome = terminal.run("list")
    assert outcome.code == 0
    line = next(line for line in outcome.stdout.splitlines() if line.startswith("iris"))
    # Two versions of two replicas each are wished, three are ready.
    assert line.split() == ["iris", "ready", "v1", "90", "%,", "v2", "10", "%", "3/4", f"{GATEWAY}/models/iris"]


def test_list_of_nothing_says_what_to_do(terminal: Terminal) -> None:
    terminal.answer("GET /v1/models", [])
    assert "headway deploy" in terminal.run("list").stdout
    assert terminal.run("list", "-o", "json").json == []


def test_status_names_url_versions_replicas_and_failures(terminal: Terminal) -> None:
    failure = {"code": "out_of_memory", "message": "[red]used 600 MiB", "where": "model.py:3"}
    broken = {
        "name": "iris-v2-xyzzz",
        "version": "v2",
        "phase": "backoff",
        "ready": False,
        "restarts": 3,
        "reason": "OOMKilled",
        "failure": failure,
    }
    whole = model()
    whole["replica_list"].append(broken)
    whole["target"] = [{"version": "v2", "weight": 100}]
    whole["shadow"] = {"version": "v2", "percent": 5}
    whole["sticky"] = {"kind": "header", "name": "x-user"}
    terminal.answer(f"GET {IRIS}", whole)
    text = terminal.run("status", "iris").stdout
    for shown in (
        f"{GATEWAY}/models/iris/versions/v1",
        "wished    v2 100 %",
        "copy of 5 %",
        "by header x-user",
        "64.0 MiB",
        "2023-11-14 22:13:20Z",
        "OOMKilled",
        "[red]used 600 MiB (model.py:3)",
    ):
        assert shown in text


def test_versions_shows_why_one_failed(terminal: Terminal) -> None:
    failed = version("v2", state="failed", weight=None, failure={"code": "load_failed", "message": "ValueError: no"})
    terminal.answer(f"GET {IRIS}", model(versions=[version(), failed]))
    terminal.answer(f"GET {IRIS}/versions", [version(), failed])
    assert "ValueError: no" in terminal.run("versions", "iris").stdout
    assert [v["name"] for v in terminal.run("versions", "iris", "-o", "json").json] == ["v1", "v2"]


@pytest.mark.parametrize(
    ("args", "asked", "body"),
    [
        (["traffic", "iris", "v1=90", "v2=10"], f"PUT {IRIS}/traffic", {"weights": {"v1": 90, "v2": 10}}),
        (["traffic", "iris", "v1=90%", "v2=10%"], f"PUT {IRIS}/traffic", {"weights": {"v1": 90, "v2": 10}}),
        (["promote", "iris"], f"POST {IRIS}/promote", {"version": None}),
        (["promote", "iris", "v2"], f"POST {IRIS}/promote", {"version": "v2"}),
        (["rollback", "iris"], f"POST {IRIS}/rollback", None),
        (["scale", "iris", "3"], f"PUT {IRIS}/scale", {"replicas": 3}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_change_is_asked_for_and_not_waited_for_when_told_so(
    terminal: Terminal, args: list[str], asked: str, body: object
) -> None:
    terminal.answer(asked, change())
    outcome = terminal.run(*args, "--no-wait")
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout == "iris: asked for v1 100 %, 1 replica each\n"
    assert len(terminal.requests) == 1
    assert terminal.asked() == (asked, body)
    assert terminal.run(*args, "--no-wait", "-o", "json").json == change()


def test_a_change_is_waited_for(terminal: Terminal) -> None:
    terminal.answer(f"POST {IRIS}/rollback", change())
    terminal.answer(f"GET {IRIS}", model())
    terminal.answer("GET /v1/events", [])
    outcome = terminal.run("rollback", "iris")
    assert outcome.stdout == "iris: now v1 100 %, 1 replica each\n"
    assert f"GET {IRIS}" in [f"{r.method} {r.url.path}" for r in terminal.requests]


def test_predict_sends_what_it_is_given_and_prints_the_answer(terminal: Terminal, tmp_path: Path) -> None:
    body = '[[1, "é"]]'
    file = tmp_path / "rows.json"
    file.write_text(body, encoding="utf-8")
    terminal.answer("POST /models/iris/predict", {"predictions": [1]})
    terminal.answer("POST /models/iris/versions/v2/predict", {"predictions": [2]})
    assert terminal.run("predict", "iris", "-d", body).json == {"predictions": [1]}
    assert terminal.run("predict", "iris", "-d", f"@{file}", "--version", "v2").json == {"predictions": [2]}
    assert [r.content.decode() for r in terminal.requests] == [body, body]


def test_delete_asks_first(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    terminal.answer(f"GET {IRIS}", model())
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    outcome = terminal.run("delete", "iris")
    assert outcome.code == 2
    assert "--yes" in outcome.stderr
    assert "DELETE" not in {r.method for r in terminal.requests}


def test_delete_with_a_yes(terminal: Terminal) -> None:
    terminal.answer(f"GET {IRIS}", model())
    terminal.answer(f"DELETE {IRIS}", {"model": "iris", "cursor": 9})
    outcome = terminal.run("delete", "iris", "--yes", "--no-wait", "-o", "json")
    assert outcome.json == {"model": "iris", "deleted": False, "cursor": 9}


def events(*found: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"at": 1_700_000_000.0, "type": "replica_ready.v1", **event} for event in found]


def test_events_are_printed_in_order_with_their_cursors(terminal: Terminal) -> None:
    told = events({"cursor": 3, "model": "iris", "version": "v1", "data": {"message": "x" * 200}}, {"cursor": 4})
    terminal.answers["GET /v1/events"] = lambda request: httpx.Response(
        200, json=[event for event in told if event["cursor"] > int(request.url.params["after"])]
    )
    lines = terminal.run("events", "--after", "2", "--model", "iris").stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["3", "4"]
    assert "iris/v1" in lines[0]
    assert len(lines[0]) < 250
    assert terminal.requests[0].url.params["model"] == "iris"
    assert [e["cursor"] for e in terminal.run("events", "-o", "json").json] == [3, 4]


def test_logs_are_printed_as_they_are(terminal: Terminal) -> None:
    terminal.answers[f"GET {IRIS}/logs"] = lambda request: httpx.Response(200, content=b"[bold]one\ntwo\n")
    assert terminal.run("logs", "iris", "--tail", "2", "--version", "v1").stdout == "[bold]one\ntwo\n"
    assert dict(terminal.requests[0].url.params) == {"tail": "2", "version": "v1"}
    as_json = terminal.run("logs", "iris", "-o", "json").stdout.splitlines()
    assert [json.loads(line) for line in as_json] == [{"line": "[bold]one"}, {"line": "two"}]


TOKEN = {
    "name": "ci",
    "scope": "predict",
    "models": ["iris"],
    "created_at": 1_700_000_000.0,
    "expires_at": 1_700_003_600.0,
    "revoked_at": None,
    "state": "active",
}


def test_a_token_goes_to_standard_output_alone(terminal: Terminal) -> None:
    terminal.answer("POST /v1/tokens", {**TOKEN, "token": "hw_new"}, 201)
    outcome = terminal.run("token", "create", "ci", "--model", "iris", "--expires", "1h")
    assert outcome.stdout == "hw_new\n"
    assert "hw_new" not in outcome.stderr
    assert "only time" in outcome.stderr
    body = {"name": "ci", "scope": "predict", "models": ["iris"], "expires_in_s": 3600.0}
    assert terminal.asked() == ("POST /v1/tokens", body)


def test_tokens_are_listed_and_revoked(terminal: Terminal) -> None:
    terminal.answer("GET /v1/tokens", [TOKEN])
    terminal.answer("DELETE /v1/tokens/ci", {**TOKEN, "state": "revoked"})
    assert "2023-11-14 23:13:20Z" in terminal.run("token", "list").stdout
    assert terminal.run("token", "revoke", "ci").stdout == "token ci is revoked\n"


@pytest.mark.parametrize("lifetime", ["0d", "1", "d", "1y", "-1h", "1.5h", ""])
def test_a_lifetime_that_is_none_is_refused(terminal: Terminal, lifetime: str) -> None:
    outcome = terminal.run("token", "create", "ci", f"--expires={lifetime}")
    assert outcome.code == 2
    assert "--expires" in outcome.stderr
    assert not terminal.requests


def test_info_and_version(terminal: Terminal) -> None:
    info = {
        "version": "0.1.0",
        "pid": 1,
        "started_at": 1_700_000_000.0,
        "home": "/home/[x]",
        "control_url": "http://[::1]:8421",
        "gateway_url": GATEWAY,
        "gateway_running": False,
        "gateway_pid": None,
        "gateway_version": "2.8",
        "gateway_adopted": False,
        "models": 2,
        "replicas": 3,
        "require_token": True,
    }
    terminal.answer("GET /v1/info", info)
    text = terminal.run("info").stdout
    for shown in ("/home/[x]", "http://[::1]:8421", "not running", "2 models, 3 replicas", "required"):
        assert shown in text
    assert terminal.run("version", "-o", "json").json["version"] == terminal.run("version").stdout.strip()


def test_the_schema_is_printed_without_a_control_plane(terminal: Terminal) -> None:
    assert terminal.run("schema").json["title"] == "ModelDeployment"
    assert not terminal.requests
