"""The query log over REST, on real replicas behind the real gateway: every request once, with what its client saw."""

from __future__ import annotations

import http.client
import io
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import duckdb

from tests.e2e.calls import Caller, Reply
from tests.installation import Installation
from tests.waiting import PATIENCE_S, wait_until

CODE = """
import time

def predict(X):
    if X[0][0] < 0:
        raise ValueError("negative")
    time.sleep(X[0][0])
    return X
"""
SPEC = """
apiVersion: headway.dev/v1alpha1
kind: ModelDeployment
metadata: {name: iris}
spec:
  scaling: {minReplicas: 2}
  server: {timeout: 2s, maxQueue: 4, maxBatchSize: 1}
"""
FAST, FAILING, BROKEN, SLOW = "[[0.0]]", "[[-1.0]]", "[[nope", "[[0.3]]"


def ask(at: Installation, path: str, **headers: str) -> Reply:
    call = Caller(at.control_url)
    try:
        reply = call(f"/v1/models/iris/{path}", None, Authorization=f"Bearer {at.admin_token()}", **headers)
    finally:
        call.close()
    assert reply.status == 200, reply.body
    return reply


def records(at: Installation, query: str = "limit=10000") -> list[dict[str, Any]]:
    page = ask(at, f"log?{query}").json()
    assert page["more"] is False
    assert not any(page["losses"].values()), page["losses"]
    found: list[dict[str, Any]] = page["records"]
    return found


def windows_count(at: Installation) -> int:
    return sum(int(one["count"]) for one in ask(at, "latency?window=1h&since=6h").json()["windows"])


@contextmanager
def stream(at: Installation, query: str = "") -> Iterator[queue.Queue[dict[str, Any]]]:
    """Records that a stream tells, as they come."""
    parts = urlsplit(at.control_url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE_S)
    headers = {"Authorization": f"Bearer {at.admin_token()}", "Accept": "text/event-stream"}
    connection.request("GET", f"/v1/models/iris/log{query}", headers=headers)
    answer = connection.getresponse()
    assert answer.status == 200
    assert answer.readline().startswith(b":")
    told: queue.Queue[dict[str, Any]] = queue.Queue()

    def read() -> None:
        while line := answer.readline():
            if line.startswith(b"data: "):
                told.put(json.loads(line[6:]))

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        yield told
    finally:
        connection.sock.shutdown(2)
        reader.join(10)
        connection.close()
        answer.close()


def test_every_request_is_there_once_with_the_status_that_its_client_saw(
    running: Installation, write_model: Callable[..., Path]
) -> None:
    running.ok("deploy", str(write_model("iris", CODE, spec=SPEC)))
    seen: dict[str, int] = {}

    def client(number: int) -> None:
        call = Caller(running.data_url)
        bodies = [FAST, FAST, FAILING, BROKEN, FAST, SLOW]
        for turn in range(40):
            name = f"c{number}-{turn}"
            path = "/models/iris/nothing-here" if turn % 20 == 7 else "/models/iris/predict"
            seen[name] = call(path, bodies[(turn + number) % len(bodies)], x_request_id=name).status
        call.close()

    with ThreadPoolExecutor(12) as clients:
        jobs = [clients.submit(client, number) for number in range(12)]
        wait_until(lambda: len(seen) > 120)
        replica = running.ok("status", "iris", "-o", "json").json()["replica_list"][0]
        running.kill(next(p for p in running.processes() if p.pid == replica["pid"]))
        for job in jobs:
            job.result()

    assert {200, 400, 404, 429, 500} <= set(seen.values())
    wait_until(lambda: windows_count(running) >= len(seen))  # the gateway's lines come a moment later
    found = records(running)
    assert {one["request_id"]: one["status"] for one in found} == seen
    assert len(found) == len(seen) == windows_count(running)
    served = [one for one in found if one["status"] == 200]
    assert all(one["replica"] and one["predict_ns"] > 0 and one["rows"] == 1 for one in served)
    assert all(one["shed"] for one in found if one["status"] == 429)
    assert {one["arm"] for one in served} == {"split"}


