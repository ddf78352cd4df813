"""Promise 1, tried hard: an accepted request is answered, whatever is changed or killed meanwhile.

Open-loop requests run against a model while it is deployed anew, given a canary, promoted, rolled back,
scaled from 1 to 4 and back, while another model is deployed and deleted, replicas are SIGKILLed one of three
every 5 s, and the control plane is SIGKILLed and started again. Exit 0 when no request failed, 1 otherwise.

    python benchmarks/no_dropped_requests.py [--seconds 180] [--rate 200]
    python benchmarks/no_dropped_requests.py --without draining     # must fail
    python benchmarks/no_dropped_requests.py --without retries      # must fail
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
from typing import Any

from installation import Installation
from open_loop import OpenLoop, Report

MODEL = '''"""{note}"""
import time


class Slow:
    """Takes as many seconds as its slowest row says, so that there is always something in flight."""

    def predict(self, X, features_names=None):
        time.sleep(max(row[0] for row in X))
        return [{answer} for _ in X]
'''
QUICK, SLOW = b"[[0.015, 3.5, 1.4, 0.2]]", b"[[0.3, 3.5, 1.4, 0.2]]"
BODIES = [SLOW] + [QUICK] * 98
"""One in 99 is slow: long enough to be cut off by whoever does not wait (99 is odd, so both kinds of connection
meet it)."""
SPEC = """apiVersion: headway.dev/v1alpha1
kind: ModelDeployment
metadata: {{name: {name}}}
spec:
  server: {{timeout: 10s}}
"""


def write_model(installation: Installation, name: str, answer: float, note: str) -> Path:
    """A folder with the model ``name``."""
    folder = installation.home.parent / "models" / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(MODEL.format(answer=answer, note=note))
    (folder / "headway.yaml").write_text(SPEC.format(name=name))
    return folder


class Chaos:
    """The things that happen meanwhile, each told with its time."""

    def __init__(self, installation: Installation, seconds: float) -> None:
        self.at = installation
        self.ends = time.monotonic() + seconds
        self.start = time.monotonic()
        self.done: Counter[str] = Counter()
        self.random = random.Random(20260101)
        self.serial = 1

    def over(self) -> bool:
        return time.monotonic() >= self.ends

    def tell(self, what: str, detail: str = "") -> None:
        self.done[what] += 1
        print(f"  {time.monotonic() - self.start:6.1f} s  {what} {detail}".rstrip(), flush=True)

    async def run(self) -> None:
        steps = [
            self.canary_and_promote,
            self.killed_replicas,
            self.scaled,
            self.canary_and_rollback,
            self.control_killed,
            self.deployed_and_rolled_back,
            self.other_model,
        ]
        while True:
            for step in steps:
                if self.over():
                    return
                await step()

    async def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(getattr(self.at.client(), name), *args, **kwargs)

    async def deploy(self, canary: int | None = None) -> str:
        self.serial += 1
        folder = write_model(self.at, "iris", float(self.serial), f"build {self.serial}")
        answer = await self.call("deploy", folder, canary=canary)
        return str(answer.version)

    async def canary_and_promote(self) -> None:
        self.tell("canary", await self.deploy(canary=10))
        await self.call("promote", "iris")
        self.tell("promote")
        await self.settled()

    async def canary_and_rollback(self) -> None:
        self.tell("canary", await self.deploy(canary=30))
        await self.call("rollback", "iris")
        self.tell("rollback of a canary")
        await self.settled()

    async def deployed_and_rolled_back(self) -> None:
        self.tell("deploy", await self.deploy())
        await self.call("rollback", "iris")
        self.tell("rollback of a deploy")
        await self.settled()

    async def scaled(self) -> None:
        for replicas in (4, 1):
            await self.call("scale", "iris", replicas)
            self.tell("scale", f"to {replicas}")
            await self.settled()

    async def killed_replicas(self) -> None:
        await self.call("scale", "iris", 3)
        await self.settled()
        for _ in range(4):
            if self.over():
                break
            status = await self.call("get", "iris")
            ready = [r for r in status.replica_list if r.ready and r.pid]
            if len(ready) == 3:
                victim = self.random.choice(ready)
                os.kill(victim.pid, signal.SIGKILL)
                self.tell("SIGKILL of a replica", victim.name)
            await asyncio.sleep(5)
        await self.settled()

    async def control_killed(self) -> None:
        before = {r.pid for r in (await self.call("get", "iris")).replica_list}
        await asyncio.to_thread(self.at.kill)
        self.tell("SIGKILL of the control plane")
        await asyncio.sleep(3)
        await asyncio.to_thread(self.at.up)
        await self.settled()
        after = {r.pid for r in (await self.call("get", "iris")).replica_list}
        self.tell("control plane back", "same replicas" if before == after else f"replicas differ: {before} {after}")

    async def other_model(self) -> None:
        await self.call("deploy", write_model(self.at, "other", float(self.serial), f"{self.serial}"))
        self.tell("deploy of another model")
        await self.call("delete", "other")
        self.tell("delete of another model")
        await self.settled()

    async def settled(self) -> None:
        """Wait until the model is where it should be; not needed for safety, only for steps to mean something."""
        while True:
            status = await self.call("get", "iris")
            still = {"live", "retired", "failed"}.issuperset(v.state for v in status.versions)
            if status.state == "ready" and still and len(status.replica_list) == status.ready_replicas:
                return
            if self.over():
                return
            await asyncio.sleep(0.2)


async def measure(args: argparse.Namespace, installation: Installation) -> tuple[Report, Chaos]:
    client = installation.client()
    await asyncio.to_thread(client.deploy, write_model(installation, "iris", 1.0, "build 1"))
    path = "/models/iris/predict"
    loop = OpenLoop("127.0.0.1", installation.data_port, path, BODIES, rate_per_s=args.rate)
    chaos = Chaos(installation, args.seconds)
    load = asyncio.create_task(loop.run(chaos.over))
    await chaos.run()
    return await load, chaos


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--rate", type=float, default=200.0)
    parser.add_argument("--without", choices=["draining", "retries"])
    parser.add_argument("--json", type=Path, help="write the figures here")
    args = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="hwb-"))
    home = root / "home"
    home.mkdir()
    installation = Installation(home, args.without)
    print(f"{args.rate:.0f} requests/s for {args.seconds:.0f} s, without {args.without or 'nothing'}", flush=True)
    installation.up()
    try:
        report, chaos = asyncio.run(measure(args, installation))
    finally:
        installation.down()
    failed = report.failed()
    figures = {
        "sent": len(report.answers),
        "failed": len(failed),
        "statuses": {str(k): v for k, v in sorted(report.statuses().items())},
        "p50_ms": round(report.quantile_ms(0.5), 1),
        "p99_ms": round(report.quantile_ms(0.99), 1),
        "max_ms": round(report.quantile_ms(1.0), 1),
        "late_sends": report.late_sends,
        "versions": dict(Counter(a.headers.get("x-headway-version", "?") for a in report.answers)),
        "happened": dict(chaos.done),
    }
    print(json.dumps(figures, indent=2))
    for answer in failed[:10]:
        when = answer.scheduled_at - chaos.start
        kind = "fresh" if answer.fresh else "kept"
        print(f"  failed at {when:.2f} s ({kind}): {answer.status} {answer.error} {answer.body[:160]!r}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n")
    if failed:
        print(f"logs are in {home}")
    else:
        shutil.rmtree(root)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
