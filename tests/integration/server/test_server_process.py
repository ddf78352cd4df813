"""The model server as a process: boot, failures, log, signals."""

from __future__ import annotations

import json
import re
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.server.replica import Replica, Tap
from tests.waiting import wait_until

DOUBLE = """
import sys
class Double:
    def load(self):
        print("loading", self.__class__.__name__)
        print("to stderr", file=sys.stderr)
    def predict(self, X):
        return X * 2
"""


def test_a_model_is_served_on_its_socket(scratch: Path) -> None:
    with Replica(scratch, DOUBLE) as replica, replica.client() as client:
        answer = client.post("/predict", json=[[1, 2.5]], headers={"x-request-id": "abc-1"})
        assert answer.json() == {"predictions": [[2.0, 5.0]]}
        assert answer.headers["x-headway-version"] == "v1"
        assert answer.headers["x-headway-replica"] == "iris-v1-bcdfg"
        assert answer.headers["x-request-id"] == "abc-1"
        assert client.get("/health/ready").status_code == 200
        assert stat.S_IMODE(replica.socket_path.stat().st_mode) == 0o600
        assert "loading Double" in replica.log()
        assert "to stderr" in replica.log()
        assert not list(replica.bundle.rglob("*.pyc"))
        assert not (scratch / "failure.json").exists()


def test_port_0_is_replaced_by_the_one_that_was_chosen(scratch: Path) -> None:
    with Replica(scratch, DOUBLE, wait=False, listen="tcp:127.0.0.1:0") as replica:
        found = wait_until(lambda: re.search(r"listening on tcp:127\.0\.0\.1:(\d+)", replica.log()))
        assert found is not None
        with socket.create_connection(("127.0.0.1", int(found[1])), 10) as raw:
            raw.sendall(b"GET /health/live HTTP/1.0\r\n\r\n")
            assert raw.recv(1000).startswith(b"HTTP/1.1 200 OK")


def test_the_bundle_is_home_and_first_on_the_path(scratch: Path) -> None:
    files = {
        "model.py": "import lib.part\nW = open('data/words.txt').read()\ndef predict(X):\n    return [W, lib.part.N]\n",
        "lib/part.py": "N = 7\n",
        "data/words.txt": "hello",
        "predict.json": "[[1]]",
    }
    with Replica(scratch, files, sample="predict.json") as replica, replica.client() as client:
        assert client.post("/predict", content=b"[[1]]").json() == {"predictions": ["hello", 7]}


CLASS = "class M:\n    def predict(self, X):\n        return [0]\n"


LOAD = CLASS + "    def load(self):\n        "


@pytest.mark.parametrize(
    ("source", "sample", "stage", "message", "where"),
    [
        ("def f(:\n", None, "import", "SyntaxError", "model.py:1"),
        ("\nimport no_such_package\n", None, "import", "no_such_package", "model.py:2"),
        ("import sys\nsys.exit(0)\n", None, "import", "SystemExit", "model.py:2"),
        (LOAD + "raise ValueError('bad things')\n", None, "load", "ValueError: bad things", "model.py:5"),
        (CLASS, "[[1, 2], [3]]", "sample", "row 1 has 1 values", "sample.json"),
        (CLASS, "", "sample", "the body is empty", "sample.json"),
        ("def predict(X):\n    raise KeyError('age')\n", "[[1]]", "sample", "KeyError: 'age'", "model.py:2"),
        ("def predict(X):\n    return object()\n", "[[1]]", "sample", "object", "sample.json"),
    ],
)
def test_a_model_that_does_not_work_ends_the_process_with_a_report(
    scratch: Path, source: str, sample: str | None, stage: str, message: str, where: str
) -> None:
    files = {"model.py": source} | ({} if sample is None else {"sample.json": sample})
    with Replica(scratch, files, wait=False, sample=None if sample is None else "sample.json") as replica:
        assert replica.exit_code() == 78, replica.log()
        report = replica.failure()
        code = "sample_prediction_failed" if stage == "sample" else "load_failed"
        assert (report.stage, report.code, report.where) == (stage, code, where)
        assert message in report.message
        assert message in replica.log()
        assert not replica.socket_path.exists()


def test_the_traceback_is_in_the_log(scratch: Path) -> None:
    with Replica(scratch, "1 / 0\n", wait=False) as replica:
        replica.exit_code()
        assert "Traceback (most recent call last)" in replica.log()


def test_a_segmentation_fault_leaves_its_place_in_the_log(scratch: Path) -> None:
    with Replica(scratch, LOAD + "import ctypes\n        ctypes.string_at(0)\n", wait=False) as replica:
        assert replica.exit_code() == -signal.SIGSEGV
        assert "Segmentation fault" in replica.log()
        assert 'model.py", line 6 in load' in replica.log()


def test_a_model_that_sets_up_logging_does_not_silence_the_server(scratch: Path) -> None:
    source = "import logging.config\nlogging.config.dictConfig({'version': 1})\ndef predict(X):\n    return 1 / 0\n"
    with Replica(scratch, source) as replica, replica.client() as client:
        assert client.post("/predict", json=[[1]]).json()["error"]["where"] == "model.py:4"
        assert "ZeroDivisionError" in replica.log()
        assert "listening on" in replica.log()


def test_a_socket_that_cannot_be_opened_is_reported(scratch: Path) -> None:
    (scratch / "s").write_text("a file of somebody else's")
    with Replica(scratch, DOUBLE, wait=False) as replica:
        assert replica.exit_code() == 78
        assert replica.failure().stage == "serve"
        assert (scratch / "s").read_text() == "a file of somebody else's"