def test_a_request_is_told_within_a_second_and_in_the_next_window(
    running: Installation, write_model: Callable[..., Path]
) -> None:
    running.ok("deploy", str(write_model("iris", CODE)))
    call = Caller(running.data_url)
    with stream(running) as told, stream(running, "?where=" + quote("status>=500")) as failures:
        waits = []
        for number in range(5):
            call("/models/iris/predict", FAST, x_request_id=f"r{number}")
            sent_at = time.monotonic()
            assert told.get(timeout=PATIENCE_S)["request_id"] == f"r{number}"
            waits.append(time.monotonic() - sent_at)
            assert windows_count(running) == number + 1
        assert min(waits) < 2.0, "a second is promised; on a busy machine one of five keeps it within two"
        call("/models/iris/predict", FAILING, x_request_id="bad")
        assert told.get(timeout=PATIENCE_S)["request_id"] == "bad"
        assert failures.get(timeout=PATIENCE_S)["request_id"] == "bad"
        assert told.empty()
        assert failures.empty()
    call.close()


def test_the_log_outlives_control_plane_replicas_and_model(
    running: Installation, write_model: Callable[..., Path]
) -> None:
    running.ok("deploy", str(write_model("iris", CODE)))
    call = Caller(running.data_url)

    def send(count: int) -> None:
        for _ in range(count):
            assert call("/models/iris/predict", FAST).status == 200

    send(10)
    pid = running.ok("info", "-o", "json").json()["pid"]
    running.kill(next(p for p in running.processes() if p.pid == pid))
    send(10)
    running.up()
    assert windows_count(running) == 20
    running.down()
    running.up()
    wait_until(lambda: running.ok("status", "iris", "-o", "json").json()["ready_replicas"] == 1)
    send(5)
    assert windows_count(running) == 25
    running.ok("delete", "iris", "--yes")
    assert len(records(running)) == 25
    stored = running.home / "query-log" / "records" / "model=iris"
    wait_until(lambda: list(stored.rglob("*.parquet")), what="compaction")
    assert len(records(running)) == windows_count(running) == 25
    call.close()


def test_files_for_other_tools(running: Installation, write_model: Callable[..., Path]) -> None:
    running.ok("deploy", str(write_model("iris", CODE)))
    call = Caller(running.data_url)
    for body in [FAST] * 7 + [BROKEN] * 3:
        call("/models/iris/predict", body, x_request_id="é".encode().hex())
    call.close()
    table = running.scratch / "log.parquet"
    table.write_bytes(ask(running, "log", Accept="application/vnd.apache.parquet").body)
    with duckdb.connect() as session:
        of_table = f"FROM read_parquet('{table}')"
        counted = session.sql(f"SELECT status, count(*), count(predict_ns) {of_table} GROUP BY 1 ORDER BY 1").fetchall()
        assert counted == [(200, 7, 7), (400, 3, 0)]
    text = ask(running, "latency?window=1h&by=status&by=version", Accept="text/csv").body.decode()
    lines = io.StringIO(text).read().splitlines()
    assert lines[0].startswith("start,end,status,version,count,timed,")
    assert [line.split(",")[2:5] for line in lines[1:]] == [["200", "v1", "7"], ["400", "v1", "3"]]
    assert not list((running.home / "query-log" / "scratch").iterdir())


def test_switched_off_nothing_is_written(installation: Installation, write_model: Callable[..., Path]) -> None:
    installation.env["HEADWAY_QUERY_LOG"] = "false"
    installation.up()
    installation.ok("deploy", str(write_model("iris", CODE)))
    call = Caller(installation.data_url)
    assert [call("/models/iris/predict", FAST).status for _ in range(3)] == [200] * 3
    assert call("/models/unknown/predict", FAST).status == 404
    call.close()
    assert records(installation) == []
    folder = installation.home / "query-log"
    assert not [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
