"""From zero replicas to an answer, again and again.

A model with a concurrency policy and a minimum of 0 is taken to zero (``headway scale NAME 0``), and when its last
replica has gone requests come: one, and four more right behind it. Nothing but those requests starts a replica. Every
one has to be answered with 2xx. In the same run, cycle by cycle, a warm start is measured: from asking for one replica
at zero (``headway scale NAME 1``) until it is ready. The first request's answer may take at most 1.3 times as long,
medians of the run.

    python benchmarks/scale_to_zero.py [--cycles 200]

Exit 0 when it held, 1 otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from installation import Installation, write_model

from headway.client import Client

NAME: Final = "sleepy"
BEHIND: Final = 4
MOST: Final = 1.3
GONE_S: Final = 30.0
AGAIN_S: Final = 3.0
CODE: Final = """
import numpy


class Model:
    def __init__(self):
        self.weights = numpy.random.default_rng(7).normal(size=(4, 3))

    def predict(self, X):
        return (numpy.asarray(X) @ self.weights).argmax(axis=1)
"""
SPEC: Final = {
    "scaling": {
        "minReplicas": 0,
        "maxReplicas": 2,
        "cooldownPeriod": "60s",
        "triggers": [{"type": "concurrency", "target": 4}],
    }
}
BODY: Final = b"[[5.1, 3.5, 1.4, 0.2]]"


def to_zero(client: Client) -> None:
    """Until the last replica has gone. The policy, which counts requests of the last minute, may want one again: then
    it is told once more."""
    deadline = time.monotonic() + GONE_S
    while time.monotonic() < deadline:
        client.scale(NAME, 0)
        asked = time.monotonic()
        while client.get(NAME).replica_list and time.monotonic() < asked + AGAIN_S:
            time.sleep(0.02)
        if not client.get(NAME).replica_list:
            return
    raise SystemExit(f"replicas are left {GONE_S:g} s after {NAME} was taken to zero")


def warm_start(client: Client) -> float:
    """Seconds from asking for a replica until it is ready, by the event's own time."""
    after = max((event.cursor for event in client.events(model=NAME)), default=0)
    began = time.time()
    client.scale(NAME, 1)
    for event in client.events(after=after, model=NAME, follow=True):
        if event.type == "replica_ready.v1":
            return event.at - began
    raise SystemExit("the events ended")


def ask(port: int) -> tuple[int, float, bytes]:
    """Status, seconds and body."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", f"/models/{NAME}/predict", BODY, {"content-type": "application/json"})
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, time.perf_counter() - began, body
    except (OSError, http.client.HTTPException) as error:
        return 0, time.perf_counter() - began, repr(error).encode()
    finally:
        connection.close()


async def first_requests(port: int) -> list[tuple[int, float, bytes]]:
    first = asyncio.ensure_future(asyncio.to_thread(ask, port))
    await asyncio.sleep(0.005)
    return await asyncio.gather(first, *(asyncio.to_thread(ask, port) for _ in range(BEHIND)))


def quantiles(seconds: Sequence[float]) -> str:
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return f"p50 {statistics.median(ordered) * 1000:.0f} ms, p95 {p95 * 1000:.0f} ms"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=200)
    given = parser.parse_args()
    warm: list[float] = []
    first: list[float] = []
    failures: list[str] = []
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as folder:
        home = Path(folder) / "home"
        home.mkdir()
        installation = Installation(home, None)
        installation.up()
        try:
            client = installation.client()
            client.deploy(write_model(Path(folder) / NAME, NAME, CODE, SPEC))
            for cycle in range(given.cycles):
                to_zero(client)
                warm.append(warm_start(client))
                to_zero(client)
                answers = asyncio.run(first_requests(installation.data_port))
                first.append(answers[0][1])
                failures += [f"cycle {cycle}: {status} {body[:200]!r}" for status, _, body in answers if status != 200]
                if (cycle + 1) % 50 == 0:
                    print(f"    {cycle + 1} cycles: first answer {quantiles(first)}", flush=True)
        finally:
            installation.down()
    share = statistics.median(first) / statistics.median(warm)
    good = not failures and share <= MOST
    for failure in failures[:10]:
        print(f"    failed: {failure}")
    print(f"    {given.cycles} times from zero: {len(failures)} of {given.cycles * (1 + BEHIND)} requests failed (0)")
    print(f"    first answer {quantiles(first)}; warm start {quantiles(warm)}")
    print(f"    first answer / warm start: {share:.2f} (at most {MOST:g}): {'pass' if good else 'FALLS SHORT'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
