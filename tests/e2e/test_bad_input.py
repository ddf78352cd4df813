"""Promise 8 from the outside: bad input to the CLI and both listeners gets a clear refusal."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.calls import Caller
from tests.installation import Installation
from tests.waiting import wait_until

GOOD = "def predict(X):\n    return [[1] for _ in X]\n"
HEAD = "apiVersion: headway.dev/v1alpha1\nkind: ModelDeployment\nmetadata: {name: fine}\n"


@pytest.fixture(scope="module")
def fine(shared: Installation) -> Iterator[Installation]:
    """An installation with one model, ``fine``."""
    folder = shared.scratch / "fine"
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(GOOD)
    shared.ok("deploy", str(folder))
    yield shared
    call = Caller(shared.data_url)
    assert call("/models/fine/predict").status == 200
    call.close()
    shared.ok("delete", "fine", "--yes")


CLI = [
    (["deploy", "no-such-folder"], "no-such-folder"),
    (["deploy", "."], ""),
    (["deploy", "{fine}", "--name", "..%2f"], "name"),
    (["deploy", "{fine}", "--name", "a" * 300], "name"),
    (["deploy", "{fine}", "--name", "UPPER_case"], "name"),
    (["deploy", "{fine}", "--canary", "ten"], "canary"),
    (["deploy", "{fine}", "--canary", "150%"], "canary"),
    (["deploy", "{fine}", "--canary", "0%"], "canary"),
    (["status", "nobody"], "nobody"),
    (["status", "../../etc"], "name"),
    (["traffic", "fine", "v1=90"], "100"),
    (["traffic", "fine", "v1=90", "v2=10"], "v2"),
    (["traffic", "fine", "v1=-10", "v1=110"], ""),
    (["traffic", "fine", "v1"], ""),
    (["traffic", "fine", "v1=lots"], ""),
    (["traffic", "nobody", "v1=100"], "nobody"),
    (["promote", "fine"], "canary"),
    (["promote", "fine", "v99"], "v99"),
    (["rollback", "fine"], "roll back"),
    (["scale", "fine", "-1"], ""),
    (["scale", "fine", "many"], ""),
    (["scale", "fine", "100000"], ""),
    (["logs", "nobody"], "nobody"),
    (["logs", "fine", "--replica", "fine-v1-zzzzz"], "fine-v1-zzzzz"),
    (["predict", "fine", "-d", "{not json"], ""),
    (["predict", "fine", "-d", "@no-such-file"], "no-such-file"),
    (["predict", "nobody", "-d", "[[1]]"], "nobody"),
    (["events", "--after", "minus"], ""),
    (["token", "create", "x y z"], ""),
    (["token", "create", "x", "--scope", "root"], "root"),
    (["token", "revoke", "nobody"], "nobody"),
    (["apply", "-f", "no-such.yaml"], "no-such.yaml"),
    (["nonsense"], "nonsense"),
]


@pytest.mark.parametrize(("args", "says"), CLI, ids=lambda v: " ".join(v)[:40] if isinstance(v, list) else None)
def test_the_command_line_refuses_clearly(fine: Installation, args: list[str], says: str) -> None:
    empty = fine.scratch / "empty"
    empty.mkdir(exist_ok=True)
    outcome = fine.run(*(a.format(fine=fine.scratch / "fine") if "{fine}" in a else a for a in args), cwd=empty)
    assert outcome.code not in (0, 70), outcome
    assert says in outcome.stderr, outcome
    assert "Traceback" not in outcome.text
    assert outcome.stderr.strip()


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]" for i in range(12)
)
SPECS = {
    "tag": (HEAD + "spec: !!python/object/apply:os.system ['true']\n", "spec"),
    "alias bomb": (BOMB, ""),
    "unknown field": (HEAD + "spec: {modle: {path: .}}\n", "model"),
    "wrong type": (HEAD + "spec: {scaling: {minReplicas: many}}\n", "spec.scaling.minReplicas"),
    "weights": (HEAD + "spec: {traffic: [{version: v1, weight: 90}]}\n", "100"),
    "unknown version": (HEAD + "spec: {traffic: [{version: v77, weight: 100}]}\n", "v77"),
    "no value": (HEAD + "spec: {scaling: {triggers: [{type: jobs}]}}\n", "spec.scaling.triggers[0].value"),
    "unknown trigger": (HEAD + "spec: {scaling: {triggers: [{type: prometeus}]}}\n", "did you mean prometheus?"),
    "a list": ("- a\n- b\n", ""),
    "empty": ("", ""),
    "not yaml": ("{{{{", ""),
    "two documents": (HEAD + "---\n" + HEAD, ""),
    "bad name": (HEAD.replace("fine", "..%2f") + "spec: {}\n", "metadata.name"),
    "bad quantity": (HEAD + "spec: {resources: {memory: lots}}\n", "spec.resources.memory"),
    "other kind": (HEAD.replace("ModelDeployment", "Pod") + "spec: {}\n", "kind"),
    "deep": (HEAD + "spec: " + "[" * 200 + "]" * 200 + "\n", ""),
}


@pytest.mark.parametrize("kind", SPECS)
def test_a_bad_document_is_refused_and_its_place_named(fine: Installation, kind: str) -> None:
    text, says = SPECS[kind]
    folder = fine.scratch / "spec"
    folder.mkdir(exist_ok=True)
    (folder / "model.py").write_text(GOOD)
    (folder / "headway.yaml").write_text(text)
    # One reader for both commands; two of the documents show that it is one.
    for command in (("apply", "-f"), ("diff", "-f")) if kind in {"tag", "weights"} else (("apply", "-f"),):
        outcome = fine.run(*command, str(folder / "headway.yaml"))
        assert outcome.code in (2, 3, 5, 6), outcome
        assert says in outcome.stderr, outcome
        assert "Traceback" not in outcome.text


DEEP = "[" * 100_000 + "]" * 100_000
# What is wrong with a body is in blackbox/test_serving.py.
DATA: dict[str, tuple[str, str | bytes | None, dict[str, str]]] = {
    "unknown model": ("/models/nobody/predict", "[[1]]", {}),
    "encoded slash": ("/models/..%2f..%2fetc/predict", "[[1]]", {}),
    "dot dot": ("/models/fine/../../etc/passwd", "[[1]]", {}),
    "long name": (f"/models/{'a' * 300}/predict", "[[1]]", {}),
    "very long path": (f"/models/fine/{'a' * 30_000}", "[[1]]", {}),
    "unknown version": ("/models/fine/versions/v9/predict", "[[1]]", {}),
    "odd version": ("/models/fine/versions/..%2fv1/predict", "[[1]]", {}),
    "ragged": ("/models/fine/predict", "[[1,2],[3]]", {}),
    "bad token": ("/models/fine/predict", "[[1]]", {"Authorization": "Bearer hw_nope"}),
    "odd authorization": ("/models/fine/predict", "[[1]]", {"Authorization": "Basic Zm9vOmJhcg=="}),
    "outside models": ("/v1/models", None, {}),
}


@pytest.mark.parametrize("kind", DATA)
def test_the_data_listener_answers_4xx(fine: Installation, kind: str) -> None:
    path, body, headers = DATA[kind]
    call = Caller(fine.data_url)
    reply = call(path, body, **headers)
    assert 400 <= reply.status < 500, (reply.status, reply.body[:300])
    error = reply.json()["error"]
    assert error["code"]
    assert error["message"]
    assert "Traceback" not in reply.body.decode()
    call.close()


def test_a_huge_body_is_refused(fine: Installation) -> None:
    with socket.create_connection(("127.0.0.1", fine.data_port), timeout=10) as client:
        head = f"POST /models/fine/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {10**12}\r\n\r\n"
        client.sendall(head.encode() + b"[" * 1000)
        answer = client.recv(65536).decode()
    assert answer.startswith("HTTP/1.1 413"), answer
    assert "payload_too_large" in answer


CONTROL = [
    ("GET", "/v1/models/..%2f..%2fetc", None),
    ("GET", f"/v1/models/{'a' * 300}", None),
    ("GET", "/v1/nothing", None),
    ("PATCH", "/v1/models", None),
    ("PUT", "/v1/models/fine/traffic", "[]"),
    ("PUT", "/v1/models/fine/traffic", '{"weights": {"v1": "many"}}'),
    ("PUT", "/v1/models/fine/traffic", '{"weights": {"v1": 100}, "more": 1}'),
    ("PUT", "/v1/models/fine/traffic", DEEP),
    ("PUT", "/v1/models/fine/scale", '{"replicas": -1}'),
    ("POST", "/v1/models/fine/deploy", '{"bundle": "x", "spec": {}}'),
    ("POST", "/v1/models/fine/deploy", json.dumps({"bundle": "0" * 64, "spec": {"a": 1}})),
    ("POST", "/v1/models/fine/deploy", "x" * 2_000_000),
    ("PUT", "/v1/bundles/short", "junk"),
    ("PUT", f"/v1/bundles/{'0' * 64}", "junk that is no archive"),
    ("GET", "/v1/events?after=minus", None),
    ("POST", "/v1/tokens", '{"name": "x", "scope": "root"}'),
]


@pytest.mark.parametrize(("method", "path", "body"), CONTROL, ids=lambda v: v[:40] if isinstance(v, str) else None)
def test_the_control_api_answers_4xx(fine: Installation, method: str, path: str, body: str | None) -> None:
    call = Caller(fine.control_url)
    reply = call(path, body, method=method, Authorization=f"Bearer {fine.admin_token()}")
    assert 400 <= reply.status < 500, (reply.status, reply.body[:300])
    assert reply.json()["error"]["message"]
    call.close()


def test_the_control_api_wants_a_token_and_its_own_name(fine: Installation) -> None:
    call = Caller(fine.control_url)
    assert call("/v1/models", None).code == "unauthenticated"
    assert call("/v1/models", None, Authorization="Bearer hw_wrong").code == "unauthenticated"
    rebound = call("/v1/models", None, Host="evil.example", Authorization=f"Bearer {fine.admin_token()}")
    assert 400 <= rebound.status < 500
    call.close()


def test_listening_wider_without_tokens_is_refused(installation: Installation) -> None:
    for option in ("--data-host", "--control-host"):
        outcome = installation.run("up", "--detach", option, "0.0.0.0")
        assert outcome.code == 2, outcome
        assert "token" in outcome.stderr
        assert installation.processes() == []


def test_predict_tokens_are_checked_at_the_gateway(running: Installation, write_model: Callable[..., Path]) -> None:
    running.ok("deploy", str(write_model("locked", GOOD)))
    created = running.ok("token", "create", "reader", "--scope", "predict", "--model", "locked", "-o", "json").json()
    other = running.ok("token", "create", "other", "--scope", "predict", "--model", "elsewhere", "-o", "json").json()
    call = Caller(running.data_url)

    def status(token: str) -> int:
        return call("/models/locked/predict", Authorization=f"Bearer {token}").status

    wait_until(lambda: status(created["token"]) == 200)
    wait_until(lambda: status(other["token"]) == 403)
    assert status("hw_" + "x" * 43) == 401
    running.ok("token", "revoke", "reader")
    wait_until(lambda: status(created["token"]) == 401)
    secrets = [created["token"], other["token"]]
    for file in running.home.rglob("*"):
        if file.is_file() and file.suffix in {".log", ".db", ".map", ".cfg", ".json", ".db-wal"}:
            content = file.read_bytes()
            assert not any(secret.encode() in content for secret in secrets), file
    call.close()
