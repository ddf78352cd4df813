"""Promise 3, tried hard: every request is in the query log once, with the status that its client saw.

A real installation with two versions of a model, two replicas each, takes 100,000 mixed requests through the
gateway (valid, invalid, pinned, misdirected, refused, shed, expired, given up), while replicas are SIGKILLed, one
every few seconds. Every request carries an id; afterwards the log is read back and compared, request by request.

* A request whose client saw a status has exactly one record, with that status.
* A request whose client saw none (it left, or its connection broke) has at most one.

Exit 0 when all of that holds, 1 otherwise.

    python benchmarks/query_log_complete.py [--requests 100000] [--rate 700]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import uvloop
from installation import Installation
from poisson import Phase, Poisson, post

from headway.client import Client

MODEL = '''"""Build {build}."""
import time


class Slow:
    """Takes as many seconds as its slowest row says."""

    def predict(self, X, features_names=None):
        time.sleep(max(row[0] for row in X))
        return X[:, 0]
'''
SPEC = """apiVersion: headway.dev/v1alpha1
kind: ModelDeployment
metadata: {name: mixed}
spec:
  server: {timeout: 10s, maxQueue: 24}
  scaling: {minReplicas: 2}
"""
KILL_EVERY_S = 4.0


def request(number: int, token: str) -> bytes:
    """The kind of request is decided by its number."""
    name = f"mix-{number}"
    kind = number % 50
    if kind == 0:
        return post("/models/mixed/predict", b"[[1, 2", x_request_id=name)
    if kind == 1:
        return post("/models/mixed/predict", b"[[1],[2,3]]", x_request_id=name)
    if kind == 2:
        return post("/models/mixed/nowhere", b"[[0]]", x_request_id=name)
    if kind == 3:
        return post("/models/mixed/versions/v9/predict", b"[[0]]", x_request_id=name)
    if kind == 4:
        return post("/models/mixed/predict", b"[[0]]", x_request_id=name, authorization="Bearer wrong")
    if kind == 5:
        return post("/models/mixed/predict", b"[[0.03]]", x_request_id=name, x_request_timeout_ms="5")
    if kind == 6:
        return post("/models/mixed/invocations", b'{"inputs": [[0.001]]}', x_request_id=name)
    if kind == 7:
        return post("/models/mixed/versions/v1/predict", b"[[0.001]]", x_request_id=name)
    if kind == 8:
        return post("/models/mixed/predict", b"[[0.002]]", x_request_id=name, authorization=f"Bearer {token}")
    if kind == 9 and number % 2000 < 50:
        return post("/models/mixed/predict", b"[[0.4]]", x_request_id=name)  # the queues fill: what comes is shed
    if kind == 10:
        return post("/models/mixed/v2/models/mixed/infer", b"{}", x_request_id=name)
    return post("/models/mixed/predict", b"[[0.0005]]", x_request_id=name)


def leaves(number: int) -> bool:
    return number % 997 == 11


def deploy(installation: Installation) -> str:
    client = installation.client()
    folder = installation.home.parent / "mixed"
    folder.mkdir()
    (folder / "headway.yaml").write_text(SPEC)
    for build, canary in ((1, None), (2, 50)):
        (folder / "model.py").write_text(MODEL.format(build=build))
        client.deploy(folder, canary=canary)
    return client.create_token("shop", scope="predict").token


async def kills(client: Client, over: asyncio.Event) -> int:
    """SIGKILL a replica every few seconds; how many."""
    chance, count = random.Random(7), 0
    while True:
        try:
            async with asyncio.timeout(KILL_EVERY_S):
                await over.wait()
            return count
        except TimeoutError:
            ready = [r for r in (await asyncio.to_thread(client.get, "mixed")).replica_list if r.ready and r.pid]
            if len(ready) == 4:
                os.kill(chance.choice(ready).pid or 0, signal.SIGKILL)
                count += 1


async def load(installation: Installation, token: str, requests: int, rate: float) -> tuple[Phase, int]:
    generator = Poisson("127.0.0.1", installation.data_port, lambda n: request(n, token), leaves=leaves)
    generator.warm(32)
    over = asyncio.Event()
    killing = asyncio.create_task(kills(installation.client(), over))
    total = Phase()
    while generator.sent < requests:
        seconds = min(10.0, (requests - generator.sent) / rate + 0.5)
        phase = await asyncio.to_thread(generator.run, rate, seconds)
        total.answers += phase.answers
        print(f"  {generator.sent} sent, {dict(sorted(phase.statuses().items()))}", flush=True)
    over.set()
    generator.close()
    return total, await killing


def compare(phase: Phase, client: Client, began: float) -> dict[str, object]:
    """What the log says beside what clients saw."""
    logged: dict[str, list[int]] = {}
    for record in client.records("mixed", since=began):
        if record.request_id.startswith("mix-"):
            logged.setdefault(record.request_id, []).append(record.status)
    missing, doubled, differing = [], [], []
    unseen = Counter[str]()
    for _, _, status, number in phase.answers:
        found = logged.pop(f"mix-{number}", [])
        if len(found) > 1:
            doubled.append((number, status, found))
        elif status == 0:
            unseen[str(found)] += 1
        elif not found:
            missing.append((number, status))
        elif found[0] != status:
            differing.append((number, status, found))
    return {
        "sent": len(phase.answers),
        "statuses": {str(status): count for status, count in sorted(phase.statuses().items())},
        "missing": len(missing),
        "doubled": len(doubled),
        "differing": len(differing),
        "records of requests never sent": len(logged),
        "clients that saw no status, by what was logged": dict(unseen),
        "examples": {"missing": missing[:5], "doubled": doubled[:5], "differing": differing[:5]},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--rate", type=float, default=700.0)
    chosen = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="hwq-"))
    home = root / "home"
    home.mkdir()
    installation = Installation(home, None)
    installation.up()
    try:
        token = deploy(installation)
        began = time.time() - 1
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            phase, killed = runner.run(load(installation, token, chosen.requests, chosen.rate))
        time.sleep(2)
        figures = compare(phase, installation.client(), began)
    finally:
        installation.down()
    figures["replicas killed"] = killed
    print(json.dumps(figures, indent=2))
    wrong = any(figures[name] for name in ("missing", "doubled", "differing", "records of requests never sent"))
    if wrong:
        print(f"logs are in {home}")
    else:
        shutil.rmtree(root)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
