"""10,000 jobs while everything that carries them is killed, paused, cut and wiped at random.

A real installation (control plane, gateway, job server, workers; with ``--engine postgresql`` also PostgreSQL and
RabbitMQ) gets jobs from careful callers, who write down what was acknowledged. When all is over the database is
compared with that book: every acknowledged job has ended exactly once, with its own result, and there is no other.

    python benchmarks/jobs_never_lost.py [--engine sqlite|postgresql] [--jobs N] [--seed S]
    python benchmarks/jobs_never_lost.py --without fencing      # must fail
    python benchmarks/jobs_never_lost.py --without sweeper      # must fail

Exits 1 when anything is amiss.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import sys
import tempfile
import time
from pathlib import Path

from installation import Installation, write_model
from jobs.callers import Acknowledged, open_jobs, submit_all
from jobs.chaos import Chaos, end_everything
from jobs.reckoning import Reckoning, reckon
from jobs.services import Postgresql, Rabbitmq

from headway.job_server import job_store_of
from headway.settings import Settings

MODEL = "jobs-model"
LEASE_S = 2.0
CODE = """
import random
import time


class Doubles:
    def predict(self, X):
        time.sleep(random.choice([0.001, 0.002, 0.005, 0.02]) if random.random() < 0.97 else random.uniform(0.5, 1.5))
        return X * 2
"""
SPEC = {
    # What was killed from outside counts as an attempt: nobody can tell it from a job that kills its workers.
    "jobs": {"maxAttempts": 100, "backoff": {"initial": "100ms", "max": "1s"}, "workers": {"min": 2, "max": 3}},
    "probes": {"liveness": {"periodSeconds": 10}},
}
SETTLE_S = 180.0
"""How long the last jobs may take once nothing is killed any more."""


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--engine", choices=("sqlite", "postgresql", "both"), default="both")
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--callers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--pause", type=float, default=1.5, help="seconds between two deeds, on average")
    parser.add_argument("--without", choices=("fencing", "sweeper"))
    return parser.parse_args()


def run(engine: str, chosen: argparse.Namespace) -> Reckoning:
    root = Path(tempfile.mkdtemp(prefix="headway-jobs-"))
    root.chmod(0o711)
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, root, ignore_errors=True)
        home = root / "home"
        home.mkdir()
        installation = Installation(home, chosen.without, jobs_lease_s=LEASE_S)
        services: tuple[Postgresql, Rabbitmq] | None = None
        if engine == "postgresql":
            services = Postgresql(root), Rabbitmq(root)
            for service in services:
                stack.enter_context(service)
            installation.env |= {"HEADWAY_JOBS_DATABASE": services[0].url, "HEADWAY_JOBS_BROKER": services[1].url}
        stack.callback(end_everything, installation, installation.env)
        return _story(engine, installation, services, chosen, root)


def _story(
    engine: str,
    installation: Installation,
    services: tuple[Postgresql, Rabbitmq] | None,
    chosen: argparse.Namespace,
    root: Path,
) -> Reckoning:
    installation.up()
    installation.client().deploy(write_model(root / MODEL, MODEL, CODE, SPEC))
    url = f"http://127.0.0.1:{installation.data_port}"
    chaos = Chaos(installation, MODEL, chosen.seed, pause_s=chosen.pause, lease_s=LEASE_S)
    if services is not None:
        chaos.with_services(*services)
    acknowledged = Acknowledged()
    began = time.monotonic()
    chaos.begin()
    try:
        asyncio.run(submit_all(url, chosen.jobs, root / "acknowledged", chosen.callers, acknowledged))
        submitted_s = time.monotonic() - began
        left = _wait(url, chosen.jobs // 50, 600)  # the chaos goes on while the queue empties
    finally:
        chaos.calm()
    left = _wait(url, 0, SETTLE_S)
    total_s = time.monotonic() - began
    installation.down()
    told = asyncio.run(_reckon(installation, engine, services, acknowledged))
    what = f"{engine}{f' without {chosen.without}' if chosen.without else ''}"
    print(f"{what}: {len(acknowledged.ids):,} acknowledged in {submitted_s:.0f} s, all over after {total_s:.0f} s")
    print(f"  done to them   {', '.join(f'{name} {count}' for name, count in sorted(chaos.done.items()))}")
    again = sum(acknowledged.again.values())
    print(f"  sent again     {again}: {', '.join(f'{why} ({n})' for why, n in acknowledged.again.items()) or '-'}")
    print(f"  ended          {dict(told.states)}, {left} open at the end; stored {told.stored:,}")
    print(f"  attempts       {dict(sorted(told.attempts.items()))}")
    for line in told.faults[:10]:
        print(f"  FAULT          {line}")
    print(f"  {'nothing lost, nothing twice' if not told.faults else f'{len(told.faults)} faults'}", flush=True)
    return told


def _wait(url: str, most: int, patience_s: float) -> int:
    """Until at most ``most`` jobs are open; how many were, when patience ended."""
    deadline = time.monotonic() + patience_s
    left = -1
    for left in open_jobs(url):
        if 0 <= left <= most or time.monotonic() > deadline:
            break
        time.sleep(0.5)
    return left


async def _reckon(
    installation: Installation, engine: str, services: tuple[Postgresql, Rabbitmq] | None, acknowledged: Acknowledged
) -> Reckoning:
    database = services[0].url if services is not None else None
    store = job_store_of(Settings(home=installation.home, jobs_database=database))
    await store.start()
    try:
        return await reckon(store, MODEL, acknowledged.ids)
    finally:
        await store.close()


def main() -> int:
    chosen = options()
    engines = ("sqlite", "postgresql") if chosen.engine == "both" else (chosen.engine,)
    told = [run(engine, chosen) for engine in engines]
    return 1 if any(one.faults for one in told) else 0


if __name__ == "__main__":
    sys.exit(main())
