"""``headway job``: what it sends through the gateway, what it prints, and with which exit code it ends."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.cli.wire import GATEWAY, Terminal, model

ID = "01hzy0c5k1abcdefghjkmnpqrs"
OTHER = "01hzy0c5k2abcdefghjkmnpqrs"
JOBS = "/models/iris/jobs"


def job(state: str = "queued", job_id: str = ID, **more: Any) -> dict[str, Any]:
    path = f"{JOBS}/{job_id}"
    return {
        "id": job_id,
        "model": "iris",
        "version": "v1",
        "ranVersion": None,
        "state": state,
        "priority": 5,
        "client": "ann",
        "batch": None,
        "submittedAt": "2030-01-31T12:00:00.250Z",
        "notBefore": None,
        "deadline": None,
        "startedAt": None,
        "finishedAt": None,
        "expiresAt": None,
        "attempts": 0,
        "maxAttempts": 3,
        "queuedMs": 1500,
        "runMs": None,
        "place": 2 if state == "queued" else None,
        "progress": None,
        "error": None,
        "links": {"self": path, "result": f"{path}/result", "events": f"{path}/events"},
        **more,
    }


FAILED = job(
    "failed",
    attempts=3,
    ranVersion="v1",
    runMs=700,
    error={"code": "out_of_memory", "message": "its worker used 3 GiB", "where": "model.py:3", "hint": "ask for more"},
)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


def steps(*answers: dict[str, Any]) -> Any:
    """Answers one after the other; the last one for ever."""
    left = list(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=left.pop(0) if len(left) > 1 else left[0])

    return answer


def test_submit_prints_the_id_alone_and_says_how_to_go_on(terminal: Terminal) -> None:
    terminal.answer(f"POST {JOBS}", job(), 202)
    outcome = terminal.run(
        "job", "submit", "iris", "-d", "[[1]]", "--priority", "9", "--not-before", "10m", "--deadline", "2h",
        "--webhook", "https://hooks.example/x", "--route", "/invocations", "--idempotency-key", "k1",
    )  # fmt: skip
    assert (outcome.code, outcome.stdout) == (0, f"{ID}\n")
    assert f"headway job wait iris {ID}" in outcome.stderr
    (request,) = terminal.requests
    assert str(request.url).startswith(GATEWAY)
    assert dict(request.url.params) == {
        "priority": "9",
        "notBefore": "10m",
        "deadline": "2h",
        "webhook": "https://hooks.example/x",
        "route": "/invocations",
    }
    assert request.content == b"[[1]]"
    assert request.headers["idempotency-key"] == "k1"
    assert request.headers["authorization"] == "Bearer hw_secret"


def test_submit_to_a_version_and_of_a_csv_file(terminal: Terminal, tmp_path: Path) -> None:
    terminal.answer("POST /models/iris/versions/v2/jobs", job(version="v2"), 202)
    file = tmp_path / "rows.csv"
    file.write_text("a,b\n1,2\n")
    outcome = terminal.run("job", "submit", "iris", "-f", str(file), "--version", "v2", "-o", "json")
    assert outcome.json["version"] == "v2"
    assert outcome.json["submittedAt"] == "2030-01-31T12:00:00.250Z"
    (request,) = terminal.requests
    assert request.headers["content-type"] == "text/csv"
    assert request.content == b"a,b\n1,2\n"


def test_a_submission_whose_answer_was_lost_is_sent_again_as_the_same_job(terminal: Terminal) -> None:
    answers = iter([httpx.ReadError("cut"), None, None])

    def flaky(request: httpx.Request) -> httpx.Response:
        fault = next(answers)
        if fault is not None:
            raise fault
        return httpx.Response(202, json=job())

    terminal.answers[f"POST {JOBS}"] = flaky
    assert terminal.run("job", "submit", "iris", "-d", "1").code == 0
    keys = [request.headers["idempotency-key"] for request in terminal.requests]
    assert len(keys) == 2
    assert len(set(keys)) == 1
    assert terminal.run("job", "submit", "iris", "-d", "1").code == 0
    assert terminal.requests[-1].headers["idempotency-key"] != keys[0]


def test_submit_wait_shows_how_far_it_is_and_prints_the_result(terminal: Terminal) -> None:
    terminal.answer(f"POST {JOBS}", job(), 202)
    half = {"fraction": 0.5, "note": "[epoch] 2"}
    terminal.answers[f"GET {JOBS}/{ID}"] = steps(
        job(), job("running", attempts=1, progress=half), job("succeeded", attempts=1)
    )
    terminal.answers[f"GET {JOBS}/{ID}/result"] = lambda request: httpx.Response(
        200, content=b'{"y": 1}', headers={"content-type": "application/json"}
    )
    outcome = terminal.run("job", "submit", "iris", "-d", "1", "--wait")
    assert (outcome.code, outcome.stdout) == (0, '{"y": 1}\n')
    lines = outcome.stderr.splitlines()
    assert lines == [
        f"iris {ID}  queued, 2 jobs ahead",
        f"iris {ID}  50%  running, [epoch] 2",
        f"iris {ID}  succeeded",
    ]
    outcome = terminal.run("job", "wait", "iris", ID, "-o", "json")
    assert (outcome.code, outcome.json["state"], outcome.stderr) == (0, "succeeded", "")


@pytest.mark.parametrize(
    ("ended", "code", "said"),
    [
        (FAILED, 7, "failed after 3 attempts: its worker used 3 GiB"),
        (job("failed", error={"code": "model_failed", "message": "boom"}, attempts=1), 1, "failed: boom"),
        (job("failed", error={"code": "from_the_future", "message": "boom"}, attempts=1), 5, "failed: boom"),
        (job("canceled"), 5, "was canceled"),
        (job("expired"), 1, "has expired"),
    ],
)
def test_a_job_that_did_not_succeed_makes_the_exit_code(
    terminal: Terminal, ended: dict[str, Any], code: int, said: str
) -> None:
    terminal.answer(f"GET {JOBS}/{ID}", ended)
    outcome = terminal.run("job", "wait", "iris", ID)
    assert (outcome.code, outcome.stdout) == (code, "")
    assert said in outcome.stderr
    outcome = terminal.run("job", "wait", "iris", ID, "-o", "json")
    assert (outcome.code, outcome.json["state"]) == (code, ended["state"])
    assert said in json.loads(outcome.stderr)["error"]["message"]


def test_waiting_may_end_sooner_than_the_job(terminal: Terminal) -> None:
    terminal.answer(f"GET {JOBS}/{ID}", job("running", attempts=1))
    outcome = terminal.run("job", "wait", "iris", ID, "--timeout", "0")
    assert outcome.code == 1
    assert f"job {ID} is running after 0 s; it goes on" in outcome.stderr


def test_a_batch_prints_its_ids_and_waits_for_all_of_them(terminal: Terminal, tmp_path: Path) -> None:
    file = tmp_path / "rows.ndjson"
    file.write_bytes(b"[1]\n[2]\n")
    terminal.answer(f"POST {JOBS}/batch", {"batch": "b1", "jobs": [ID, OTHER]}, 202)
    outcome = terminal.run("job", "submit", "iris", "--batch", str(file))
    assert outcome.stdout.split() == [ID, OTHER]
    assert terminal.requests[-1].headers["content-type"] == "application/x-ndjson"
    assert terminal.requests[-1].content == b"[1]\n[2]\n"

    ended = {"jobs": [job("succeeded", OTHER), FAILED], "next": None}
    open_ = iter([{"jobs": [job("running"), job("queued", OTHER)], "next": None}, {"jobs": [], "next": None}])

    def listed(request: httpx.Request) -> httpx.Response:
        assert request.url.params["batch"] == "b1"
        return httpx.Response(200, json=next(open_) if "state" in request.url.params else ended)

    terminal.answers[f"GET {JOBS}"] = listed
    outcome = terminal.run("job", "submit", "iris", "--batch", str(file), "--wait")
    assert outcome.code == 7
    assert outcome.stdout == "1 succeeded, 1 failed\n"
    assert "0%  0 of 2 ended, 1 running" in outcome.stderr
    assert "1 of 2 jobs have not succeeded; the first: job" in outcome.stderr


def test_who_waits_outlives_a_restart_of_the_gateway(terminal: Terminal, tmp_path: Path) -> None:
    def now_and_then(*answers: Any) -> Any:
        left = iter([one for answer in answers for one in (httpx.ConnectError("refused"), answer)])

        def answer(request: httpx.Request) -> httpx.Response:
            found = next(left)
            if isinstance(found, Exception):
                raise found
            return httpx.Response(200, json=found)

        return answer

    (tmp_path / "rows").write_bytes(b"[1]")
    terminal.answer(f"POST {JOBS}/batch", {"batch": OTHER, "jobs": [ID]}, 202)
    pages = [{"jobs": jobs, "next": None} for jobs in ([], [job("succeeded")])]
    terminal.answers[f"GET {JOBS}"] = now_and_then(*pages)
    outcome = terminal.run("job", "submit", "iris", "--batch", str(tmp_path / "rows"), "--wait")
    assert (outcome.code, outcome.stdout) == (0, "1 succeeded\n")
    terminal.answers[f"GET {JOBS}/{ID}"] = now_and_then(job("succeeded"))
    terminal.answers[f"GET {JOBS}/{ID}/result"] = now_and_then([7])
    assert terminal.run("job", "wait", "iris", ID).stdout == "[7]\n"


def test_get_tells_everything_there_is(terminal: Terminal) -> None:
    terminal.answer(
        f"GET {JOBS}/{ID}",
        job(
            "running",
            attempts=2,
            ranVersion="v2",
            version=None,
            startedAt="2030-01-31T12:00:02.000Z",
            deadline="2030-01-31T13:00:00.000Z",
            runMs=61_000,
            progress={"fraction": 0.25, "note": "fitting"},
            error={"code": "model_failed", "message": "[red]no luck", "where": "model.py:7", "hint": "look there"},
        ),
    )
    text = terminal.run("job", "get", "iris", ID).stdout
    for shown in (
        f"{ID}  running  25%, attempt 2 of 3, fitting",
        "version    of production, ran on v2",
        "attempts   2 of 3",
        "deadline   2030-01-31 13:00:00Z",
        "waited     1.5 s, ran 61 s",
        "client     ann",
        "error      last attempt: [red]no luck (model.py:7) [model_failed]",
        "hint       look there",
    ):
        assert shown in text
    assert terminal.run("job", "get", "iris", ID, "-o", "json").json["progress"] == {
        "fraction": 0.25,
        "note": "fitting",
    }


def test_list_pages_and_filters(terminal: Terminal) -> None:
    pages = {None: {"jobs": [job()], "next": ID}, ID: {"jobs": [FAILED | {"id": OTHER}], "next": None}}
    terminal.answers[f"GET {JOBS}"] = lambda request: httpx.Response(200, json=pages[request.url.params.get("before")])
    outcome = terminal.run(
        "job", "list", "iris", "--state", "queued", "--state", "failed", "--client", "ann", "--version", "v1"
    )
    assert outcome.code == 0
    head, first, second = outcome.stdout.splitlines()
    assert head.split() == ["job", "state", "priority", "attempt", "waited", "ran", "submitted", "what"]
    assert first.split()[:4] == [ID, "queued", "5", "0/3"]
    assert first.endswith("2 jobs ahead")
    assert second.endswith("its worker used 3 GiB")
    asked = dict(terminal.requests[0].url.params)
    assert asked == {"state": "queued,failed", "client": "ann", "version": "v1", "limit": "50"}
    terminal.answer(f"GET {JOBS}", {"jobs": [], "next": None})
    assert "no such jobs of iris" in terminal.run("job", "list", "iris").stdout
    assert terminal.run("job", "list", "iris", "-o", "json").json == []


@pytest.mark.parametrize(
    ("state", "said"), [("canceled", "is canceled"), ("running", "is told to stop"), ("succeeded", "has succeeded al")]
)
def test_cancel_says_what_became_of_it(terminal: Terminal, state: str, said: str) -> None:
    terminal.answer(f"DELETE {JOBS}/{ID}", job(state), 202)
    assert said in terminal.run("job", "cancel", "iris", ID).stdout


def test_result_is_printed_as_it_is_and_refused_when_there_is_none(terminal: Terminal) -> None:
    terminal.answers[f"GET {JOBS}/{ID}/result"] = lambda request: httpx.Response(200, content=b"a,b\n1,2\n")
    assert terminal.run("job", "result", "iris", ID).stdout == "a,b\n1,2\n"
    terminal.refuse(f"GET {JOBS}/{ID}/result", 409, "job_not_finished", f"job {ID} is running", hint="wait for it")
    outcome = terminal.run("job", "result", "iris", ID)
    assert (outcome.code, outcome.stdout) == (5, "")
    assert "is running" in outcome.stderr


def frames(*events: tuple[str, dict[str, Any]]) -> bytes:
    text = "retry: 1000\n: events follow\n\n"
    for kind, data in events:
        place = f"id: {data['cursor']}\n" if "cursor" in data else ""
        text += f"{place}event: {kind}\ndata: {json.dumps(data)}\n\n"
    return text.encode()


def event(cursor: int, what: str, **more: Any) -> tuple[str, dict[str, Any]]:
    kind = f"job_{what}.v1"
    at = "2030-01-31T12:00:00.000Z"
    return kind, {"cursor": cursor, "at": at, "type": kind, "model": "iris", "id": ID, "attempt": 1, **more}


def test_events_of_a_job_end_with_it_and_are_resumed_where_they_broke_off(terminal: Terminal) -> None:
    streams = iter(
        [
            frames(event(3, "submitted", attempt=0), event(5, "started"), ("progress", {"fraction": 0.1, "note": ""})),
            frames(event(9, "failed", error={"code": "model_failed", "message": "boom"}), ("job", FAILED)),
        ]
    )
    terminal.answers[f"GET {JOBS}/{ID}/events"] = lambda request: httpx.Response(200, content=next(streams))
    terminal.answer(f"GET {JOBS}/{ID}", job("running"))
    outcome = terminal.run("job", "events", "iris", ID)
    assert outcome.code == 0
    lines = [line.split()[3] for line in outcome.stdout.splitlines()]
    assert lines == ["job_submitted.v1", "job_started.v1", "job_failed.v1"]
    assert outcome.stdout.splitlines()[-1].endswith("attempt 1, boom")
    asked = [r.headers.get("last-event-id") for r in terminal.requests if r.url.path.endswith("/events")]
    assert asked == ["0", "5"]


def test_events_of_a_model_go_on_after_a_cursor(terminal: Terminal) -> None:
    streams = iter([frames(event(8, "submitted")), frames(event(9, "succeeded"))])

    def stream(request: httpx.Request) -> httpx.Response:
        content = next(streams, None)
        if content is None:
            raise KeyboardInterrupt
        return httpx.Response(200, content=content)

    terminal.answers[f"GET {JOBS}/events"] = stream
    outcome = terminal.run("job", "events", "iris", "--after", "7", "-o", "json")
    assert [json.loads(line)["cursor"] for line in outcome.stdout.splitlines()] == [8, 9]
    assert [request.headers["last-event-id"] for request in terminal.requests] == ["7", "8", "9"]


@pytest.mark.parametrize(
    ("args", "where"),
    [
        (("submit", "iris"), "-d"),
        (("submit", "iris", "-d", "1", "--batch", "x"), "-d"),
        (("submit", "iris", "-f", "/no/such/file"), "-f"),
        (("submit", "iris", "--batch", "/no/such/file"), "--batch"),
        (("submit", "iris", "-d", "1", "--timeout", "3"), "--timeout"),
        (("submit", "iris", "-d", "1", "--version", "newest"), "--version"),
        (("get", "iris", "12"), "ID"),
        (("events", "iris", ID, "--after", "1"), "--after"),
        (("list", "iris", "--state", "lost"), "--state"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(
    terminal: Terminal, args: tuple[str, ...], where: str
) -> None:
    outcome = terminal.run("job", *args)
    assert (outcome.code, outcome.stdout) == (2, "")
    assert f"where: {where}\n" in outcome.stderr
    assert not terminal.requests


def test_a_gateway_that_is_away_is_named(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter(range(0, 10_000, 5))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(moments)))

    def refused(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("Connection refused")

    terminal.answers[f"POST {JOBS}"] = refused
    outcome = terminal.run("job", "submit", "iris", "-d", "1")
    assert outcome.code == 9
    assert "does not answer: Connection refused" in outcome.stderr


def test_status_shows_jobs_and_workers(terminal: Terminal) -> None:
    whole = model()
    counts = {"queued": 12, "delayed": 0, "running": 3, "workers": 4, "min_workers": 0, "max_workers": 8}
    whole["jobs"] = {**counts, "version": "pinned"}
    worker = {"name": "iris-v1-wrkrs", "version": "v1", "phase": "ready", "ready": True, "restarts": 0, "pid": 77}
    whole["worker_list"] = [worker]
    terminal.answer("GET /v1/models/iris", whole)
    text = terminal.run("status", "iris").stdout
    assert "  jobs      12 queued, 3 running; 4 workers wished, 0 to 8 of each version" in text
    assert "iris-v1-wrkrs" in text
    whole["jobs"] = dict.fromkeys(counts, 0) | {"version": "pinned"}
    whole["worker_list"] = []
    text = terminal.run("status", "iris").stdout
    assert "jobs" not in text


def test_delete_cancels_jobs_only_when_told_to(terminal: Terminal) -> None:
    terminal.answer("GET /v1/models/iris", model())
    terminal.answer("DELETE /v1/models/iris", {"model": "iris", "cursor": 3}, 202)
    assert terminal.run("delete", "iris", "--yes", "--no-wait").code == 0
    assert dict(terminal.requests[-1].url.params) == {}
    assert terminal.run("delete", "iris", "--yes", "--no-wait", "--cancel-jobs").code == 0
    assert dict(terminal.requests[-1].url.params) == {"cancel_jobs": "true"}
