"""Jobs by the command line, on the real thing: workers come and go, die and are replaced, deploys leave jobs alone."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.installation import Installation, module_installation
from tests.waiting import PortPicker, wait_until

CODE = """
import ctypes, os, time

def predict(X):
    what = float(X[0][0])
    if what == 13:
        raise ValueError("unlucky")
    if what == 11:
        ctypes.string_at(0)
    while what == 7 and not os.path.exists(GATE):
        time.sleep(0.02)
    time.sleep(what if what != 7 else 0)
    return X * 2
"""
SPEC = """
apiVersion: headway.dev/v1alpha1
kind: ModelDeployment
metadata: {{name: {name}}}
spec:
  jobs:
    maxAttempts: 2
    retryOn: [OSError]
    backoff: {{initial: 50ms}}
    workers: {{max: 2, cooldown: 1s, scaleDownWindow: 1s}}
"""


@pytest.fixture(scope="module")
def headway(free_port: PortPicker) -> Iterator[Installation]:
    """A started Headway that takes jobs, for all tests of this module."""
    with module_installation(free_port, HEADWAY_JOBS="true") as made:
        yield made


@pytest.fixture
def publish(headway: Installation, write_model: Callable[..., Path]) -> Callable[..., None]:
    def publish(name: str, code: str = CODE) -> None:
        gate = f"GATE = {str(headway.scratch / name)!r}\n"
        headway.ok("deploy", str(write_model(name, code + gate, spec=SPEC.format(name=name))))

    return publish


def open_gate(headway: Installation, name: str) -> None:
    """Jobs of ``name`` with the input 7 end only after this."""
    (headway.scratch / name).touch()


def workers(headway: Installation, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = headway.ok("status", name, "-o", "json").json()["worker_list"]
    return [one for one in found if one["phase"] not in ("stopping", "stopped")]


def test_from_nothing_to_workers_and_back_with_every_result(
    headway: Installation, publish: Callable[..., None]
) -> None:
    publish("j-burst")
    assert workers(headway, "j-burst") == []
    lines = "".join(f"[[{number / 1000}]]\n" for number in range(40))
    made = headway.ok("job", "submit", "j-burst", "--batch", "-", stdin=lines)
    ids = made.stdout.split()
    assert len(set(ids)) == 40
    wait_until(lambda: len(workers(headway, "j-burst")) == 2, what="both workers")
    for job_id in (ids[0], ids[-1]):
        headway.ok("job", "wait", "j-burst", job_id)
    jobs = headway.ok("job", "list", "j-burst", "-n", "100", "-o", "json").json()
    assert {job["state"] for job in jobs} == {"succeeded"}
    assert [job["attempts"] for job in jobs] == [1] * 40
    assert headway.ok("job", "result", "j-burst", ids[7]).json() == {"predictions": [[0.014]]}
    wait_until(lambda: not headway.processes("j-burst-v1") or not workers(headway, "j-burst"), what="no worker left")
    told = headway.ok("explain", "j-burst", "--workers", "--history", "--changed", "-o", "json").json()
    assert (told[0]["current"], told[0]["desired"], told[-1]["desired"]) == (0, 2, 0)
    assert headway.ok("predict", "j-burst", "-d", "[[0]]").json() == {"predictions": [[0.0]]}, "requests as ever"
    headway.ok("delete", "j-burst", "--yes")


def test_each_end_has_its_own_exit_code_and_words(headway: Installation, publish: Callable[..., None]) -> None:
    publish("j-ends")
    done = headway.ok("job", "submit", "j-ends", "-d", "[[0.01]]", "--wait", "--priority", "9")
    assert done.json() == {"predictions": [[0.02]]}
    raised = headway.run("job", "submit", "j-ends", "-d", "[[13]]", "--wait")
    assert (raised.code, "unlucky" in raised.stderr, "model.py:7" in raised.stderr) == (1, True, True), str(raised)
    wrong = headway.run("job", "submit", "j-ends", "-d", "nonsense", "--wait")
    assert wrong.code == 2, str(wrong)
    fell = headway.run("job", "submit", "j-ends", "-d", "[[11]]", "--wait")
    assert (fell.code, "after 2 attempts" in fell.stderr, "SIGSEGV" in fell.stderr) == (1, True, True), str(fell)
    late = headway.run("job", "submit", "j-ends", "-d", "[[0]]", "--not-before", "1h", "--deadline", "2s", "--wait")
    assert late.code in (1, 2), str(late)
    job_id = headway.ok("job", "submit", "j-ends", "-d", "[[60]]").stdout.strip()
    wait_until(lambda: state(headway, "j-ends", job_id) == "running", what="a running job")
    headway.ok("job", "cancel", "j-ends", job_id)
    canceled = headway.run("job", "wait", "j-ends", job_id, "--timeout", "30")
    assert (canceled.code, "was canceled" in canceled.stderr) == (5, True), str(canceled)
    headway.ok("delete", "j-ends", "--yes", "--cancel-jobs")


def test_a_deploy_and_a_killed_worker_leave_no_job_behind(headway: Installation, publish: Callable[..., None]) -> None:
    publish("j-stays")
    ids = [headway.ok("job", "submit", "j-stays", "-d", "[[7]]").stdout.strip() for _ in range(2)]
    wait_until(lambda: all(state(headway, "j-stays", one) == "running" for one in ids), what="two running jobs")
    publish("j-stays", CODE.replace("X * 2", "X * 3"))
    assert len(workers(headway, "j-stays")) == 2, "of the version that took the jobs in"
    os.kill(workers(headway, "j-stays")[0]["pid"], signal.SIGKILL)
    wait_until(lambda: sorted(attempts(headway, "j-stays")) == [1, 2], what="a second attempt")
    open_gate(headway, "j-stays")
    results = [headway.ok("job", "wait", "j-stays", one).json() for one in ids]
    assert results == [{"predictions": [[14.0]]}] * 2
    jobs = headway.ok("job", "list", "j-stays", "-o", "json").json()
    assert sorted(job["attempts"] for job in jobs) == [1, 2]
    assert {(job["version"], job["ranVersion"]) for job in jobs} == {("v1", "v1")}
    lost = next(job for job in jobs if job["attempts"] == 2)["error"]
    assert (lost["code"], "SIGKILL" in lost["message"]) == ("worker_lost", True)
    assert headway.ok("job", "submit", "j-stays", "-d", "[[0]]", "--wait").json() == {"predictions": [[0.0]]}
    job_id = headway.ok("job", "submit", "j-stays", "-d", "[[60]]").stdout.strip()
    refused = headway.run("delete", "j-stays", "--yes")
    assert (refused.code, "1 job that has not ended" in refused.stderr) == (5, True), str(refused)
    assert state(headway, "j-stays", job_id) in ("queued", "running")
    headway.ok("delete", "j-stays", "--yes", "--cancel-jobs")


def attempts(headway: Installation, name: str) -> list[int]:
    return [job["attempts"] for job in headway.ok("job", "list", name, "-o", "json").json()]


def state(headway: Installation, name: str, job_id: str) -> str:
    return str(headway.ok("job", "get", name, job_id, "-o", "json").json()["state"])


def test_the_next_control_plane_takes_workers_in_and_their_jobs_go_on(
    headway: Installation, publish: Callable[..., None]
) -> None:
    publish("j-adopted")
    job_id = headway.ok("job", "submit", "j-adopted", "-d", "[[7]]").stdout.strip()
    wait_until(lambda: state(headway, "j-adopted", job_id) == "running", what="a running job")
    before = {one["pid"] for one in workers(headway, "j-adopted")}
    control = headway.ok("info", "-o", "json").json()["pid"]
    headway.kill(next(one for one in headway.processes() if one.pid == control))
    headway.up()
    assert {one["pid"] for one in workers(headway, "j-adopted")} == before
    open_gate(headway, "j-adopted")
    assert headway.ok("job", "wait", "j-adopted", job_id).json() == {"predictions": [[14.0]]}
    assert headway.ok("job", "get", "j-adopted", job_id, "-o", "json").json()["attempts"] == 1
    headway.ok("delete", "j-adopted", "--yes", "--cancel-jobs")
