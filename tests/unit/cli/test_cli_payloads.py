"""``headway payloads`` and ``Client.payloads`` against a control API pretended at the wire."""

from __future__ import annotations

import json
from typing import Any

import pytest

import headway.client
from headway.cli.payloads import block
from headway.domain.errors import InvalidInput
from tests.unit.cli.wire import Terminal

PAYLOADS = "GET /v1/models/iris/payloads"
TS_NS = 1_795_328_400_123_456_789


def kept(**changed: Any) -> dict[str, Any]:
    made = {
        "at": TS_NS / 1e9, "ts_ns": TS_NS, "version": "v1", "stream": "s", "seq": 0, "request_id": "id-0",
        "route": "/predict", "status": 200, "input": [{"a": 1, "ssn": "[redacted]"}], "output": {"text": "é\n"},
    }  # fmt: skip
    return {**made, **changed}


def page(*payloads: dict[str, Any]) -> dict[str, Any]:
    return {"model": "iris", "since": 0.0, "until": 1.0, "payloads": list(payloads)}


def test_a_block_for_each_request(terminal: Terminal) -> None:
    terminal.answer(PAYLOADS, page(kept(), kept(request_id="id\x1b-1", output={"x": "y" * 500})))
    outcome = terminal.run("payloads", "iris", "--since", "2h", "--until", "1h", "-n", "7")
    assert outcome.code == 0
    assert outcome.stderr == ""
    assert outcome.stdout.splitlines() == [
        "2026-11-22 06:20:00.123Z  v1  /predict  200  id-0",
        '  in   [{"a":1,"ssn":"[redacted]"}]',
        '  out  {"text":"é\\n"}',
        "2026-11-22 06:20:00.123Z  v1  /predict  200  id\ufffd-1",
        '  in   [{"a":1,"ssn":"[redacted]"}]',
        '  out  {"x":"' + "y" * 500 + '"}',
    ]
    assert dict(terminal.requests[0].url.params) == {"since": "2h", "until": "1h", "limit": "7"}


def test_on_a_terminal_lines_are_cut_to_its_width() -> None:
    lines = [line.plain for line in block(kept(output="日" * 100), 20)]
    assert lines == ["2026-11-22 06:20:00…", '  in   [{"a":1,"ssn…', '  out  "日日日日日 …']


def test_json_is_the_list(terminal: Terminal) -> None:
    terminal.answer(PAYLOADS, page(kept()))
    outcome = terminal.run("payloads", "iris", "-o", "json")
    assert json.loads(outcome.stdout) == [kept()]
    assert dict(terminal.requests[0].url.params) == {"since": "1h", "limit": "100"}


def test_none_kept_says_how_to_keep_some(terminal: Terminal) -> None:
    terminal.answer(PAYLOADS, page())
    outcome = terminal.run("payloads", "iris")
    assert (outcome.code, outcome.stdout) == (0, "no payloads in this time\n")
    assert "queryLog.payloads.sample" in outcome.stderr
    assert terminal.run("payloads", "iris", "-o", "json").stdout == "[]\n"


@pytest.mark.parametrize("args", [("-n", "0"), ("-n", "1001")])
def test_too_few_or_too_many_are_refused_before_anything_is_asked(terminal: Terminal, args: tuple[str, ...]) -> None:
    assert terminal.run("payloads", "iris", *args).code == InvalidInput.exit_code
    assert not terminal.requests


def test_a_refused_span_is_told_by_the_options_name(terminal: Terminal) -> None:
    terminal.refuse(PAYLOADS, 400, "invalid_input", "no such time", where="?since")
    outcome = terminal.run("payloads", "iris", "--since", "soon")
    assert outcome.code == InvalidInput.exit_code
    assert "--since" in outcome.stderr


def test_the_client_gives_plain_dicts(terminal: Terminal) -> None:
    terminal.answer(PAYLOADS, page(kept(), kept(seq=1)))
    with headway.client.Client() as client:
        assert client.payloads("iris", since=5, last=3) == [kept(), kept(seq=1)]
    assert dict(terminal.requests[0].url.params) == {"since": "5.000000000", "limit": "3"}
