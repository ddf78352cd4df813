"""What the processes of one replica share: memory, log, stack file."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import psutil

from headway.server.process_usage import proportional_bytes
from tests.integration.server.crew import CONST, PID, Crew, ask, gated, rows
from tests.waiting import wait_until


def test_four_workers_share_one_loaded_model(scratch: Path) -> None:
    source = """
import numpy
class M:
    def load(self):
        self.weights = numpy.ones(25_000_000)
    def predict(self, X):
        return [float(self.weights[::4096].sum())] * len(X)
"""
    used = {}
    for count in (1, 4):
        folder = scratch / str(count)
        folder.mkdir()
        with Crew(folder, source, count) as crew:
            for _ in range(20):
                with crew.connect() as raw:
                    ask(raw)
            used[count] = proportional_bytes([crew.process.pid, *crew.pids()])
            if count == 4:
                shown = crew.metric("process_resident_memory_bytes")
                assert 200e6 < shown < 2 * used[4]
    assert used[1] > 200e6
    assert used[4] < 2 * used[1], used


def test_one_process_rotates_the_log_and_the_others_follow(scratch: Path) -> None:
    source = """
import os
class M:
    def predict(self, X):
        for number in range(int(X[0][0]), int(X[0][-1])):
            print(f"line {os.getpid()} {number:07d} " + "x" * 80, flush=True)
        return [os.getpid()]
"""
    with Crew(scratch, source, log_max_bytes=50_000, log_files=60) as crew:
        made = crew.each()
        printed = dict.fromkeys(made, 1)
        while not (scratch / "log.3").exists():
            for pid, raw in made.items():
                assert ask(raw, b"[[%d, %d]]" % (printed[pid], printed[pid] + 100)) == [pid]
                printed[pid] += 100
            assert sum(printed.values()) < 2_000_000
        wait_until(crew.log_path.exists)  # for a moment it is not, while it is rotated
        inode = crew.log_path.stat().st_ino
        for pid in (*made, crew.process.pid):
            wait_until(lambda pid=pid: os.stat(f"/proc/{pid}/fd/1").st_ino == inode)  # type: ignore[misc]
        crew.terminate()
        assert crew.exit_code() == 0
    text = "".join(path.read_text() for path in scratch.glob("log*"))
    for pid, last in printed.items():
        numbers = sorted(int(n) for n in re.findall(rf"line {pid} (\d+) x", text))
        assert [n for n in numbers if n >= 1] == list(range(1, last))


def test_sigusr2_shows_the_stacks_of_every_worker(scratch: Path) -> None:
    gate = scratch / "gate"
    with Crew(scratch, gated(gate)) as crew:
        made = crew.each()
        for raw in made.values():
            raw.sendall(rows(b"[[-1]]"))
        wait_until(lambda: crew.metric(f"headway_requests_in_flight{{{CONST}}}") == 2)
        crew.process.send_signal(signal.SIGUSR2)
        wait_until(lambda: (scratch / "stacks").read_text().count("in predict\n") >= 2)
        assert crew.pids() == set(made)
        gate.touch()
        for pid, raw in made.items():
            assert raw.recv(9999).endswith(b"[%d]}" % pid)
            raw.close()


def test_the_parent_costs_next_to_nothing(scratch: Path) -> None:
    with Crew(scratch, PID) as crew:
        parent = psutil.Process(crew.process.pid)
        began, before = time.monotonic(), sum(parent.cpu_times()[:2])
        with crew.connect() as raw:
            wait_until(lambda: (ask(raw), time.monotonic() - began > 1.5)[1])
        assert sum(parent.cpu_times()[:2]) - before < 0.05 * (time.monotonic() - began)
