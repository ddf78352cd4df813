"""Bootstrap of load tests: constructs the generators. Beside ``bootstrap``, since it needs nothing of a control plane.

A load test runs in the process of whoever asks for it, never in the control plane's.
"""

from __future__ import annotations

from pathlib import Path

from headway.adapters.loadgen.generator import HttpLoadGenerator
from headway.adapters.loadgen.hub import Door
from headway.adapters.loadgen.locust import LocustGenerator, check_installed
from headway.adapters.loadgen.sharded import ShardedLoadGenerator
from headway.adapters.local.clock import SystemClock
from headway.control.load_test import LoadTester
from headway.ports.load_generator import LoadGenerator
from headway.ports.model_watch import ModelWatch
from headway.ports.replica_stats import RemoteStats


def load_tester(
    watch: ModelWatch | None = None,
    *,
    timeout_s: float = 30.0,
    workers: int = 0,
    door: Door | None = None,
    usage: RemoteStats | None = None,
) -> LoadTester:
    """With the generator of our own: open loops, and closed ones with exponential thinking times.

    In this process, or in so many ``workers``: of this machine, or those that come through ``door``.
    """
    generator: LoadGenerator = HttpLoadGenerator(timeout_s=timeout_s)
    if workers:
        generator = ShardedLoadGenerator(workers, timeout_s=timeout_s, door=door)
    return LoadTester(generator, SystemClock(), watch, usage)


def users_tester(
    watch: ModelWatch | None = None,
    *,
    locustfile: Path | None = None,
    workers: int = 0,
    web_port: int | None = None,
    timeout_s: float = 30.0,
    door: Door | None = None,
    usage: RemoteStats | None = None,
) -> LoadTester:
    """With Locust, for closed loops. Raises ``MissingExtra`` when it is not installed."""
    check_installed()
    generator = LocustGenerator(
        locustfile=locustfile, workers=workers, web_port=web_port, timeout_s=timeout_s, door=door
    )
    return LoadTester(generator, SystemClock(), watch, usage)
