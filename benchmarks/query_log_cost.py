"""What the query log costs, and whether a million requests leave memory flat.

Two model servers with the same scikit-learn model, one with the query log and one without, are pinned to one core
and driven in turns by wrk on the other, 64 connections; short turns, so that a machine whose speed drifts is the same
one within a pair. Each pair of neighbouring rounds gives a ratio; the median of them must be at least 0.97. Beside it
stands the processor time per request without the log over that with it, which a neighbour on the same machine
disturbs less: on a core of its own the two are the same. Then the one with the log takes the rest of a million
requests: its resident memory at the end must be at most 1.05 times that after 100,000.

Exit 0 when both hold, 1 otherwise, 2 without wrk.

    python benchmarks/query_log_cost.py [--pairs 60] [--seconds 1] [--requests 1000000]
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from replica import Server

MODEL = """
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

class Model:
    def load(self):
        self.model = LogisticRegression(max_iter=500).fit(*load_iris(return_X_y=True))
    def predict(self, X, features_names=None):
        return self.model.predict(X)
"""
SCRIPT = """
wrk.method = "POST"
wrk.body = "[[5.1, 3.5, 1.4, 0.2]]"
wrk.headers["Content-Type"] = "application/json"
"""


def drive(wrk: str, script: Path, port: int, seconds: int) -> tuple[float, int]:
    """Requests a second, and how many; fails when one was not answered 200."""
    command = [wrk, "-t1", "-c64", f"-d{seconds}s", "-s", str(script), f"http://127.0.0.1:{port}/predict"]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise SystemExit(f"not every request was answered:\n{text}")
    rate, count = re.search(r"Requests/sec:\s*([\d.]+)", text), re.search(r"(\d+) requests in", text)
    assert rate is not None
    assert count is not None
    return float(rate[1]), int(count[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--seconds", type=int, default=1)
    parser.add_argument("--requests", type=int, default=1_000_000)
    chosen = parser.parse_args()
    wrk = shutil.which("wrk")
    if wrk is None:
        print("this needs wrk: apt install wrk", file=sys.stderr)
        return 2
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as root:
        script = Path(root) / "post.lua"
        script.write_text(SCRIPT)
        folders = [Path(root) / name for name in ("with", "without")]
        for folder in folders:
            folder.mkdir()
        logged, bare = Server(folders[0], MODEL), Server(folders[1], MODEL, logged=False)
        try:
            sent = sum(drive(wrk, script, server.port, 2)[1] for server in (bare, logged))
            ratios, rates, costs = [], [], []
            early = 0
            for turn in range(chosen.pairs):
                # Who goes first alternates, so that a machine that slows down favours nobody.
                order = (logged, bare) if turn % 2 else (bare, logged)
                found, spent_s = {}, {}
                for server in order:
                    before_s = server.cpu_s()
                    found[server] = drive(wrk, script, server.port, chosen.seconds)
                    spent_s[server] = (server.cpu_s() - before_s) / found[server][1]
                sent += found[logged][1]
                early = early or (logged.rss_bytes() if sent >= 100_000 else 0)
                ratios.append(found[logged][0] / found[bare][0])
                costs.append(spent_s[bare] / spent_s[logged])
                rates.append(found[logged][0])
            while sent < chosen.requests:
                sent += drive(wrk, script, logged.port, 10)[1]
                early = early or logged.rss_bytes()
            late = logged.rss_bytes()
        finally:
            logged.stop()
            bare.stop()
    cost, growth = statistics.median(ratios), late / early
    print(f"with the log: median {statistics.median(rates):,.0f} requests/s")
    print(f"throughput with the log over without, {len(ratios)} pairs: median {cost:.3f}, ", end="")
    print(f"{min(ratios):.3f} to {max(ratios):.3f} (wanted >= 0.97): {'pass' if cost >= 0.97 else 'FALLS SHORT'}")
    print(f"processor time per request without the log over with: median {statistics.median(costs):.3f}, ", end="")
    print(f"{min(costs):.3f} to {max(costs):.3f}")
    print(f"memory after 100,000 requests {early / 2**20:.1f} MiB, after {sent:,} {late / 2**20:.1f} MiB, ", end="")
    print(f"{growth:.3f} times (wanted <= 1.05): {'pass' if growth <= 1.05 else 'FALLS SHORT'}")
    return 0 if cost >= 0.97 and growth <= 1.05 else 1


if __name__ == "__main__":
    sys.exit(main())
