"""Several worker processes behind one socket: together they are one replica."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.integration.server.crew import CONST, PID, Crew, ask, gated, rows
from tests.waiting import wait_until


def test_all_workers_answer_and_none_has_less_than_a_quarter_of_its_share(scratch: Path) -> None:
    with Crew(scratch, PID) as crew:
        pids = crew.pids()
        assert len(pids) == 2

        def fair() -> bool:
            made = [crew.connect() for _ in range(64)]
            for raw in made:
                raw.sendall(rows(b"[[1]]"))
            spread = Counter(json.loads(raw.recv(999).partition(b"\r\n\r\n")[2])["predictions"][0] for raw in made)
            for raw in made:
                raw.close()
            assert set(spread) <= pids
            return len(spread) == 2 and min(spread.values()) >= 8

        wait_until(fair, what="a round in which both had a processor all the while")
        assert "(fork)" in crew.log()
        assert crew.metric(f'headway_worker_start{{{CONST},mode="fork"}}') == 1


def test_one_worker_is_no_child_at_all(scratch: Path) -> None:
    with Crew(scratch, PID, 1) as crew, crew.client() as client:
        assert client.post("/predict", json=[[1]]).json() == {"predictions": [crew.process.pid]}
        assert crew.pids() == set()
        assert "headway_worker" not in client.get("/metrics").text


def test_the_replica_is_ready_when_every_worker_is(scratch: Path) -> None:
    gate, first = scratch / "gate", scratch / "first"
    source = f"""
