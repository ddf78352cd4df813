"""``headway worker``: one more worker in the foreground, for a job server that the test keeps."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.installation import HEADWAY, Installation
from tests.job_wire_server import ServedJobs
from tests.waiting import wait_until

MODEL = """\
import os, time

class Model:
    def predict(self, X: dict):
        if "at" in X:
            open(X["at"], "w").close()
        while "until" in X and not os.path.exists(X["until"]):
            time.sleep(0.01)
        return X["do"]
"""


@contextmanager
def worker(installation: Installation, served: ServedJobs, *args: str) -> Iterator[subprocess.Popen[str]]:
    command = [str(HEADWAY), "worker", *args, "--job-server", served.address, "-o", "json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=installation.env)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=30)


@pytest.fixture
def served(scratch: Path) -> Iterator[ServedJobs]:
    with ServedJobs.running(scratch / "w.sock") as served:
        yield served


def test_it_takes_jobs_until_it_is_told_to_stop(
    shared: Installation, served: ServedJobs, write_model: Callable[..., Path], scratch: Path
) -> None:
    shared.ok("deploy", str(write_model("jobs", MODEL)))
    for args, code, words in (
        (("nobody",), 3, "no model nobody"),
        (("jobs", "--version", "v7"), 3, "no version v7"),
        (("jobs", "--job-server", "here"), 2, "tcp:HOST:PORT"),
    ):
        refused = shared.run("worker", *args)
        assert (refused.code, words in refused.stderr) == (code, True), str(refused)
    with worker(shared, served, "jobs") as process:
        assert process.stdout is not None
        started = json.loads(process.stdout.readline())
        assert (started["model"], started["version"], started["job_server"]) == ("jobs", "v1", served.address)
        first = served.add({"do": "well"})
        served.until("succeeded", first)
        assert first.workers == [started["worker"]]
        seen = shared.ok("status", "jobs", "-o", "json").json()
        assert (seen["state"], len(seen["replica_list"])) == ("ready", 1)  # it serves nobody, so it does not count
        job = served.add({"do": "late", "at": str(scratch / "at"), "until": str(scratch / "go")})
        wait_until((scratch / "at").exists)
        process.send_signal(signal.SIGINT)
        (scratch / "go").touch()
        assert process.wait(30) == 0
        assert job.state == "succeeded"
    with worker(shared, served, "jobs", "--version", "v1") as process:
        assert process.stdout is not None
        process.stdout.readline()
        job = served.add({"do": "never", "at": str(scratch / "on"), "until": str(scratch / "no")})
        wait_until((scratch / "on").exists)

        def ended() -> bool:
            process.send_signal(signal.SIGTERM)  # again and again: the second one has the job given back
            return process.poll() is not None

        wait_until(ended)
        assert process.returncode == 0
        assert (job.state, [told.given_back for told in job.told]) == ("queued", [True])
    assert not list((shared.home / "workers").glob("jobs-*"))
    assert not shared.processes("workers/jobs-")
    shared.ok("delete", "jobs", "--yes")


def test_what_cannot_be_loaded_ends_it(
    shared: Installation, served: ServedJobs, write_model: Callable[..., Path], scratch: Path
) -> None:
    mark = scratch / "broken"
    code = f"import os\nif os.path.exists({str(mark)!r}):\n    raise ValueError('no luck')\ndef predict(X): return X\n"
    shared.ok("deploy", str(write_model("frail", code)))
    mark.touch()
    refused = shared.run("worker", "frail", "--job-server", served.address)
    assert refused.code == 7, str(refused)
    assert "no luck" in refused.stderr
    assert "model.py:3" in refused.stderr
    shared.ok("delete", "frail", "--yes")
