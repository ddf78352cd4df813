"""What replicas are scaled by goes away, in every way there is: the count stays, an event tells, and it comes back.

A model by Prometheus (a server that answers as told: unreachable, empty, NaN, infinite, 500, slow, no JSON, a wrong
type, two series) and a model by a list in a real Redis (stopped, killed, started again with its data). Both have 4
replicas when all is well. During each fault the count is looked at ten times a second.

    python benchmarks/signals_lost.py

Exit 0 when the count never moved and each fault was told once and its end once, 1 otherwise; 2 without redis-server.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from installation import Installation, free_port, write_model
from redis import Redis

from headway.client import Client

WANTED: Final = 4
FAULT_S: Final = 6.0
PATIENCE_S: Final = 30.0
CODE: Final = """
class Model:
    def predict(self, X):
        return [1] * len(X)
"""


def vector(*values: str) -> bytes:
    series = [{"metric": {"n": str(n)}, "value": [time.time(), value]} for n, value in enumerate(values)]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": series}}).encode()


ANSWERS: Final[dict[str, Callable[[], tuple[int, bytes, float]]]] = {
    "well": lambda: (200, vector("4"), 0),
    "empty": lambda: (200, vector(), 0),
    "NaN": lambda: (200, vector("NaN"), 0),
    "infinite": lambda: (200, vector("+Inf"), 0),
    "500": lambda: (500, b"oops", 0),
    "slow": lambda: (200, vector("0"), 3.0),
    "no JSON": lambda: (200, b"<html>", 0),
    "wrong type": lambda: (200, b'{"status":"success","data":{"resultType":"matrix","result":[]}}', 0),
    "two series": lambda: (200, vector("0", "1"), 0),
}


class Metrics:
    """Answers as Prometheus does, or as ``mode`` says."""

    def __init__(self) -> None:
        self.mode = "well"
        self.port = free_port()
        self._server: ThreadingHTTPServer | None = None

    def open(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, body, pause_s = ANSWERS[outer.mode]()
                time.sleep(pause_s)
                with contextlib.suppress(OSError):  # who asked has given up
                    self.send_response(status)
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()


class RedisServer:
    """A real one that keeps its data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder)]
        command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until(lambda: _answers(self.port), "Redis answers")

    def send(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)


def _answers(port: int) -> bool:
    try:
        return bool(Redis(port=port).ping())
    except OSError:
        return False


def until(fact: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not fact():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {PATIENCE_S:g} s: {what}")
        time.sleep(0.1)


class Watched:
    """A model and what became of it."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name
        self.good = True

    def counts(self) -> tuple[int, int]:
        version = self._client.scaling(self.name).versions[0]
        return version.wished, version.ready

    def told(self) -> tuple[int, int]:
        types = [event.type for event in self._client.events(model=self.name)]
        return types.count("scaling_signal_lost.v1"), types.count("scaling_signal_back.v1")

    def fault(self, what: str, begin: Callable[[], object], end: Callable[[], object]) -> None:
        """Have it, look on, end it."""
        lost, back = self.told()
        seen: set[int] = set()
        begin()
        deadline = time.monotonic() + FAULT_S
        while time.monotonic() < deadline:
            seen.add(self.counts()[0])
            time.sleep(0.1)
        until(lambda: self.told()[0] > lost, f"{what}: an event tells that the signal is lost")
        end()
        until(lambda: self.told()[1] > back, f"{what}: an event tells that it is back")
        seen.add(self.counts()[0])
        now_lost, now_back = self.told()
        good = seen == {WANTED} and (now_lost - lost, now_back - back) == (1, 1)
        self.good &= good
        text = f"replicas {sorted(seen)}, told {now_lost - lost} time(s), back {now_back - back} time(s)"
        print(f"    {self.name:12}{what:22}{text}: {'pass' if good else 'FALLS SHORT'}", flush=True)


def scaling(trigger: dict[str, object]) -> dict[str, object]:
    polled = {**trigger, "pollingInterval": "1s", "timeout": "1s"}
    behavior = {"scaleDown": {"stabilizationWindowSeconds": 0}}
    return {"scaling": {"minReplicas": 1, "maxReplicas": 8, "triggers": [polled], "behavior": behavior}}


def run(installation: Installation, root: Path, metrics: Metrics, server: RedisServer) -> bool:
    client = installation.client()
    address = f"http://127.0.0.1:{metrics.port}"
    by_metric = {"type": "prometheus", "serverAddress": address, "query": "depth", "threshold": 1}
    by_list = {"type": "redis", "address": f"127.0.0.1:{server.port}", "listName": "jobs", "listLength": 1}
    client.deploy(write_model(root / "prometheus", "prometheus", CODE, scaling(by_metric)))
    client.deploy(write_model(root / "redis", "redis", CODE, scaling(by_list)))
    first, second = Watched(client, "prometheus"), Watched(client, "redis")
    until(lambda: first.counts() == second.counts() == (WANTED, WANTED), f"both have {WANTED} replicas")

    def mode(name: str) -> Callable[[], None]:
        return lambda: setattr(metrics, "mode", name)

    for name in [name for name in ANSWERS if name != "well"]:
        first.fault(name, mode(name), mode("well"))
    first.fault("down", metrics.close, metrics.open)
    second.fault("hangs", lambda: server.send(signal.SIGSTOP), lambda: server.send(signal.SIGCONT))
    second.fault("killed, started again", lambda: server.send(signal.SIGKILL), server.start)
    return first.good and second.good


def main() -> int:
    if not shutil.which("redis-server"):
        print("this needs redis-server: apt install redis-server", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as folder:
        root = Path(folder)
        (root / "home").mkdir()
        metrics, server = Metrics(), RedisServer(root)
        metrics.open()
        server.start()
        Redis(port=server.port).rpush("jobs", *range(WANTED))
        installation = Installation(root / "home", None)
        installation.up()
        try:
            good = run(installation, root, metrics, server)
        finally:
            installation.down()
            metrics.close()
            server.send(signal.SIGKILL)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