import os, time
class M:
    def predict(self, X):
        try:
            os.close(os.open({str(first)!r}, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            while not os.path.exists({str(gate)!r}):
                time.sleep(0.01)
        return [0]
"""
    files = {"model.py": source, "sample.json": "[[1]]"}
    with Crew(scratch, files, wait=False) as crew, crew.client() as client:
        crew.await_listening()
        assert client.get("/health/live").status_code == 200
        answer = client.get("/health/ready")
        assert answer.status_code == 503
        assert "not all workers" in answer.text
        assert client.get("/health/status").status_code == 503
        gate.touch()
        wait_until(lambda: client.get("/health/ready").status_code == 200)


def test_metrics_are_those_of_all_workers_whichever_is_asked(scratch: Path) -> None:
    source = """
import os
class M:
    def predict(self, X):
        return X[:, 0]
    def metrics(self):
        return [{"type": "COUNTER", "key": "seen", "value": 1}, {"type": "GAUGE", "key": "who", "value": os.getpid()}]
"""
    with Crew(scratch, source, 4, options={"max_batch_size": 1}) as crew:
        with ThreadPoolExecutor(16) as pool:

            def send(_: int) -> None:
                with crew.client() as client:
                    for _ in range(50):
                        assert client.post("/predict", json=[[1]]).status_code == 200

            list(pool.map(send, range(20)))
        count = f'headway_requests_total{{{CONST},route="/predict",status="200"}}'
        wait_until(lambda: crew.metric(count) == 1000, what="the slowest worker's second is over")
        for name in ("headway_request_duration_seconds_count", "seen_total", "headway_batch_rows_sum"):
            wait_until(lambda name=name: crew.metric(name) >= 1000)  # type: ignore[misc]
        for _ in range(12):  # other workers answer, none has another opinion
            assert crew.metric(count) == 1000
            assert crew.metric("seen_total") == 1000
            assert crew.metric(f'headway_phase_duration_seconds_count{{{CONST},phase="predict"}}') == 1000
        assert int(crew.metric("who")) in crew.pids()
        assert crew.metric("headway_workers") == 4
        assert crew.metric("process_cpu_seconds_total") > 0.1
        assert crew.metric("process_resident_memory_bytes") > 10e6


def test_what_one_worker_showed_is_never_taken_back_by_another(scratch: Path) -> None:
    with Crew(scratch, PID, 3) as crew:
        shown = 0.0
        made = crew.each(3)
        for number in range(40):
            ask(list(made.values())[number % 3])
            now = crew.metric(f'headway_requests_total{{{CONST},route="/predict"')
            assert now >= shown
            shown = now


def test_each_worker_takes_its_share_of_the_queue(scratch: Path) -> None:
    tap = scratch / "gate"
    source = f"""
import os, time
class M:
    def predict(self, X):
        while not os.path.exists({str(tap)!r}):
            time.sleep(0.005)
        return [0]
"""
    with Crew(scratch, source, 2, options={"max_queue": 3, "max_batch_size": 1}) as crew:
        made: list[socket.socket] = []

        def one_more() -> None:
            made.append(crew.connect())
            made[-1].sendall(rows(b"[[1]]"))

        def full() -> bool:
            one_more()
            there = (crew.metric(f"headway_{name}{{{CONST}}}") for name in ("requests_in_flight", "queue_depth"))
            return sum(there) == 6

        wait_until(full)  # whoever of the two has the processor takes the most connections
        # Each of the two predicts one and lets two wait.
        for _ in range(4):
            one_more()
        refused = f'headway_requests_total{{{CONST},route="/predict",status="429"}}'
        wait_until(lambda: crew.metric(refused) == len(made) - 6)
        tap.touch()
        answers = Counter(raw.recv(9999).split()[1] for raw in made)
        for raw in made:
            raw.close()
        assert answers == Counter({b"200": 6, b"429": len(made) - 6})


# -- the way out --------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_every_worker_finishes_what_it_has(scratch: Path, number: signal.Signals) -> None:
    gate = scratch / "gate"
    with Crew(scratch, gated(gate)) as crew:
        made = crew.each()
        for raw in made.values():
            raw.sendall(rows(b"[[-1]]"))
        wait_until(lambda: crew.metric(f"headway_requests_in_flight{{{CONST}}}") == 2)
        crew.process.send_signal(number)
        wait_until(lambda: not _accepts(crew), what="no new connections")
        assert crew.process.poll() is None
        gate.touch()
        for pid, raw in made.items():
            answer = raw.recv(9999)
            assert b"200 OK" in answer
            assert b"connection: close" in answer
            assert answer.endswith(b'{"predictions":[%d]}' % pid)
        assert crew.exit_code() == 0, crew.log()
        assert not crew.socket_path.exists()


def _accepts(crew: Crew) -> bool:
    try:
        crew.connect().close()
    except OSError:
        return False
    return True


def test_during_the_drain_delay_no_worker_is_ready_and_all_serve(scratch: Path) -> None:
    with Crew(scratch, PID, drain_delay_s=60.0) as crew:
        crew.terminate()
        for _ in range(10):
            with crew.client() as client:
                wait_until(lambda client=client: client.get("/health/ready").status_code == 503)  # type: ignore[misc]
                assert client.post("/predict", json=[[1]]).status_code == 200


def test_a_replica_that_still_starts_can_be_told_to_stop(scratch: Path) -> None:
    source = "import time\nclass M:\n    def predict(self, X):\n        time.sleep(60)\n        return [0]\n"
    files = {"model.py": source, "sample.json": "[[1]]"}
    with Crew(scratch, files, wait=False) as crew:
        crew.await_listening()
        wait_until(lambda: len(crew.pids()) == 2)
        crew.terminate()
        assert crew.exit_code() == 0, crew.log()


def test_exit_handlers_of_load_run_once_and_last(scratch: Path) -> None:
    source = f"""
import atexit, os, tempfile
class M:
    def load(self):
        self.folder = tempfile.TemporaryDirectory()
        atexit.register(lambda: open("{scratch}/ended", "a").write(f"{{os.getpid()}}\\n"))
    def predict(self, X):
        return [os.path.isdir(self.folder.name)]
"""
    with Crew(scratch, source) as crew:
        before = crew.pids()
        os.kill(min(before), signal.SIGTERM)  # one worker alone drains and ends; another takes its place
        wait_until(lambda: len(crew.pids() - before) == 1)
        for _ in range(8):
            with crew.connect() as raw:
                assert ask(raw) == [True]
        crew.terminate()
        assert crew.exit_code() == 0
        assert (scratch / "ended").read_text().split() == [str(crew.process.pid)]