def test_a_socket_left_by_a_dead_process_is_replaced(scratch: Path) -> None:
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(scratch / "s"))
    left.close()
    with Replica(scratch, DOUBLE) as replica, replica.client() as client:
        assert client.get("/health/live").status_code == 200


@pytest.mark.parametrize("text", ["{}", "nonsense", '{"unknown": 1}'])
def test_a_bad_config_is_named_on_stderr(scratch: Path, text: str) -> None:
    (scratch / "config.json").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "headway.server", str(scratch / "config.json")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "config.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_sigusr2_shows_where_a_hung_load_hangs(scratch: Path) -> None:
    source = (
        f"import time\n{LOAD}open('{scratch}/began', 'w').close()\n        while True:\n            time.sleep(1)\n"
    )
    with Replica(scratch, source, wait=False) as replica:
        wait_until((scratch / "began").exists)
        replica.process.send_signal(signal.SIGUSR2)
        text = wait_until(lambda: "load" in (t := (scratch / "stacks").read_text()) and t)
        assert "model.py" in str(text)
        assert re.search(r'model\.py", line [78] in load', str(text))
        assert replica.process.poll() is None


def test_the_log_is_rotated_without_losing_a_line(scratch: Path) -> None:
    source = """
import threading
class Chatty:
    def predict(self, X):
        for number in range(int(X[0][0]), int(X[0][1])):
            print(f"line {number:07d} " + "x" * 80, flush=True)
        return [0]
"""
    with Replica(scratch, source, log_max_bytes=50_000, log_files=50) as replica, replica.client() as client:
        step, count = 400, 0
        while not (scratch / "log.3").exists():
            assert client.post("/predict", json=[[count, count + step]]).status_code == 200
            count += step
            assert count < 1_000_000
        replica.terminate()
        assert replica.exit_code() == 0
    files = [scratch / "log", *sorted(scratch.glob("log.*"), key=lambda p: int(p.suffix[1:]))]
    lines = [line for path in reversed(files) for line in path.read_text().splitlines()]
    numbers = [int(m[1]) for line in lines if (m := re.match(r"line (\d+) x", line))]
    assert numbers == list(range(count))


def test_no_more_log_files_are_kept_than_asked_for(scratch: Path) -> None:
    source = "def predict(X):\n    print('x' * 5000)\n    return [0]\n"
    with Replica(scratch, source, log_max_bytes=4_000, log_files=2) as replica, replica.client() as client:
        files = [replica.log_path.stat().st_ino]

        def rotated_thrice() -> bool:
            client.post("/predict", json=[[1]])
            # A removed file's number may be given to a new one, but never to the very next.
            if (present := replica.log_path.stat().st_ino) != files[-1]:
                files.append(present)
            return len(files) > 3

        wait_until(rotated_thrice)
        assert {p.name for p in scratch.glob("log*")} == {"log", "log.1", "log.2"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_what_is_in_flight_and_ends_well(scratch: Path, number: signal.Signals) -> None:
    tap = Tap(scratch)
    with Replica(scratch, tap.source) as replica:
        idle, busy = replica.connect(), replica.connect()
        idle.sendall(b"GET /health/ready HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200 OK" in idle.recv(1000)
        busy.sendall(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n[[-1]]")
        wait_until(tap.lines)
        replica.process.send_signal(number)
        assert idle.recv(1000) == b""  # closed
        wait_until(lambda: not _accepts(replica))
        assert replica.process.poll() is None
        tap.open()
        answer = busy.recv(1000)
        assert b"200 OK" in answer
        assert b"connection: close" in answer
        assert answer.endswith(b'{"predictions":[-1.0]}')
        idle.close()
        busy.close()
        assert replica.exit_code() == 0, replica.log()
        assert not replica.socket_path.exists()


def _accepts(replica: Replica) -> bool:
    try:
        replica.connect().close()
    except OSError:
        return False
    return True


def test_during_the_drain_delay_it_serves_on_but_is_not_ready(scratch: Path) -> None:
    with Replica(scratch, DOUBLE, drain_delay_s=60.0) as replica, replica.client() as client:
        replica.terminate()
        wait_until(lambda: client.get("/health/ready").status_code == 503)
        answer = client.post("/predict", json=[[1]])
        assert answer.json() == {"predictions": [[2.0]]}
        assert answer.headers["connection"] == "close"
        assert client.get("/health/live").status_code == 200


def test_exit_handlers_of_the_model_run_and_its_threads_do_not_hold_the_process(scratch: Path) -> None:
    source = f"""
import atexit, threading, time
atexit.register(lambda: open("{scratch}/left", "w").close())
threading.Thread(target=lambda: time.sleep(1000), daemon=True).start()
def predict(X): ...
"""
    with Replica(scratch, source) as replica:
        replica.terminate()
        assert replica.exit_code() == 0
        assert (scratch / "left").exists()


def test_a_restart_takes_the_path_over_and_the_old_process_leaves_it_alone(scratch: Path) -> None:
    with Replica(scratch, DOUBLE, drain_delay_s=60.0) as old:
        (scratch / "bundle").chmod(0o755)
        (scratch / "bundle" / "model.py").chmod(0o644)
        with Replica(scratch, DOUBLE, wait=False, replica_id="iris-v1-new22") as new:
            wait_until(lambda: "iris-v1-new22" in _replica_of(new))
            old.process.kill()
            old.process.wait()
            assert "iris-v1-new22" in _replica_of(new)


def _replica_of(replica: Replica) -> str:
    with replica.client() as client:
        return str(client.get("/").json()["replica"])


def test_the_server_imports_nothing_heavy(scratch: Path) -> None:
    code = "import headway.server.boot, sys, json; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    loaded = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"numpy", "pandas", "pydantic", "fastapi", "sqlalchemy", "httpx", "typer", "rich", "yaml"} & set(loaded)
