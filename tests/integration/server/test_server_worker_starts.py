"""How workers come to be: what cannot be forked is spawned, what does not work is reported."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.integration.server.crew import CONST, THREAD, Crew, ask
from tests.waiting import wait_until

OPENMP = """
import numpy, os
from sklearn.ensemble import HistGradientBoostingRegressor
class M:
    def load(self):
        x = numpy.linspace(0, 1, 1200).reshape(300, 4)
        self.model = HistGradientBoostingRegressor(max_iter=2).fit(x, x[:, 0])
    def predict(self, X):
        return self.model.predict(X)
"""
CONNECTED = """
import socket
class M:
    def load(self):
        self.ours, self.theirs = socket.socketpair()
    def predict(self, X):
        return [0]
"""


@pytest.mark.parametrize(
    ("source", "reason"),
    [(THREAD, "loading started threads (prefetch)"), (OPENMP, "native thread"), (CONNECTED, "connections")],
    ids=["a thread", "an OpenMP pool", "a connection"],
)
def test_what_a_fork_would_break_is_spawned_instead(scratch: Path, source: str, reason: str) -> None:
    with Crew(scratch, {"model.py": source, "sample.json": "[[1, 2, 3, 4]]"}) as crew:
        assert reason in crew.log()
        assert len(crew.pids()) == 2
        answers = set()
        for _ in range(8):
            with crew.connect() as raw:
                answers.add(str(ask(raw, b"[[1, 2, 3, 4]]")))
        assert len(answers) == 1
        assert crew.metric(f'headway_worker_start{{{CONST},mode="spawn"}}') == 1
        before = crew.pids()
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: len(crew.pids() - before) == 1)
        wait_until(lambda: crew.metric("headway_workers") == 2)
        crew.terminate()
        assert crew.exit_code() == 0, crew.log()
        assert not crew.socket_path.exists()


def test_a_forked_worker_that_dies_of_its_sample_is_spawned_instead(scratch: Path) -> None:
    source = """
import os
PARENT = os.getpid()
class M:
    def predict(self, X):
        if os.getpid() != PARENT:
            os.kill(os.getpid(), 11)
        return [0]
"""
    with Crew(scratch, {"model.py": source, "sample.json": "[[1]]"}) as crew:
        assert "was killed by SIGSEGV" in crew.log()
        assert crew.metric(f'headway_worker_start{{{CONST},mode="spawn"}}') == 1


@pytest.mark.parametrize(
    ("source", "stage", "message"),
    [
        ("def predict(X):\n    raise KeyError('age')\n", "sample", "KeyError: 'age'"),
        ("class M:\n    def load(self):\n        1 / 0\n    def predict(self, X): ...\n", "load", "ZeroDivisionError"),
    ],
)
def test_a_model_that_does_not_work_is_reported(scratch: Path, source: str, stage: str, message: str) -> None:
    files = {"model.py": source, "sample.json": "[[1]]"}
    with Crew(scratch, files, wait=False) as crew:
        assert crew.exit_code() == 78, crew.log()
        assert crew.failure().stage == stage
        assert message in crew.failure().message


def test_a_crash_while_spawned_workers_load_is_that_of_the_replica(scratch: Path) -> None:
    source = f"""
import os, threading, time
class M:
    def load(self):
        if os.path.exists("{scratch}/once"):
            os.kill(os.getpid(), 11)
        open("{scratch}/once", "w").close()
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
    def predict(self, X):
        return [0]
"""
    with Crew(scratch, source, wait=False) as crew:
        assert crew.exit_code() == -signal.SIGSEGV, crew.log()
