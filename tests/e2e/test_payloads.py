"""Payloads that the spec asks to keep: read back whole, without what was redacted, also after the model is gone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from headway.client import Client
from tests.e2e.calls import Caller
from tests.installation import Installation
from tests.waiting import wait_until

SECRET = "078-05-1120"
CODE = """
def predict(X: dict):
    return {"risk": X["age"] * 2, "ssn": X["ssn"]}
"""
SPEC = """
apiVersion: headway.dev/v1alpha1
kind: ModelDeployment
metadata: {name: loans}
spec:
  queryLog: {payloads: {sample: 100%, redact: [ssn]}}
"""


def test_requests_are_kept_whole_without_what_is_redacted(
    running: Installation, write_model: Callable[..., Path]
) -> None:
    running.ok("deploy", str(write_model("loans", CODE, spec=SPEC)))
    none_yet = running.ok("payloads", "loans")
    assert none_yet.stdout == "no payloads in this time\n"
    call = Caller(running.data_url)
    body = json.dumps({"age": 41, "ssn": SECRET})
    reply = call("/models/loans/predict", body, x_request_id="r-1")
    assert reply.status == 200, reply.body
    assert SECRET in reply.body.decode(), "redaction is of what is kept, not of answers"
    assert call("/models/loans/predict", "[[" + SECRET, x_request_id="r-2").status == 400
    call.close()

    (kept,) = wait_until(lambda: running.ok("payloads", "loans", "-o", "json").json())
    assert kept["input"] == {"age": 41, "ssn": "[redacted]"}
    assert kept["output"] == {**reply.json(), "predictions": {"risk": 82, "ssn": "[redacted]"}}
    assert (kept["version"], kept["route"], kept["status"], kept["request_id"]) == ("v1", "/predict", 200, "r-1")

    head, came, went = running.ok("payloads", "loans", "--since", "10m", "-n", "5").stdout.splitlines()
    assert head.split()[2:] == ["v1", "/predict", "200", "r-1"]
    assert came == '  in   {"age":41,"ssn":"[redacted]"}'
    assert '"risk":82,"ssn":"[redacted]"' in went

    with Client(running.control_url, running.admin_token()) as client:
        assert client.payloads("loans") == [kept]
        (record,) = client.records("loans", where="request_id=r-1")
        assert (record.stream, record.seq) == (kept["stream"], kept["seq"])

    running.ok("delete", "loans", "--yes")
    assert running.ok("payloads", "loans", "-o", "json").json() == [kept]
    running.down()  # so that compaction moves nothing while it is looked through
    files = [path for path in (running.home / "query-log").rglob("*") if path.is_file()]
    assert [path.parent.name for path in files if path.name.endswith(".payloads.jsonl")] == ["loans"]
    assert not [path for path in files if SECRET.encode() in path.read_bytes()]
