"""A model heals itself under load nobody expected: four runs on a real Headway, each with its picture.

``latency``: predictions take 0.2 s, one at a time, so a replica carries 5 requests/s. Users come in phases until one
replica is far too few; a latency policy (p95 above 900 ms adds 2 replicas) brings latency back, and when users leave
the replicas go. A real policy looks at half an hour every five minutes; here all its times are 60 times shorter.
``bound``: the same, but all replicas share a lock, so more of them help nobody: the loop has to find out, go back and
say so.
``cpu``: predictions burn 40 ms of processor time, a replica asks for 100m; 80 % and 1 to 12 replicas.
``queue``: RQ jobs of two seconds on a real Redis; 5 to 30 replicas, one worker for each, by queued, started and
scheduled jobs.

    python benchmarks/self_healing.py [latency bound cpu queue] [--images docs/images]

Exit 0 when every run healed as promised, 1 otherwise; 2 when redis-server is missing for ``queue``.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from closed_loop import Crowd
from installation import Installation, write_model
from self_healing_plot import Curve, Panel, Picture, draw
from self_healing_queue import Queue, missing

from headway.client import Client

FACTOR: Final = 60
ALL: Final = ("latency", "bound", "cpu", "queue")
SLEEPS: Final = """
import time
class Model:
    def predict(self, X):
        time.sleep(0.2)
        return [1] * len(X)
"""
BURNS: Final = """
import time
class Model:
    def predict(self, X):
        until = time.thread_time() + 0.04
        while time.thread_time() < until:
            sum(range(1000))
        return [1] * len(X)
