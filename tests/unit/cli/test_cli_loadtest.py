"""``headway loadtest`` before anything is sent: options without effect on the chosen load are refused by name."""

from __future__ import annotations

import socket
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from headway.cli.load_source import file_requests, file_rows, fitting, requests
from headway.domain.errors import InvalidInput
from tests.unit.cli.wire import Terminal, model


@pytest.fixture(autouse=True)
def _in_a_folder_with_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "users.py").write_text("")
    (tmp_path / "stages.yaml").write_text("stages: [{duration: 1s, rate: 5}]")


@pytest.mark.parametrize(
    ("asked", "where", "says"),
    [
        ("--rate 5 --speed 2", "--speed", "belongs to --replay, and this load is --rate"),
        ("--rate 5 --since 10m", "--since", "belongs to --replay"),
        ("--users 5 --until 10m", "--until", "belongs to --replay"),
        ("--rate 5 --spawn-rate 1", "--spawn-rate", "belongs to --users"),
        ("--rate 5 --think-time 1s", "--think-time", "belongs to --users"),
        ("--users 5 --arrivals constant", "--arrivals", "belongs to --rate"),
        ("--stages stages.yaml --duration 1m", "--duration", "belongs to --rate or --users"),
        ("--stages stages.yaml --arrivals poisson", "--arrivals", "arrivals: constant"),
        ("--stages stages.yaml --think-time 1s", "--think-time", "thinkTime: 2s"),
        ("--replay --duration 1m", "--duration", "--since and --until choose it"),
        ("--replay --rows 2", "--rows", "as many rows as the recorded one"),
        ("--replay --seed 2", "--seed", "belongs to --rate, --stages or --users"),
        ("--replay-file log.csv --since 10m", "--since", "the whole file is sent"),
        ("--replay-file log.csv --duration 1m", "--duration", "--speed makes it shorter"),
        ("--replay-file log.csv --replay", "--replay-file", "exclude each other"),
        ("--replay-file log.csv --rate 5", "--replay", "--rate and --replay exclude each other"),
        ("--users 5 --locustfile users.py --data rows.csv", "--data", "stands in the file"),
        ("--users 5 --locustfile users.py --rows 2", "--rows", "stands in the file"),
        ("--users 5 --locustfile users.py --think-time 2s", "--think-time", "stands in the file"),
        ("--users 5 --locustfile users.py --seed 2", "--seed", "stands in the file"),
    ],
)
def test_an_option_without_effect_is_refused_by_name(terminal: Terminal, asked: str, where: str, says: str) -> None:
    outcome = terminal.run("loadtest", "iris", *asked.split())
    assert outcome.code == 2, outcome
    assert f"where: {where}\n" in outcome.stderr
    assert says in outcome.stderr
    assert not terminal.requests
    assert not list(Path().glob("loadtest-*"))


@pytest.mark.parametrize(
    "asked",
    [
        "--rate 5:10 --duration 1s --arrivals constant --seed 2 --rows 3",
        "--users 5 --duration 1s --spawn-rate 1 --think-time 2s --seed 2 --rows 3",
        "--stages stages.yaml --seed 2 --rows 3",
        "--users 5 --duration 1s --spawn-rate 1 --locustfile users.py --timeout 3s",
        "--replay --since 1h --until 1m --speed 2 --data rows.csv",
        "--replay-file log.csv --speed 2 --rows 3 --data rows.csv",
    ],
)
def test_all_options_of_a_load_are_taken(terminal: Terminal, asked: str) -> None:
    outcome = terminal.run("loadtest", "iris", *asked.split())
    assert "nothing at" in outcome.stderr  # the API that is not there: the options were all right
    assert terminal.requests


def test_a_report_that_cannot_be_written_is_told_before_the_load(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "page.json").mkdir()
    outcome = terminal.run("loadtest", "iris", "--rate", "5", "--report", "page.html")
    assert outcome.code == 2, outcome
    assert "cannot write page.json" in outcome.stderr
    assert not (tmp_path / "page.html").exists()
    assert not terminal.requests


def test_an_older_report_stays_until_there_is_a_new_one(terminal: Terminal, tmp_path: Path) -> None:
    for name in ("page.html", "page.json"):
        (tmp_path / name).write_text("older")
    terminal.run("loadtest", "iris", "--rate", "5", "--report", "page.html")
    assert [(tmp_path / name).read_text() for name in ("page.html", "page.json")] == ["older", "older"]


def test_a_port_that_is_taken_is_told_before_the_load(terminal: Terminal) -> None:
    terminal.answer("GET /v1/models/iris", model())
    terminal.answer("GET /v1/models/iris/sample", [[1]])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        outcome = terminal.run("loadtest", "iris", "--users", "5", "--web", str(port))
    assert outcome.code == 2, outcome
    assert f"no page can be at port {port} of 127.0.0.1" in outcome.stderr
    assert "where: --web\n" in outcome.stderr


class Particular:
    """A model that takes one kind of body."""

    def __init__(self, begins: bytes) -> None:
        self.begins = begins
        self.asked: list[bytes] = []

    def predict(self, name: str, body: bytes, *, version: str | None = None) -> bytes:
        self.asked.append(body)
        if not body.startswith(self.begins):
            raise InvalidInput(f"{name} takes what begins with {self.begins.decode()}")
        return b"{}"

    def sample(self, name: str, *, version: str | None = None) -> bytes:
        return b'{"a": 1}'

    def signature(self, name: str) -> dict[str, Any]:
        raise NotImplementedError


def test_records_of_a_file_are_requests_of_their_own_for_a_model_that_takes_no_list(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text('{"a": 1}\n{"a": 2}\n')
    rows, given = file_requests(data, 1), partial(file_rows, data)
    assert [one.body for one in fitting(Particular(b"["), "iris", None, rows, given)] == [b'[{"a":1}]', b'[{"a":2}]']
    assert [one.body for one in fitting(Particular(b"{"), "iris", None, rows, given)] == [b'{"a":1}', b'{"a":2}']
    assert "each record is a request of its own" in capsys.readouterr().err
    for more in (given, None):
        with pytest.raises(InvalidInput, match="the model refuses the first request: iris takes what begins with 7"):
            fitting(Particular(b"7"), "iris", None, rows, more)


def test_a_sample_that_is_no_list_of_rows_is_sent_as_it_is_and_has_no_rows_to_ask_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    model = Particular(b"{")
    assert [one.body for one in requests(model, "iris", None, None, 1, None)] == [b'{"a": 1}']
    assert [one.body for one in requests(model, "iris", None, None, 1, (2, 3))] == [b'{"a": 1}']
    assert "whatever was recorded" in capsys.readouterr().err
    with pytest.raises(InvalidInput) as refused:
        requests(model, "iris", None, None, 5, None)
    assert refused.value.where == "--rows"
