"""No-op jobs per second, and how soon a job is begun when nothing else is to be done: Headway beside its peers.

Peers run in an environment of their own with the versions that ``jobs/peers/requirements.txt`` pins: RQ and Celery on
Redis, procrastinate on PostgreSQL. All take turns, round after round; ratios are taken within a round.

Headway is measured as its users meet it: jobs are submitted over HTTP through the gateway, stored (every acknowledged
one is on the disk), carried out by a worker process that calls the model, and polled. Peers are called as libraries in
the caller's process, and RQ and Celery keep jobs in the memory of Redis, which no crash of that machine survives.

    python benchmarks/jobs_speed.py [--rounds 3] [--jobs 4000]

Bars: on PostgreSQL at least 3 times procrastinate; on SQLite at least 2,000 jobs/s; begun within 50 ms at the 99th
percentile. Exits 1 when one is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from installation import Installation, write_model
from jobs.chaos import end_everything
from jobs.quick_calls import Connection, many
from jobs.services import Postgresql, Redis

ROOT = Path(__file__).resolve().parents[1]
PEERS = Path(__file__).with_name("jobs") / "peers"
MODEL = "no-op"
CODE = """
class NoOp:
    def predict(self, X):
        return X
"""
# One worker, always there: peers have one, too.
SPEC = {"jobs": {"maxQueued": 1_000_000, "workers": {"min": 1, "max": 1}, "resultTtl": "1h"}}
BODY = b"[[1.0]]"
CALLERS = 32
BATCH = 100
LEAST_SQLITE = 2000.0
LEAST_RATIO = 3.0
MOST_PICKUP_MS = 50.0


@dataclass(slots=True)
class Measured:
    """Of one contender, over all rounds."""

    single: list[float] = field(default_factory=list)
    """Jobs/s, submitted one by one."""
    batch: list[float] = field(default_factory=list)
    """Jobs/s, submitted a hundred at a time; empty where there is no such call."""
    pickup_ms: list[float] = field(default_factory=list)


class Peer:
    """A peer's script, with a worker while it is entered."""

    def __init__(self, python: Path, script: str, url: str, worker: str = "worker") -> None:
        self._base = [str(python), str(PEERS / script), url]
        self._worker = worker

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        process = subprocess.Popen(
            [*self._base, self._worker], cwd=PEERS, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            time.sleep(3)
            yield
        finally:
            process.terminate()
            process.wait(30)

    def ask(self, *words: str) -> dict[str, object]:
        done = subprocess.run([*self._base, *words], cwd=PEERS, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{words}: {done.stderr[-800:]}")
        answer: dict[str, object] = json.loads(done.stdout or "{}")
        return answer

    def per_second(self, what: str, count: int) -> float:
        return count / float(str(self.ask(what, str(count))["total_s"]))

    def pickup(self, count: int) -> list[float]:
        waits = self.ask("pickup", str(count))["pickup_ms"]
        assert isinstance(waits, list)
        return [float(wait) for wait in waits]


class Headway:
    """An installation with one worker; jobs come through its gateway."""

    def __init__(self, home: Path, env: dict[str, str]) -> None:
        home.mkdir()
        self.installation = Installation(home, None)
        self.installation.env |= env
        self.port = self.installation.data_port

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        self.installation.up()
        try:
            folder = self.installation.home.parent / f"{self.installation.home.name}-model"
            if not folder.exists():
                self.installation.client().deploy(write_model(folder, MODEL, CODE, SPEC))
            asyncio.run(self._warm())
            yield
        finally:
            self.installation.down()

    async def _warm(self) -> None:
        connection = await Connection(self.port).open()
        _, job = await connection.call("POST", f"/models/{MODEL}/jobs", BODY)
        deadline = time.monotonic() + 60
        while job["state"] not in ("succeeded", "failed") and time.monotonic() < deadline:
            _, job = await connection.call("GET", f"/models/{MODEL}/jobs/{job['id']}?wait=5")
        if job["state"] != "succeeded":
            raise SystemExit(f"a job did not succeed: {job}")
        connection.close()

    def per_second(self, what: str, count: int) -> float:
        return asyncio.run(self._per_second(what == "batch", count))

    async def _per_second(self, batch: bool, count: int) -> float:
        lines = b"\n".join([BODY] * BATCH)

        async def single(connection: Connection, _: int) -> None:
            status, answer = await connection.call("POST", f"/models/{MODEL}/jobs", BODY)
            assert status == 202, answer

        async def hundred(connection: Connection, _: int) -> None:
            status, answer = await connection.call(
                "POST", f"/models/{MODEL}/jobs/batch", lines, kind="application/x-ndjson"
            )
            assert status == 202, answer

        began = time.perf_counter()
        if batch:
            await many(self.port, 2, count // BATCH, hundred)
        else:
            await many(self.port, CALLERS, count, single)
        connection = await Connection(self.port).open()
        while True:
            _, page = await connection.call("GET", f"/models/{MODEL}/jobs?state=queued,running&limit=1")
            if not page["jobs"]:
                break
            await asyncio.sleep(0.01)
        connection.close()
        return count / (time.perf_counter() - began)

    def pickup(self, count: int) -> list[float]:
        return asyncio.run(self._pickup(count))

    async def _pickup(self, count: int) -> list[float]:
        connection = await Connection(self.port).open()
        waits = []
        for _ in range(count):
            await asyncio.sleep(0.05)
            at = time.time()
            _, job = await connection.call("POST", f"/models/{MODEL}/jobs", BODY)
            _, job = await connection.call("GET", f"/models/{MODEL}/jobs/{job['id']}?wait=10")
            waits.append(1000 * (datetime.fromisoformat(job["startedAt"]).timestamp() - at))
        connection.close()
        return waits


def environment(root: Path) -> Path:
    """An interpreter with the peers."""
    uv = Path(sys.executable).with_name("uv")
    command = str(uv) if uv.exists() else "uv"
    subprocess.run([command, "venv", "--quiet", "--python", sys.executable, str(root / "peers")], check=True)
    python = root / "peers" / "bin" / "python"
    pins = str(PEERS / "requirements.txt")
    subprocess.run([command, "pip", "install", "--quiet", "--python", str(python), "--requirement", pins], check=True)
    return python


def visit(name: str, contender: Peer | Headway, measured: Measured, jobs: int, *, batch: bool) -> None:
    with contender.working():
        measured.single.append(contender.per_second("submit", jobs))
        if batch:
            measured.batch.append(contender.per_second("batch", jobs))
        measured.pickup_ms += contender.pickup(60)
    singles = f"{measured.single[-1]:,.0f} jobs/s"
    print(f"  {name:24} {singles}{f', in batches {measured.batch[-1]:,.0f}' if batch else ''}", flush=True)


def quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def told(name: str, of: Measured) -> None:
    middle = statistics.median(of.single)
    batch = f"{statistics.median(of.batch):8,.0f}" if of.batch else f"{'-':>8}"
    spread = f"({min(of.single):,.0f}-{max(of.single):,.0f})"
    waits = f"{quantile(of.pickup_ms, 0.5):6.1f} {quantile(of.pickup_ms, 0.99):6.1f}"
    print(f"{name:26}{middle:8,.0f} {spread:16}{batch}   {waits}")


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=4000)
    parser.add_argument("--only", default="", help="contenders whose name contains this")
    chosen = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="headway-jobs-speed-"))
    root.chmod(0o711)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        python = environment(root)
        database, redis = Postgresql(root), Redis(root)
        stack.enter_context(database)
        stack.enter_context(redis)
        procrastinate = Peer(python, "procrastinate_peer.py", database.url)
        procrastinate.ask("prepare")
        makers: dict[str, tuple[Callable[[], Peer | Headway], int, bool]] = {
            "Headway, SQLite": (lambda: sqlite, chosen.jobs, True),
            "Headway, PostgreSQL": (lambda: postgresql, chosen.jobs, True),
            "procrastinate, PostgreSQL": (lambda: procrastinate, chosen.jobs // 2, True),
            "Celery, Redis": (lambda: Peer(python, "celery_peer.py", redis.url), chosen.jobs // 2, False),
            "RQ, Redis, no fork": (
                lambda: Peer(python, "rq_peer.py", redis.url, "simple-worker"),
                chosen.jobs // 2,
                False,
            ),
            "RQ, Redis": (lambda: Peer(python, "rq_peer.py", redis.url), chosen.jobs // 20, False),
        }
        sqlite = Headway(root / "sqlite", {})
        postgresql = Headway(root / "postgresql-home", {"HEADWAY_JOBS_DATABASE": database.url})
        for one in (sqlite, postgresql):
            stack.callback(end_everything, one.installation, one.installation.env)
        measured = {name: Measured() for name in makers if chosen.only.lower() in name.lower()}
        for number in range(chosen.rounds):
            print(f"round {number + 1} of {chosen.rounds}", flush=True)
            for name, figures in measured.items():
                make, jobs, batch = makers[name]
                visit(name, make(), figures, jobs, batch=batch)
    return verdict(measured)


def verdict(measured: dict[str, Measured]) -> int:
    print(f"\n{'':26}{'jobs/s':>8} {'(range)':16}{'batches':>8}   begun after ms, p50 and p99")
    for name, figures in measured.items():
        told(name, figures)
    missed = []
    ours, theirs = measured.get("Headway, PostgreSQL"), measured.get("procrastinate, PostgreSQL")
    if ours is not None and theirs is not None:
        for what in ("single", "batch"):
            pairs = zip(getattr(ours, what), getattr(theirs, what), strict=True)
            ratios = [mine / other for mine, other in pairs]
            ratio = statistics.median(ratios)
            print(f"PostgreSQL, {what}: {ratio:.1f} times procrastinate ({min(ratios):.1f}-{max(ratios):.1f})")
            if ratio < LEAST_RATIO:
                missed.append(f"{what} on PostgreSQL: {ratio:.1f} times procrastinate, wanted {LEAST_RATIO:.0f}")
    for name, figures in measured.items():
        if name.startswith("Headway"):
            late = quantile(figures.pickup_ms, 0.99)
            if late > MOST_PICKUP_MS:
                missed.append(f"{name}: begun after {late:.0f} ms at p99, wanted {MOST_PICKUP_MS:.0f}")
    if "Headway, SQLite" in measured:
        best = statistics.median(measured["Headway, SQLite"].single)
        if best < LEAST_SQLITE:
            missed.append(f"SQLite: {best:,.0f} jobs/s one by one, wanted {LEAST_SQLITE:,.0f}")
    for line in missed:
        print(f"FALLS SHORT: {line}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