"""
LOCKED: Final = """
import fcntl, os, tempfile, time
class Model:
    def predict(self, X):
        with open(os.path.join(tempfile.gettempdir(), "one-for-all.lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            time.sleep(0.2)
        return [1] * len(X)
"""
NOTHING: Final = """
class Model:
    def predict(self, X):
        return [1] * len(X)
"""


@dataclass(frozen=True, slots=True)
class Phase:
    """So many users (or jobs a second) for so long."""

    load: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Scenario:
    """One run. ``spec`` is of the deployment."""

    name: str
    title: str
    facts: str
    code: str
    spec: dict[str, Any]
    phases: Sequence[Phase]
    peak: int
    """Place of the phase with the highest load."""


@dataclass(slots=True)
class Run:
    """What was seen, by seconds from the beginning."""

    began: float
    replicas: list[tuple[float, float]] = field(default_factory=list)
    wished: list[tuple[float, float]] = field(default_factory=list)
    load: list[tuple[float, float]] = field(default_factory=list)
    depth: list[tuple[float, float]] = field(default_factory=list)


ONE_AT_A_TIME: Final = {"maxBatchSize": 1, "maxQueue": 1000, "timeout": "60s"}
LATENCY: Final = Scenario(
    "latency",
    "Latency policy: p95 above 900 ms adds two replicas",
    f"0.2 s a prediction, one at a time; the slowest window of 10 m in 30 m, looked at every 5 m, cooldown 30 m:\n"
    f"all {FACTOR} times shorter",
    SLEEPS,
    {
        "server": ONE_AT_A_TIME,
        "scaling": {
            "minReplicas": 1,
            "maxReplicas": 12,
            "triggers": [
                {
                    "type": "latency", "quantile": "p95", "threshold": "900ms", "window": "10s", "span": "30s",
                    "every": "5s", "step": 2, "cooldown": "30s", "downThreshold": "60%", "downAfter": "30s",
                }
            ],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300 // FACTOR}},
        },
    },
    (Phase(4, 40), Phase(12, 60), Phase(30, 170), Phase(3, 130)),
    2,
)  # fmt: skip
BOUND: Final = Scenario(
    "bound",
    "Latency that replicas cannot lower: the step is taken back",
    "0.2 s a prediction, one at a time among all replicas (they share a lock); the same policy",
    LOCKED,
    LATENCY.spec,
    (Phase(2, 30), Phase(12, 180)),
    1,
)
CPU: Final = Scenario(
    "cpu",
    "Processor policy: 80 % of what a replica asks for",
    "40 ms of processor time a prediction, 100m a replica; scale-down stabilization 30 s instead of 300 s",
    BURNS,
    {
        "server": ONE_AT_A_TIME,
        "resources": {"cpu": "100m"},
        "scaling": {
            "minReplicas": 1,
            "maxReplicas": 12,
            "triggers": [{"type": "cpu", "target": "80%"}],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 30}},
        },
    },
    (Phase(2, 40), Phase(8, 60), Phase(16, 90), Phase(2, 90)),
    2,
)
QUEUE: Final = Scenario(
    "queue",
    "RQ queue on Redis: one replica, and one worker, for each queued, started or scheduled job",
    "jobs of 2 s; 5 to 30 replicas; scale-down stabilization 15 s instead of 300 s",
    NOTHING,
    {
        "scaling": {
            "minReplicas": 5,
            "maxReplicas": 30,
            "triggers": [
                {
                    "type": "redis", "addressFromEnv": "QUEUE_ADDRESS", "listName": "general", "library": "rq",
                    "listLength": 1, "pollingInterval": "2s",
                }
            ],
            "behavior": {"scaleDown": {"stabilizationWindowSeconds": 15}},
        }
    },
    (Phase(1.5, 30), Phase(12, 150), Phase(1.5, 60)),
    1,
)  # fmt: skip


async def watch(
    client: Client, run: Run, name: str, load: Callable[[], float], depth: Callable[[], float] | None
) -> None:
    while True:
        view = await asyncio.to_thread(client.scaling, name)
        at = time.time() - run.began
        run.replicas.append((at, sum(version.ready for version in view.versions)))
        run.wished.append((at, sum(version.wished for version in view.versions)))
        run.load.append((at, load()))
        if depth is not None:
            run.depth.append((at, await asyncio.to_thread(depth)))
        await asyncio.sleep(1)


async def with_users(client: Client, scenario: Scenario, url: str) -> tuple[Run, Crowd]:
    crowd = Crowd(url, [[1.0]])
    run = Run(time.time())
    watching = asyncio.create_task(watch(client, run, scenario.name, lambda: crowd.users, None))
    for phase in scenario.phases:
        print(f"    {phase.load:g} users for {phase.seconds:g} s", flush=True)
        await crowd.be(int(phase.load))
        await asyncio.sleep(phase.seconds)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    await crowd.leave()
    return run, crowd


async def with_queue(client: Client, scenario: Scenario, queue: Queue) -> Run:
    run = Run(time.time())
    rate = 0.0
    watching = asyncio.create_task(watch(client, run, scenario.name, lambda: rate, queue.depth))
    loop = asyncio.get_running_loop()
    for phase in scenario.phases:
        rate = phase.load
        print(f"    {rate:g} jobs/s for {phase.seconds:g} s", flush=True)
        until, due = loop.time() + phase.seconds, loop.time()
        while loop.time() < until:
            if run.replicas:
                queue.workers(int(run.replicas[-1][1]))
            while due <= loop.time():
                queue.submit()
                due += 1 / rate
            await asyncio.sleep(0.05)
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    return run


def peak_span(scenario: Scenario) -> tuple[float, float]:
    """Begin and end of the highest phase, in seconds from the beginning."""
    begin = sum(phase.seconds for phase in scenario.phases[: scenario.peak])
    return begin, begin + scenario.phases[scenario.peak].seconds


def changes(client: Client, run: Run, name: str) -> list[tuple[float, int, int]]:
    found = client.decisions(name, since=run.began, changed=True, last=1000)
    return [(one.at - run.began, one.current, one.desired) for one in found]


def latency_panel(
    client: Client, run: Run, name: str, level: tuple[float, str] | None
) -> tuple[Panel, list[tuple[float, float]]]:
    table = client.windows(name, window="5s", since=run.began)
    points = [(one.start + 2.5 - run.began, one) for one in table.windows]
    p95 = [(at, one.p95_ms / 1e3) for at, one in points if one.p95_ms is not None]
    p50 = [(at, one.p50_ms / 1e3) for at, one in points if one.p50_ms is not None]
    return Panel("seconds", (Curve("p50", p50), Curve("p95", p95)), level), p95


def told(good: bool, text: str) -> bool:
    print(f"    {text}: {'pass' if good else 'FALLS SHORT'}")
    return good


def heal_users(installation: Installation, root: Path, images: Path, scenario: Scenario) -> bool:
    client = installation.client()
    client.deploy(write_model(root / scenario.name, scenario.name, scenario.code, scenario.spec))
    url = f"http://127.0.0.1:{installation.data_port}/models/{scenario.name}/predict"
    run, crowd = asyncio.run(with_users(client, scenario, url))
    by_latency = scenario is not CPU
    panel, p95 = latency_panel(client, run, scenario.name, (0.9, "threshold") if by_latency else None)
    decisions = changes(client, run, scenario.name)
    panels = [
        Panel("users", (Curve("users", run.load, step=True),)),
        panel,
        Panel("replicas", (Curve("ready", run.replicas, step=True), Curve("wished", run.wished, step=True))),
    ]
    draw(Picture(scenario.title, scenario.facts, panels, decisions), images / f"self-healing-{scenario.name}.png")
    statuses = crowd.answers.statuses()
    print(f"    answers by status: {dict(statuses)}; {len(decisions)} decisions: {decisions}")
    good = told(set(statuses) == {200}, "every request answered 200")
    if scenario is LATENCY:
        good &= healed(scenario, run, p95)
    elif scenario is BOUND:
        good &= gave_up(client, scenario, run, decisions)
    else:
        good &= followed(client, scenario, run)
    client.delete(scenario.name)
    return good


def healed(scenario: Scenario, run: Run, p95: list[tuple[float, float]]) -> bool:
    begin, end = peak_span(scenario)
    worst = max(value for at, value in p95 if begin - 60 <= at < end)
    tail = max(value for at, value in p95 if end - 60 <= at < end - 5)
    most, last = max(value for _, value in run.replicas), run.replicas[-1][1]
    good = told(worst > 0.9, f"p95 had risen to {worst:.2f} s")
    good &= told(tail <= 0.9, f"p95 in the last minute of the peak at most {tail:.2f} s (900 ms)")
    good &= told(most <= 12, f"{most:g} replicas at most")
    return told(last <= 2, f"{last:g} replicas at the end") and good


def gave_up(client: Client, scenario: Scenario, run: Run, decisions: list[tuple[float, int, int]]) -> bool:
    told_of = [event for event in client.events(model=scenario.name) if event.type == "scaling_not_replica_bound.v1"]
    at, before, tried = max(decision for decision in decisions if decision[2] > decision[1])
    after = [decision[2] for decision in decisions if decision[0] > at]
    good = told(len(told_of) == 1, f"{len(told_of)} event that more replicas do not help (1)")
    text = f"the step from {before} to {tried} after {at:.0f} s was the last one, and was taken back"
    good &= told(bool(after) and max(after) <= before, text)
    return told(run.wished[-1][1] <= before, f"{run.wished[-1][1]:g} wished at the end") and good


def followed(client: Client, scenario: Scenario, run: Run) -> bool:
    _, end = peak_span(scenario)
    peak = client.windows(scenario.name, window="5s", since=run.began + end - 40, until=run.began + end)
    load = statistics.mean(one.count / (one.end - one.start) for one in peak.windows)
    need = load * 0.04 / 0.08
    held = statistics.mean(value for at, value in run.wished if end - 20 <= at < end)
    text = f"{held:.1f} replicas for {load:.1f} requests/s, which use 80 % of {need:.1f}"
    good = told(0.85 * need <= held <= 1.5 * need + 1, text)
    return told(run.replicas[-1][1] <= 2, f"{run.replicas[-1][1]:g} replicas at the end") and good


def heal_queue(installation: Installation, root: Path, images: Path, queue: Queue) -> bool:
    client = installation.client()
    client.deploy(write_model(root / QUEUE.name, QUEUE.name, QUEUE.code, QUEUE.spec))
    try:
        run = asyncio.run(with_queue(client, QUEUE, queue))
    finally:
        queue.workers(0)
    decisions = changes(client, run, QUEUE.name)
    panels = [
        Panel("jobs/s", (Curve("submitted", run.load, step=True),)),
        Panel("jobs", (Curve("queued, started, scheduled", run.depth, step=True),)),
        Panel("replicas", (Curve("ready", run.replicas, step=True), Curve("wished", run.wished, step=True))),
    ]
    draw(Picture(QUEUE.title, QUEUE.facts, panels, decisions), images / "self-healing-queue.png")
    _, end = peak_span(QUEUE)
    print(f"    {len(decisions)} decisions: {decisions}")
    settled = [value for at, value in run.depth if end - 20 <= at < end]
    most = max(value for _, value in run.wished)
    good = told(24 <= most <= 30, f"{most:g} replicas at most (24 are busy at 12 jobs/s of 2 s)")
    good &= told(max(settled) <= 60, f"{max(settled):g} jobs at most in the last 20 s of the peak")
    good &= told(run.wished[-1][1] <= 8, f"{run.wished[-1][1]:g} replicas at the end (5 at least)")
    client.delete(QUEUE.name)
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", default=list(ALL), metavar="SCENARIO")
    parser.add_argument("--images", type=Path, default=Path("docs/images"))
    given = parser.parse_args()
    unknown = set(given.scenarios) - set(ALL)
    if unknown:
        parser.error(f"no scenario {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
    if "queue" in given.scenarios and missing():
        print(missing(), file=sys.stderr)
        return 2
    good = True
    with tempfile.TemporaryDirectory(prefix="headway-bench-") as folder, Queue(Path(folder)) as queue:
        home = Path(folder) / "home"
        home.mkdir()
        installation = Installation(home, None)
        installation.env["QUEUE_ADDRESS"] = queue.address
        installation.up()
        try:
            for scenario in (LATENCY, BOUND, CPU):
                if scenario.name in given.scenarios:
                    print(f"{scenario.title}\n    {scenario.facts}", flush=True)
                    good &= heal_users(installation, Path(folder), given.images, scenario)
            if "queue" in given.scenarios:
                print(f"{QUEUE.title}\n    {QUEUE.facts}", flush=True)
                good &= heal_queue(installation, Path(folder), given.images, queue)
        finally:
            installation.down()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
