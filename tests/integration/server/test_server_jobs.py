"""A real worker process and a job server on a socket: what models do to it, and what it makes of that."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.integration.server.replica import Replica
from tests.job_wire_server import ServedJobs, StoredJob
from tests.segment_walk import rows
from tests.waiting import PATIENCE_S, wait_until

MODEL = """\
import ctypes, os, time
from headway import jobs

class Model:
    def predict(self, X: dict):
        do, at = X["do"], X.get("at")
        if at:
            open(at, "w").close()
        if do == "segfault":
            ctypes.string_at(0)
        elif do == "exit":
            os._exit(7)
        elif do == "sleep":
            time.sleep(X["s"])
        elif do == "clutch":
            ctypes.PyDLL(None).sleep(60)
        elif do == "file":
            while not os.path.exists(X["until"]):
                time.sleep(0.005)
        elif do == "cancel":
            while not jobs.canceled():
                jobs.progress(0.5, "waiting")
                time.sleep(0.005)
        elif do == "object":
            return object()
        elif do == "large":
            return "x" * 3_000_000
        return do
"""
PLAIN = "class Model:\n    def predict(self, X):\n        return X\n"


@contextmanager
def worker(
    scratch: Path, source: str = MODEL, lease_s: float = 2.0, **config: Any
) -> Iterator[tuple[ServedJobs, Replica]]:
    with (
        ServedJobs.running(scratch / "jobs.sock", lease_s) as served,
        Replica(scratch, source, wait=False, job_server=served.address, **config) as replica,
    ):
        yield served, replica


def ends(replica: Replica) -> int:
    """Its exit code, once it has ended by itself."""
    return replica.process.wait(PATIENCE_S)


def begun(job: StoredJob, mark: Path) -> None:
    wait_until(mark.exists, what=f"the model has begun {job}")


def test_jobs_of_all_kinds_end_as_they_should_and_are_in_the_query_log(scratch: Path) -> None:
    log = scratch / "query-log"
    with worker(scratch, query_log_dir=str(log)) as (served, replica):
        fine = served.add({"do": "well"}, client="ann")
        odd, large = served.add({"do": "object"}), served.add({"do": "large"}, max_result_bytes=1_000_000)
        served.until("succeeded", fine)
        served.until("failed", odd, large)
        assert fine.result == {"predictions": "well"}
        assert [job.outcome.error.code for job in (odd, large) if job.outcome and job.outcome.error] == [
            "model_failed",
            "result_too_large",
        ]
        canceled = served.add({"do": "cancel"})
        wait_until(lambda: any(beat.told for beat in canceled.beats), what="progress")
        assert next(beat for beat in canceled.beats if beat.told).note == "waiting"
        canceled.cancel = True
        served.until("canceled", canceled)
        with replica.client() as client:
            assert client.get("/health/ready").status_code == 200
            metrics = client.get("/metrics").text
        for outcome, count in (("succeeded", 1), ("failed", 2), ("canceled", 1)):
            assert f'headway_worker_jobs_total{{model="iris",version="v1",outcome="{outcome}"}} {count}' in metrics
        replica.process.terminate()
        assert ends(replica) == 0
    logged = {row["request_id"]: row for row in rows(log / "iris")}
    assert len(logged) == 4
    assert {row["arm"] for row in logged.values()} == {"job"}
    assert (logged["request-0001"]["client"], logged["request-0001"]["status"]) == ("ann", 200)


def test_a_job_that_takes_its_worker_along_loses_its_lease_and_nothing_else(scratch: Path) -> None:
    for do, code in (("segfault", -signal.SIGSEGV), ("exit", 7)):
        (scratch / do).mkdir()
        with worker(scratch / do) as (served, replica):
            before = served.add({"do": "well"})
            served.until("succeeded", before)
            served.server.honoured_s = 0.5
            poison = served.add({"do": do})
            assert ends(replica) == code
            assert poison.told == []
            served.until("lost", poison)


def test_an_attempt_beyond_its_time_says_where_it_was_and_takes_the_process_along(scratch: Path) -> None:
    with worker(scratch) as (served, replica):
        slow, next_one = served.add({"do": "sleep", "s": 60}, timeout_s=0.5), served.add({"do": "well"})
        assert ends(replica) == 75
        assert slow.outcome is not None
        error = slow.outcome.error
        assert error is not None
        assert (error.code, error.where) == ("job_timed_out", "model.py:14")
        assert next_one.state == "queued"
        report = json.loads((scratch / "failure.json").read_text())
        assert (report["stage"], report["code"], report["where"]) == ("job", "job_timed_out", "model.py:14")


def test_the_kernel_ends_an_attempt_that_lets_nobody_else_run(scratch: Path) -> None:
    with worker(scratch) as (served, replica):
        served.add({"do": "clutch"}, timeout_s=0.5)
        assert ends(replica) == -signal.SIGALRM


def test_a_model_that_does_not_ask_is_ended_soon_after_its_job_was_canceled(scratch: Path) -> None:
    with worker(scratch) as (served, replica):
        job = served.add({"do": "sleep", "s": 60, "at": str(scratch / "at")})
        begun(job, scratch / "at")
        job.cancel = True
        assert ends(replica) == 75
        assert job.state == "canceled"


def test_told_to_stop_it_finishes_or_gives_back(scratch: Path) -> None:
    with worker(scratch) as (served, replica):
        job = served.add({"do": "file", "at": str(scratch / "at"), "until": str(scratch / "go")})
        begun(job, scratch / "at")
        late = served.add({"do": "well"})
        replica.process.terminate()
        wait_until(lambda: b"503" in _ready(replica), what="not ready any more")
        (scratch / "go").touch()
        assert ends(replica) == 0
        assert (job.state, late.state, late.attempts) == ("succeeded", "queued", 0)
    (scratch / "two").mkdir()
    with worker(scratch / "two", job_grace_s=1.0) as (served, replica):
        job = served.add({"do": "sleep", "s": 60, "at": str(scratch / "two" / "at")})
        begun(job, scratch / "two" / "at")
        replica.process.terminate()
        assert ends(replica) == 0
        assert (job.state, job.attempts, [told.given_back for told in job.told]) == ("queued", 0, [True])


def _ready(replica: Replica) -> bytes:
    with replica.connect() as raw:
        raw.sendall(b"GET /health/ready HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        return raw.recv(4096)


def test_a_job_server_that_was_away_is_told_when_it_is_back(scratch: Path) -> None:
    with worker(scratch, lease_s=30.0) as (served, replica):
        job = served.add({"do": "file", "at": str(scratch / "at"), "until": str(scratch / "go")})
        begun(job, scratch / "at")
        served.kill()
        (scratch / "go").touch()
        wait_until(lambda: "cannot be told" in replica.log(), what="it has noticed")
        served.up()
        served.until("succeeded", job, served.add({"do": "well"}))
        assert replica.process.poll() is None


def test_a_thousand_short_jobs_end_once_each(scratch: Path) -> None:
    with worker(scratch, PLAIN) as (served, _):
        every = served.add_many(1000, [[1.0, 2.0]])
        served.until("succeeded", *every)
        assert all(job.told == [job.outcome] and job.attempts == 1 for job in every)
        assert served.server.reports < 200
