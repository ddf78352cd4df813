"""What serving adds to an R model's own time: at most 1 ms at one connection, batching on.

The examples (``lm`` on mtcars, ``glm`` on iris) are timed in R itself, one row a call, and then through a model server,
one request at a time over one connection; both in turns, medians of a round, and the difference within the round. Then
16 connections at once: how many rows per second, against R's own calls per second.

    python benchmarks/r_models.py [--rounds 7] [--calls 400]
"""

from __future__ import annotations

import argparse
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from headway.server.config import ServerConfig, write_config
from headway.server.r_process import find_rscript

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
BAR_MS = 1.0
CONNECTIONS = 16
ROWS = {
    "mtcars": (
        b'[{"wt":2.62,"hp":110,"transmission":"manual"}]',
        'data.frame(wt = 2.62, hp = 110, transmission = factor("manual", levels = levels(features$transmission)))',
    ),
    "iris-r": (
        b"[[5.9,3.0,4.2,1.5]]",
        "setNames(data.frame(5.9, 3, 4.2, 1.5), names(features))",
    ),
}
TIMED = """
source("model.R"); load(); X <- %s; told <- names(features)
spent <- numeric(%d)
for (i in seq_along(spent)) { began <- Sys.time(); p <- predict(X, told); spent[i] <- Sys.time() - began }
cat(stats::median(spent), stats::quantile(spent, 0.95))
"""


def in_r(rscript: str, bundle: Path, frame: str, calls: int) -> tuple[float, float]:
    """Median and p95 of a call of ``predict`` in R, in seconds."""
    done = subprocess.run(
        [rscript, "-e", TIMED % (frame, calls)], cwd=bundle, check=True, capture_output=True, text=True
    )
    median, p95 = map(float, done.stdout.split())
    return median, p95


class Served:
    """A model server around ``bundle``."""

    def __init__(self, folder: Path, bundle: Path, body: bytes) -> None:
        self._path = f"{folder}/s"
        config = ServerConfig(
            replica_id="m-v1-bcdfg", model="m", version="v1", digest="0" * 64, bundle_path=str(bundle),
            listen=f"unix:{self._path}", log_file=str(folder / "log"), query_log_dir=str(folder / "query-log"),
        )  # fmt: skip
        write_config(config, folder / "config.json")
        self._request = b"POST /predict HTTP/1.1\r\nhost: m\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        self.process = subprocess.Popen([sys.executable, "-m", "headway.server", str(folder / "config.json")])
        deadline = time.monotonic() + 60
        while not Path(self._path).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        self._connections = [self._connect() for _ in range(CONNECTIONS)]

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self._path)
        return connection

    def one_by_one(self, calls: int) -> tuple[float, float]:
        """Median and p95 of a request, in seconds."""
        spent = []
        for _ in range(calls):
            began = time.perf_counter()
            self._ask(self._connections[0])
            self._hear(self._connections[0])
            spent.append(time.perf_counter() - began)
        return statistics.median(spent), statistics.quantiles(spent, n=20)[-1]

    def together(self, calls: int) -> float:
        """Rows per second over all connections."""
        began = time.perf_counter()
        for _ in range(calls // CONNECTIONS):
            for connection in self._connections:
                self._ask(connection)
            for connection in self._connections:
                self._hear(connection)
        return calls // CONNECTIONS * CONNECTIONS / (time.perf_counter() - began)

    def _ask(self, connection: socket.socket) -> None:
        connection.sendall(self._request)

    def _hear(self, connection: socket.socket) -> None:
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 "), answer

    def stop(self) -> None:
        for connection in self._connections:
            connection.close()
        self.process.terminate()
        self.process.wait(30)


def measure(name: str, rounds: int, calls: int) -> float:
    """Print the example's figures; the median of what was added, in milliseconds."""
    rscript = find_rscript()
    body, frame = ROWS[name]
    with tempfile.TemporaryDirectory() as scratch:
        bundle = Path(scratch) / "bundle"
        shutil.copytree(EXAMPLES / name, bundle)
        if (bundle / "train.R").exists():
            subprocess.run([rscript, str(bundle / "train.R")], check=True, capture_output=True)
        served = Served(Path(scratch), bundle, body)
        own, through, added, gain = [], [], [], []
        try:
            served.one_by_one(calls)
            for _ in range(rounds):
                alone, answered = in_r(rscript, bundle, frame, calls), served.one_by_one(calls)
                rows_per_s = served.together(4 * calls)
                own.append(alone)
                through.append(answered)
                added.append((answered[0] - alone[0]) * 1000)
                gain.append(rows_per_s * alone[0])
        finally:
            served.stop()
    middle = statistics.median(added)
    print(f"{name}: p50 of a call in R {1000 * statistics.median(o[0] for o in own):.3f} ms, of a request "
          f"{1000 * statistics.median(t[0] for t in through):.3f} ms; added {middle:.3f} ms "
          f"({min(added):.3f} to {max(added):.3f}), bar {BAR_MS:g}")  # fmt: skip
    print(f"{name}: p95 of a call in R {1000 * statistics.median(o[1] for o in own):.3f} ms, of a request "
          f"{1000 * statistics.median(t[1] for t in through):.3f} ms")  # fmt: skip
    print(f"{name}: rows per second at {CONNECTIONS} connections, as a multiple of R's own calls per second: "
          f"{statistics.median(gain):.1f} ({min(gain):.1f} to {max(gain):.1f})")  # fmt: skip
    return middle


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=400)
    arguments = parser.parse_args()
    worst = max([measure(name, arguments.rounds, arguments.calls) for name in ROWS])
    return 0 if worst <= BAR_MS else 1


if __name__ == "__main__":
    sys.exit(main())
