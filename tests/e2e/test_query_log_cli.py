"""The query log through the real command line and the Python client, on real requests through the gateway."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from headway.client import Client
from scripts.check_docs import ROOT
from tests.docs.blocks import blocks, commands
from tests.e2e.calls import Caller
from tests.e2e.test_foreground import terminal
from tests.installation import HEADWAY, Installation
from tests.waiting import wait_until

GOOD, FAILING, BROKEN = "[[1.0]]", "[[-1.0]]", "[[nope"
CODE = """
def predict(X):
    if (X < 0).any():
        raise ValueError("negative")
    return [[{n}] for _ in X]
"""
SENT = {200: 40, 400: 5, 500: 3}


@pytest.fixture(scope="module")
def logged(shared: Installation) -> Iterator[Installation]:
    """Model ``iris`` with two versions, each of which has answered :data:`SENT`."""
    folder = shared.scratch / "iris"
    folder.mkdir(exist_ok=True)
    call = Caller(shared.data_url)
    for number in (1, 2):
        (folder / "model.py").write_text(CODE.format(n=number))
        shared.ok("deploy", str(folder), *(["--canary", "50%"] if number > 1 else []))
    for version in ("v1", "v2"):
        path = f"/models/iris/versions/{version}/predict"
        got = Counter(call(path, body).status for body in [GOOD] * 40 + [BROKEN] * 5 + [FAILING] * 3)
        assert got == SENT
    call.close()
    yield shared
    shared.ok("delete", "iris", "--yes")


def test_windows_count_what_was_sent_the_moment_it_was_answered(logged: Installation) -> None:
    found = logged.ok("latency", "iris", "--window", "1h", "--by", "version", "-o", "json").json()
    assert found["exact"] is True
    assert not any(found["losses"].values())
    for version in ("v1", "v2"):
        mine = [one for one in found["windows"] if one["group"] == {"version": version}]
        assert sum(one["count"] for one in mine) == 48
        assert sum(one["errors"] for one in mine) == 3
        assert sum(one["timed"] for one in mine) == 43
        assert all(0 < one["p50_ms"] <= one["p95_ms"] <= one["p99_ms"] < 10_000 for one in mine)


def test_every_field_has_latencies(logged: Installation) -> None:
    for field in ("total", "queue", "decode", "predict", "encode"):
        (one,) = logged.ok(
            "latency", "iris", "--window", "1d", "--field", field, "--where", "status=200", "-o", "json"
        ).json()["windows"]
        assert one["count"] == 80
        assert one["p99_ms"] > 0


def test_the_table_ends_with_the_whole_span(logged: Installation) -> None:
    lines = logged.ok("latency", "iris", "--since", "1h", "--window", "1m").stdout.splitlines()
    assert lines[0].startswith("iris: total time in windows of 1m, ")
    assert len(lines) == 3 + 60 + 1
    assert re.split(r" {2,}", lines[-1])[:4:3] == ["whole span", "6"]
    assert lines[-1].split()[2] == "96"


def test_files_hold_the_same(logged: Installation) -> None:
    rows = list(csv.DictReader(io.StringIO(logged.ok("log", "iris", "--since", "1h", "-o", "csv").stdout)))
    assert Counter(int(row["status"]) for row in rows) == {status: 2 * count for status, count in SENT.items()}
    for command, column in (("log", "count(*)"), ("latency", "sum(count)")):
        path = logged.scratch / f"{command}.parquet"
        with path.open("wb") as file:
            args = [str(HEADWAY), command, "iris", "--since", "1h", "-o", "parquet"]
            subprocess.run(args, stdout=file, env=logged.env, check=True, timeout=60)
        assert duckdb.connect().execute(f"select {column} from '{path}'").fetchall() == [(96,)]


def test_requests_are_found_one_by_one(logged: Installation) -> None:
    found = logged.ok("log", "iris", "--where", "status>=500", "--where", "version=v2", "-o", "json").json()
    assert [(one["status"], one["version"], one["rows"]) for one in found] == [(500, "v2", 1)] * 3
    newest = logged.ok("log", "iris", "-n", "2", "-o", "json").json()
    assert [one["request_id"] for one in newest] == [one["request_id"] for one in found[-2:]]
    lines = logged.ok("log", "iris", "--where", "status=400").stdout.splitlines()
    assert len(lines) == 1 + 10


def test_plots_are_written(logged: Installation) -> None:
    for name, begin in (("plot.html", b"<!doctype html>"), ("plot.png", b"\x89PNG")):
        path = logged.scratch / name
        logged.ok("latency", "iris", "--by", "version", "--plot", str(path))
        assert path.read_bytes().startswith(begin)


def test_what_cannot_be_asked_is_told_with_its_option(logged: Installation) -> None:
    for args, words in (
        (["latency", "iris", "--window", "1us"], "--window"),
        (["latency", "iris", "--since", "1s", "--until", "1m"], "--since"),
        (["log", "iris", "--where", "statsu=3"], "did you mean 'status'"),
    ):
        outcome = logged.run(*args)
        assert outcome.code == 2, str(outcome)
        assert words in outcome.stderr
    assert logged.run("latency", "nobody").code == 3
    assert logged.run("log", "nobody", "-f").code == 3


def test_following_shows_each_request_once_and_ends_with_ctrl_c(shared: Installation) -> None:
    folder = shared.scratch / "followed"
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(CODE.format(n=1))
    shared.ok("deploy", str(folder))
    call = Caller(shared.data_url)
    assert call("/models/followed/predict", GOOD, X_Request_Id="before").status == 200
    with terminal(shared, "log", "followed", "-f", "-o", "json") as screen:
        wait_until(lambda: screen.shows("before"), what="the request before")
        for number in range(20):
            assert call("/models/followed/predict", GOOD, X_Request_Id=f"followed-{number}").status == 200
        wait_until(lambda: screen.shows("followed-19"), what="the last request")
        screen.press(b"\x03")
        assert screen.process.wait(20) == 130
        assert "Traceback" not in screen.text
    told = [json.loads(line) for line in screen.text.splitlines() if line.startswith("{")]
    assert [one["request_id"] for one in told] == ["before", *(f"followed-{number}" for number in range(20))]
    call.close()
    shared.ok("delete", "followed", "--yes")


def test_a_terminal_gets_curves(logged: Installation) -> None:
    with terminal(logged, "latency", "iris", "--since", "10m") as screen:
        wait_until(lambda: screen.shows("whole span"), what="the table")
    assert "p95, top" in screen.text
    assert "█" in screen.text


def test_the_client_gives_frames_and_records(logged: Installation, tmp_path: Path) -> None:
    with Client(home=logged.home) as client:
        frame = client.windows("iris", window="1m", since="1h", by="version", where="status>=200").to_frame()
        assert frame.groupby("version")["errors"].sum().to_dict() == {"v1": 3, "v2": 3}
        assert str(frame.index.dtype).endswith("UTC]")
        statuses = Counter(one.status for one in client.records("iris", since="1h", where="version=v1"))
        assert statuses[500] == 3
        path = tmp_path / "windows.csv"
        path.write_bytes(b"".join(client.windows_file("iris", "csv", since="1h")))
        assert path.read_text().startswith("start,")


PAGES = [ROOT / "docs" / "how-to" / "measure-latency.md", ROOT / "docs" / "reference" / "python-client.md"]


def test_what_the_how_to_shows_works(logged: Installation, tmp_path: Path) -> None:
    shown = [command for block in blocks("console", of=PAGES[:1]) for command in commands(block)]
    env = {**logged.env, "PATH": f"{HEADWAY.parent}:{logged.env['PATH']}"}
    for command in shown:
        if "-f" in command.split():
            continue
        done = subprocess.run(command, shell=True, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert {path.name for path in tmp_path.iterdir()} == {"latency.html", "latency.csv", "requests.parquet"}
    assert len(shown) > 7


def test_the_python_examples_work(
    logged: Installation, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADWAY_HOME", str(logged.home))
    with Client() as client:
        scope: dict[str, object] = {"headway": client}
        examples = [block.code for block in blocks("python", of=PAGES) if ".windows(" in block.code]
        assert len(examples) == 2
        for code in reversed(examples):
            exec(code, scope)
    assert "6.25% failed" in capsys.readouterr().out
