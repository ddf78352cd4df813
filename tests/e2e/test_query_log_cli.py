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
    """Model ``logged`` with two versions, each of which has answered :data:`SENT`."""
    folder = shared.scratch / "logged"
    folder.mkdir()
    call = Caller(shared.data_url)
    for number in (1, 2):
        (folder / "model.py").write_text(CODE.format(n=number))
        shared.ok("deploy", str(folder), *(["--canary", "50%"] if number > 1 else []))
    for version in ("v1", "v2"):
        path = f"/models/logged/versions/{version}/predict"
        got = Counter(call(path, body).status for body in [GOOD] * 40 + [BROKEN] * 5 + [FAILING] * 3)
        assert got == SENT
    call.close()
    yield shared
    shared.ok("delete", "logged", "--yes")


def test_windows_count_what_was_sent_the_moment_it_was_answered(logged: Installation) -> None:
    found = logged.ok("latency", "logged", "--window", "1h", "--by", "version", "-o", "json").json()
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
            "latency", "logged", "--window", "1d", "--field", field, "--where", "status=200", "-o", "json"
        ).json()["windows"]
        assert one["count"] == 80
        assert one["p99_ms"] > 0


def test_the_table_ends_with_the_whole_span(logged: Installation) -> None:
    lines = logged.ok("latency", "logged", "--since", "1h", "--window", "1m").stdout.splitlines()
    assert lines[0].startswith("logged: total time in windows of 1m, ")
    assert len(lines) == 3 + 60 + 1
    assert re.split(r" {2,}", lines[-1])[:4:3] == ["whole span", "6"]
    assert lines[-1].split()[2] == "96"


def test_files_hold_the_same(logged: Installation) -> None:
    rows = list(csv.DictReader(io.StringIO(logged.ok("log", "logged", "--since", "1h", "-o", "csv").stdout)))
    assert Counter(int(row["status"]) for row in rows) == {status: 2 * count for status, count in SENT.items()}
    for command, column in (("log", "count(*)"), ("latency", "sum(count)")):
        path = logged.scratch / f"{command}.parquet"
        with path.open("wb") as file:
            args = [str(HEADWAY), command, "logged", "--since", "1h", "-o", "parquet"]
            subprocess.run(args, stdout=file, env=logged.env, check=True, timeout=60)
        assert duckdb.connect().execute(f"select {column} from '{path}'").fetchall() == [(96,)]


def test_requests_are_found_one_by_one(logged: Installation) -> None:
    found = logged.ok("log", "logged", "--where", "status>=500", "--where", "version=v2", "-o", "json").json()
    assert [(one["status"], one["version"], one["rows"]) for one in found] == [(500, "v2", 1)] * 3
    newest = logged.ok("log", "logged", "-n", "2", "-o", "json").json()
    assert [one["request_id"] for one in newest] == [one["request_id"] for one in found[-2:]]
    lines = logged.ok("log", "logged", "--where", "status=400").stdout.splitlines()
    assert len(lines) == 1 + 10


def test_plots_are_written(logged: Installation) -> None:
    for name, begin in (("plot.html", b"<!doctype html>"), ("plot.png", b"\x89PNG")):
        path = logged.scratch / name
        logged.ok("latency", "logged", "--by", "version", "--plot", str(path))
        assert path.read_bytes().startswith(begin)


def test_what_cannot_be_asked_is_told_with_its_option(logged: Installation) -> None:
    for args, words in (
        (["latency", "logged", "--window", "1us"], "--window"),
        (["latency", "logged", "--since", "1s", "--until", "1m"], "--since"),
        (["log", "logged", "--where", "statsu=3"], "did you mean 'status'"),
    ):
        outcome = logged.run(*args)
        assert outcome.code == 2, str(outcome)
        assert words in outcome.stderr
    assert logged.run("latency", "nobody").code == 3
    assert logged.run("log", "nobody", "-f").code == 3


def test_following_shows_each_request_once_and_ends_with_ctrl_c(logged: Installation) -> None:
    call = Caller(logged.data_url)
    with terminal(logged, "log", "logged", "-f", "-n", "1", "-o", "json") as screen:
        wait_until(lambda: screen.shows("}"), 20, what="the newest request")
        for number in range(20):
            assert call("/models/logged/predict", GOOD, X_Request_Id=f"followed-{number}").status == 200
        wait_until(lambda: screen.shows("followed-19"), 20, what="the last request")
        screen.press(b"\x03")
        assert screen.process.wait(20) == 130
        assert "Traceback" not in screen.text
    told = [json.loads(line) for line in screen.text.splitlines() if line.startswith("{")]
    assert [one["request_id"] for one in told[1:]] == [f"followed-{number}" for number in range(20)]
    call.close()


def test_a_terminal_gets_curves(logged: Installation) -> None:
    with terminal(logged, "latency", "logged", "--since", "10m") as screen:
        wait_until(lambda: screen.shows("whole span"), 20, what="the table")
    assert "p95, top" in screen.text
    assert "█" in screen.text


def test_the_client_gives_frames_and_records(logged: Installation, tmp_path: Path) -> None:
    with Client(home=logged.home) as client:
        frame = client.windows("logged", window="1m", since="1h", by="version", where="status>=200").to_frame()
        assert frame.groupby("version")["errors"].sum().to_dict() == {"v1": 3, "v2": 3}
        assert str(frame.index.dtype).endswith("UTC]")
        statuses = Counter(one.status for one in client.records("logged", since="1h", where="version=v1"))
        assert statuses[500] == 3
        path = tmp_path / "windows.csv"
        path.write_bytes(b"".join(client.windows_file("logged", "csv", since="1h")))
        assert path.read_text().startswith("start,")
