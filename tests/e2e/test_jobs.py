"""Jobs from end to end: a real model, its workers, and the processes in between being killed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.installation import Installation, module_installation
from tests.waiting import PortPicker, wait_until

MODEL = """
import time


class Slow:
    def predict(self, X: dict) -> int:
        time.sleep(X.get("s", 0))
        return 2 * X["n"]
"""
SPEC = """
apiVersion: headway.dev/v1alpha1
kind: ModelDeployment
metadata: {name: slow}
spec:
  model: {path: ., entrypoint: "model:Slow"}
  jobs:
    backoff: {initial: 100ms}
    workers: {min: 1, max: 2}
"""


class Jobs:
    """Callers of the model ``slow``."""

    def __init__(self, headway: Installation) -> None:
        self.headway = headway
        self.http = httpx.Client(base_url=headway.data_url, timeout=90, trust_env=False)

    def submit(self, n: int, s: float = 0, **headers: str) -> dict[str, Any]:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = self.http.post("/models/slow/jobs", json={"n": n, "s": s}, headers=given)
        assert answer.status_code in (200, 202), answer.text
        found: dict[str, Any] = answer.json()
        return found

    def get(self, job: dict[str, Any], query: str = "") -> dict[str, Any]:
        answer = self.http.get(job["links"]["self"] + query)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def result(self, job: dict[str, Any]) -> Any:
        answer = self.http.get(job["links"]["result"] + "?wait=60")
        assert answer.status_code == 200, answer.text
        return answer.json()["predictions"]

    def until(self, job: dict[str, Any], state: str) -> None:
        wait_until(lambda: self.get(job)["state"] == state, what=f"{job['id']} is {state}")


@pytest.fixture(scope="module")
def jobs(free_port: PortPicker) -> Iterator[Jobs]:
    with module_installation(free_port, HEADWAY_JOBS="true") as headway:
        folder = headway.scratch / "models" / "slow"
        folder.mkdir(parents=True)
        (folder / "model.py").write_text(MODEL)
        (folder / "headway.yaml").write_text(SPEC)
        headway.ok("deploy", str(folder), timeout_s=90)
        found = Jobs(headway)
        with found.http:
            yield found


def test_from_submission_to_result(jobs: Jobs) -> None:
    done = jobs.submit(4, prefer="wait=60")
    assert (done["state"], done["ranVersion"], done["attempts"]) == ("succeeded", "v1", 1)
    assert jobs.result(done) == 8
    again = [jobs.submit(5, idempotency_key="once")["id"] for _ in range(2)]
    assert again[0] == again[1]


def test_a_batch(jobs: Jobs) -> None:
    lines = "\n".join(f'{{"n": {n}}}' for n in range(30))
    answer = jobs.http.post("/models/slow/jobs/batch", content=lines, headers={"content-type": "application/x-ndjson"})
    assert answer.status_code == 202, answer.text
    batch = answer.json()
    for n, job_id in enumerate(batch["jobs"]):
        found = jobs.http.get(f"/models/slow/jobs/{job_id}/result?wait=60")
        assert found.json() == {"predictions": 2 * n}, found.text
    listed = jobs.http.get(f"/models/slow/jobs?batch={batch['batch']}&state=succeeded").json()
    assert len(listed["jobs"]) == 30


def test_cancel_while_it_runs(jobs: Jobs) -> None:
    job = jobs.submit(1, s=60)
    jobs.until(job, "running")
    assert jobs.http.delete(job["links"]["self"]).status_code == 202
    assert jobs.get(job, "?wait=30")["state"] == "canceled"
    assert jobs.http.get(job["links"]["result"]).json()["error"]["code"] == "job_not_succeeded"


def test_the_job_server_is_killed_while_jobs_run_and_callers_wait(jobs: Jobs) -> None:
    running = jobs.submit(7, s=3)
    jobs.until(running, "running")
    with ThreadPoolExecutor(2) as pool:
        polling = pool.submit(jobs.get, running, "?wait=60")
        (server,) = jobs.headway.processes("headway.job_server")
        jobs.headway.kill(server)
        submitting = pool.submit(jobs.submit, 8)
        assert jobs.result(submitting.result()) == 16
        assert polling.result()["state"] in {"running", "succeeded"}
    assert jobs.result(running) == 14
    assert jobs.get(running)["attempts"] == 1, "its worker went on"


def test_the_control_plane_is_killed_while_jobs_run(jobs: Jobs) -> None:
    running = jobs.submit(9, s=3)
    jobs.until(running, "running")
    (server,) = jobs.headway.processes("headway.job_server")
    (plane,) = jobs.headway.processes("headway.cli.main up")
    jobs.headway.kill(plane)
    assert jobs.result(jobs.submit(10)) == 20
    jobs.headway.up()
    assert [process.pid for process in jobs.headway.processes("headway.job_server")] == [server.pid], "it was adopted"
    assert jobs.result(running) == 18
    assert jobs.get(running)["attempts"] == 1


def test_after_a_crash_down_ends_the_job_server_too(
    scratch: Path, free_port: Callable[[], int], write_model: Callable[..., Path]
) -> None:
    headway = Installation(scratch, free_port, HEADWAY_JOBS="true")
    headway.up()
    wait_until(lambda: headway.processes("headway.job_server"), what="a job server runs")
    (plane,) = headway.processes("headway.cli.main up")
    headway.kill(plane)
    assert "job server" in headway.ok("down", "-o", "json").json()["stopped"]
    assert headway.processes() == []
