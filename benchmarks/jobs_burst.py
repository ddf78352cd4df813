"""A burst of jobs: from no worker to all of them and back to none, and no job lost on the way down.

1,000 jobs of 200 ms are submitted at once to a model that has no worker; its policy allows eight, each takes one job at
a time. When workers begin to leave, a tenth as many jobs come again. The run ends when the last worker is gone.

    python benchmarks/jobs_burst.py [--jobs 1000] [--workers 8] [--images docs/images]

Exit 0 when every job has succeeded at its first attempt and no worker is left, 1 otherwise.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from installation import Installation, write_model
from self_healing_plot import Curve, Panel, Picture, draw

from headway.api.schemas_scaling import DecisionView
from headway.client import Client
from headway.client.job_views import Job

NAME: Final = "sleepy"
SLEEPS: Final = """
import time
def predict(X):
    time.sleep(0.2)
    return X
"""
TAKES_S: Final = 0.2
LOOK_S: Final = 0.25
LATE_S: Final = 120.0
OPEN: Final = ("queued", "running")


@dataclass(slots=True)
class Run:
    """What was seen, by seconds from the beginning."""

    began: float = field(default_factory=time.monotonic)
    began_at: float = field(default_factory=time.time)
    wished: list[tuple[float, float]] = field(default_factory=list)
    ready: list[tuple[float, float]] = field(default_factory=list)

    def look(self, client: Client) -> tuple[int, int]:
        """Open jobs, and workers that are there in any way."""
        view = client.get(NAME)
        assert view.jobs is not None
        self.wished.append((self.now_s, view.jobs.workers))
        self.ready.append((self.now_s, sum(worker.ready for worker in view.worker_list)))
        return view.jobs.queued + view.jobs.running, len(view.worker_list)

    @property
    def now_s(self) -> float:
        return time.monotonic() - self.began


def burst(client: Client, jobs: int, second: int) -> Run:
    """Submit, watch until nothing is left; the second burst comes with the first step down."""
    run = Run()
    client.jobs.submit_batch(NAME, [b"[[%d]]" % number for number in range(jobs)])
    limit_s = LATE_S + (jobs + second) * TAKES_S
    peak = 0
    while run.now_s < limit_s:
        still, there = run.look(client)
        peak = max(peak, there)
        leaving = bool(run.wished) and run.wished[-1][1] < peak and not still
        if second and leaving and peak > 1:
            client.jobs.submit_batch(NAME, [b"[[%d]]" % number for number in range(second)])
            second = 0
        elif not still and not there and not second and not client.jobs.list(NAME, states=OPEN, limit=1):
            break  # what the view tells is up to a second old; the list is not
        time.sleep(LOOK_S)
    return run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--images", type=Path, default=None)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        (root / "home").mkdir()
        installation = Installation(root / "home", None)
        installation.env |= {"HEADWAY_JOBS": "true", "HEADWAY_JOBS_MAX_WORKERS": str(args.workers)}
        workers = {"max": args.workers, "cooldown": "5s", "scaleDownWindow": "5s"}
        installation.up()
        try:
            with installation.client() as client:
                client.deploy(write_model(root / "model", NAME, SLEEPS, {"jobs": {"workers": workers}}))
                run = burst(client, args.jobs, args.jobs // 10)
                jobs = client.jobs.list(NAME, limit=2 * args.jobs)
                changes = client.decisions(NAME, workers=True, changed=True, last=1000)
        finally:
            installation.down()
    return report(run, jobs, changes, args)


def waiting(jobs: Sequence[Job], began_at: float) -> list[tuple[float, float]]:
    """How many waited for a worker, at each moment at which that changed."""
    steps = [(job.submitted_at.timestamp() - began_at, 1) for job in jobs]
    steps += [(job.started_at.timestamp() - began_at, -1) for job in jobs if job.started_at is not None]
    return summed(steps)


def ended_by(jobs: Sequence[Job], began_at: float) -> list[tuple[float, float]]:
    """How many had ended, at each moment at which one did."""
    return summed([(job.finished_at.timestamp() - began_at, 1) for job in jobs if job.finished_at is not None])


def summed(steps: Sequence[tuple[float, int]]) -> list[tuple[float, float]]:
    found, count = [], 0
    for at, step in sorted(steps):
        count += step
        found.append((at, float(count)))
    return found


def report(run: Run, jobs: Sequence[Job], changes: Sequence[DecisionView], args: argparse.Namespace) -> int:
    """Tell it, draw it; the exit code."""
    ended = Counter(job.state for job in jobs)
    again = sum(job.attempts > 1 for job in jobs)
    first = [job for job in jobs if job.started_at is not None]
    span_s = max(j.finished_at.timestamp() for j in first if j.finished_at) - min(
        j.submitted_at.timestamp() for j in first
    )
    at_once = len(jobs) * TAKES_S / args.workers
    gone_s = next((at for at, count in reversed(run.wished) if count), 0.0)
    expected = args.jobs + args.jobs // 10
    print(f"jobs {len(jobs)} of {expected}, ended {dict(ended)}, begun more than once {again}")
    print(f"from the first submission to the last end {span_s:.1f} s; workers that never rest: {at_once:.1f} s")
    steps = [(one.at, one.current, one.desired) for one in changes]
    told = " ".join(f"{before}->{after}" for _, before, after in steps)
    print(f"workers {told}; the last one was wished for until {gone_s:.0f} s")
    zero = run.wished[-1][1] == 0 and run.ready[-1][1] == 0
    peak = max(count for _, count in run.ready)
    if args.images is not None:
        facts = (
            f"{args.jobs} jobs of {TAKES_S * 1000:.0f} ms, later {args.jobs // 10} more; at most {args.workers} workers"
        )
        panels = [
            Panel(
                "jobs", [Curve("waiting", waiting(jobs, run.began_at)), Curve("ended", ended_by(jobs, run.began_at))]
            ),
            Panel("workers", [Curve("wished", run.wished, step=True), Curve("ready", run.ready, step=True)]),
        ]
        picture = Picture("Workers come with the jobs and go with them", facts, panels)
        picture.decisions = [(at - run.began_at, before, after) for at, before, after in steps]
        draw(picture, args.images / "jobs-burst.png")
    fine = ended == {"succeeded": expected} and again == 0 and zero and peak == args.workers
    print("every job ended once, at its first attempt, and no worker is left" if fine else "NOT as promised")
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
