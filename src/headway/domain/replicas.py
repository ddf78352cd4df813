"""What a runtime is asked to run (:class:`ReplicaSpec`) and what it reports (:class:`ReplicaStatus`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from headway.domain.lifecycle import ReplicaPhase


@dataclass(frozen=True, slots=True)
class Probe:
    """One HTTP probe with Kubernetes' fields, defaults and semantics.

    Success is a status from 200 to 399 within ``timeout_s``. Failing means ``failure_threshold``
    consecutive failures, passing ``success_threshold`` consecutive successes.
    """

    path: str
    period_s: float = 10.0
    timeout_s: float = 1.0
    initial_delay_s: float = 0.0
    failure_threshold: int = 3
    success_threshold: int = 1


@dataclass(frozen=True, slots=True)
class Probes:
    """Startup gates the other two; a failing liveness or startup restarts, a failing readiness unroutes."""

    startup: Probe
    readiness: Probe
    liveness: Probe


THREAD_VARIABLES: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def thread_variables(cpu_millicores: int | None, workers: int) -> dict[str, str]:
    """What sizes the thread pools of numerical libraries; nothing where no processor share is stated.

    Each worker has pools of its own: together they are to fill the replica's share, not to fight for it.
    """
    if cpu_millicores is None:
        return {}
    return dict.fromkeys(THREAD_VARIABLES, str(max(1, -(-cpu_millicores // (1000 * workers)))))


Role = Literal["serve", "work"]
"""``serve``: answers requests that the gateway sends. ``work``: a worker, which takes jobs and gets no traffic."""


@dataclass(frozen=True, slots=True)
class ReplicaSpec:
    """One replica to run. Equal specs mean the same process: nothing in it changes while it runs."""

    replica_id: str
    """``iris-v1-x7k2p``; unique for ever."""
    model: str
    version: str
    digest: str
    """SHA-256 of the version (bundle and version-level spec)."""
    bundle_path: str
    """Absolute path of the unpacked, read-only bundle."""
    python: str
    """Interpreter of the version's environment."""
    entrypoint: str | None
    """``module:attribute``; None lets the model server find it."""
    probes: Probes
    server: Mapping[str, Any] = field(default_factory=dict)
    """By their names in ``headway.server.config``: fields of ``ServerOptions``, and those of the config they go to."""
    env: Mapping[str, str] = field(default_factory=dict)
    cpu_millicores: int | None = None
    memory_bytes: int | None = None
    termination_grace_s: float = field(default=30.0, compare=False)
    """From SIGTERM to SIGKILL. What a process was started with holds until it ends: that of workers is said by the
    deployment, which may say something else meanwhile."""
    role: Role = "serve"
    warm: bool = field(default=False, compare=False)
    """Start it from a process that has loaded the version already, where the runtime can."""

    @property
    def workers(self) -> int:
        """Processes that serve this replica; a worker is always one, whatever ``spec.server.workers`` says."""
        if self.role == "work":
            return 1
        workers = self.server.get("workers", 1)
        return workers if isinstance(workers, int) and workers > 0 else 1


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a replica or a version did not work, in words its owner can act upon."""

    code: str
    """An error code of the tree: ``load_failed``, ``start_timeout``, ``out_of_memory``, …"""
    message: str
    """One line: what happened, with the exception's type and message where there was one."""
    where: str | None = None
    """``model.py:12``: file (relative to the bundle where it lies there) and line."""
    hint: str | None = None
    log_tail: str = ""
    """The last lines that the replica printed; at most 4 KiB."""


@dataclass(frozen=True, slots=True)
class ReplicaStatus:
    """One observation of one replica."""

    replica_id: str
    model: str
    version: str
    phase: ReplicaPhase
    address: str | None
    """Where it serves: ``unix:/path`` or ``host:port``; None while it has none."""
    pid: int | None = None
    restarts: int = 0
    reason: str | None = None
    """CamelCase as in Kubernetes: ``CrashLoopBackOff``, ``OOMKilled``, ``LivenessFailed``, ``LoadFailed``."""
    failure: Failure | None = None
    """The last failure, kept across restarts until the replica is ready."""
    started_at: float | None = None
    """Start of the present process, seconds since the epoch."""
    ready_at: float | None = None
    rss_bytes: int | None = None
    role: Role = "serve"

    @property
    def ready(self) -> bool:
        return self.phase is ReplicaPhase.READY

    @property
    def worker_name(self) -> str:
        """See :func:`worker_name`; of the present process, or of the one that ended last."""
        return worker_name(self.replica_id, self.restarts)


def worker_name(replica_id: str, restarts: int) -> str:
    """What a worker calls itself before the job server: another name for each process of a replica.

    So what is said of a process that has ended never means the jobs that the next one has taken meanwhile.
    """
    return f"{replica_id}.{restarts}"


def serving(replicas: Iterable[ReplicaStatus]) -> tuple[ReplicaStatus, ...]:
    """Those that answer requests: without the workers."""
    return tuple(replica for replica in replicas if replica.role == "serve")


@dataclass(frozen=True, slots=True)
class ReplicaTransition:
    """A replica went from one phase to another (``old`` None: it is new or was adopted)."""

    at: float
    """Seconds since the epoch."""
    old: ReplicaPhase | None
    status: ReplicaStatus
    adopted: bool = False
    """True when the transition happened, or was found out, while the control plane was away."""
