"""What belongs together to have jobs carried out: the loop over workers, their pool, the counts, the verdicts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from headway.control.book import DeploymentBook
from headway.control.builds import EnvironmentBuilds
from headway.control.job_counts import JobCounts
from headway.control.job_desk import JobDesk
from headway.control.job_workers import TICK_S, JobWorkers
from headway.control.scaling_recorder import ScalingRecorder
from headway.control.worker_pool import WorkerPool
from headway.control.worker_verdicts import WorkerVerdicts
from headway.ports.bundle_store import BundleStore
from headway.ports.clock import Clock
from headway.ports.decision_log import DecisionLog
from headway.ports.event_log import EventLog
from headway.ports.job_store import JobFeed, JobLeases, JobStore
from headway.ports.runtime import Runtime


class Jobs(JobStore, JobLeases, JobFeed, Protocol):
    """The jobs' database, as far as the control plane uses it."""


@dataclass(frozen=True, slots=True)
class WorkerService:
    """The parts that others hold on to."""

    workers: JobWorkers
    verdicts: WorkerVerdicts
    desk: JobDesk


def worker_service(
    *,
    jobs: Jobs,
    book: DeploymentBook,
    runtime: Runtime,
    bundles: BundleStore,
    builds: EnvironmentBuilds,
    decisions: DecisionLog,
    events: EventLog,
    clock: Clock,
    suffix: Callable[[], str],
    most: int,
    tick_s: float = TICK_S,
) -> WorkerService:
    """On these ports; ``most``: workers of all models together."""
    desk = JobDesk(jobs, jobs)
    workers = JobWorkers(
        book=book,
        pool=WorkerPool(runtime=runtime, bundles=bundles, builds=builds, store=jobs, clock=clock, suffix=suffix),
        counts=JobCounts(jobs, jobs, clock),
        desk=desk,
        # Old records are dropped by the recorder of the replicas' decisions: they are in the same log.
        recorder=ScalingRecorder(decisions, events, clock, None),
        decisions=decisions,
        clock=clock,
        most=most,
        tick_s=tick_s,
    )
    return WorkerService(workers, WorkerVerdicts(jobs), desk)
