"""From a threefold step in load to a new replica that serves.

A replica predicts one request at a time, 0.1 s each. 6 requests/s come, then, from one moment to the next, 18. The
concurrency policy has its defaults (a stable window of 60 s, a panic window of 6 s). Measured, by the generator's
clock: from the first request of the step to the first answer that a replica gives that was not there before. At most
3 s in every round.

    python benchmarks/reaction.py [--rounds 5]

Exit 0 when it held, 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from installation import Installation, write_model
from open_loop import OpenLoop, Report

BEFORE, AFTER = 6.0, 18.0
SETTLE_S, STEP_S = 15.0, 8.0
MOST_S: Final = 3.0
CODE: Final = """
import time
class Model:
    def predict(self, X):
        time.sleep(0.1)
        return [1] * len(X)
"""
SPEC: Final = {
    "server": {"maxBatchSize": 1, "maxQueue": 1000},
    "scaling": {"minReplicas": 1, "maxReplicas": 8, "triggers": [{"type": "concurrency", "target": 1}]},
}


async def load(port: int, name: str, rate: float, seconds: float) -> Report:
    until = time.monotonic() + seconds
    generator = OpenLoop("127.0.0.1", port, f"/models/{name}/predict", [b"[[1]]"], rate_per_s=rate)
    return await generator.run(lambda: time.monotonic() >= until)


async def step(port: int, name: str) -> tuple[float, Report]:
    """Seconds from the step to the first answer of a new replica; inf when there was none."""
    before = await load(port, name, BEFORE, SETTLE_S)
    known = {answer.headers.get("x-headway-replica") for answer in before.answers}
    began = time.monotonic()
    after = await load(port, name, AFTER, STEP_S)
    new = [
        answer.scheduled_at + answer.latency_s - began
        for answer in after.answers
        if answer.status == 200 and answer.headers["x-headway-replica"] not in known
    ]
    return min(new, default=float("inf")), after


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    taken: list[float] = []
    failed = 0
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        installation = Installation(home, None)
        installation.up()
        try:
            for turn in range(given.rounds):
                client, name = installation.client(), f"reaction-{turn}"
                client.deploy(write_model(Path(folder) / name, name, CODE, SPEC))
                seconds, report = asyncio.run(step(installation.data_port, name))
                decided = client.decisions(name, changed=True, last=1000)
                failed += len(report.failed())
                taken.append(seconds)
                by = ", ".join(f"{one.current} -> {one.desired} ({one.binding})" for one in decided[:3])
                print(f"    round {turn + 1}: {seconds:.2f} s; {by}; p99 {report.quantile_ms(0.99):.0f} ms", flush=True)
                client.delete(name)
        finally:
            installation.down()
    good = max(taken) < MOST_S and not failed
    print(f"    from the step to the new replica's first answer: median {statistics.median(taken):.2f} s, ", end="")
    print(f"slowest {max(taken):.2f} s (less than {MOST_S:g} s); {failed} requests failed: ", end="")
    print("pass" if good else "FALLS SHORT")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
