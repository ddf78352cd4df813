"""Every state and every allowed transition, as tables. Nothing else decides what may follow what.

A state changes through :func:`check`, which raises for a move the table does not hold; a test walks the
tables for dead ends and unreachable states.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import TypeVar

from headway.domain.errors import HeadwayError


class VersionState(StrEnum):
    """Life of a version.

    ``pending``: recorded, nothing done yet. ``building``: its environment is made. ``starting``: replicas
    come up, no traffic yet. ``live``: named in the traffic split (a weight of 0 counts). ``draining``: left
    the split, requests in flight finish. ``retired``: no replicas; can be made live again. ``failed``:
    never became ready; its ``failure`` says why. A failed version may be tried again.
    """

    PENDING = "pending"
    BUILDING = "building"
    STARTING = "starting"
    LIVE = "live"
    DRAINING = "draining"
    RETIRED = "retired"
    FAILED = "failed"


class ReplicaPhase(StrEnum):
    """Life of a replica, as the runtime sees it.

    ``starting``: the process runs, startup probe not yet passed. ``ready``: takes traffic.
    ``unready``: runs, readiness probe fails. ``backoff``: exited, waits before the next start
    (reason ``CrashLoopBackOff`` from the second crash on). ``stopping``: told to stop, finishes what it
    has. ``stopped``: gone as asked. ``failed``: will not be started again by the runtime.
    """

    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    BACKOFF = "backoff"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class DeploymentState(StrEnum):
    """Life of a deployment.

    ``deploying``: a target split is not yet reached. ``ready``: target reached, every live version has all
    its replicas ready; one that is scaled by triggers at least ``minReplicas``, while more come up without
    trouble. ``degraded``: serving, but fewer replicas are ready than wished, or the last rollout failed with
    nothing else to serve. ``failed``: nothing serves and nothing is on its way. ``deleting``: drains, then is
    gone.
    """

    DEPLOYING = "deploying"
    READY = "ready"
    DEGRADED = "degraded"
    FAILED = "failed"
    DELETING = "deleting"


class JobState(StrEnum):
    """Life of a job.

    ``queued``: stored, waits for a worker, for its not-before time or for its next attempt. ``running``: a worker
    holds its lease. ``succeeded``: the result is stored. ``failed``: an error that another attempt would not mend, or
    the last attempt allowed. ``canceled``: somebody called it off. ``expired``: its deadline passed before it had
    finished.
    """

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


class TrialState(StrEnum):
    """Life of a trial, a canary that is moved on the evidence.

    ``running``: it is looked at. ``held``: a step had not enough evidence in its time; it is still looked at.
    ``promoted``: the newer version has all traffic. ``rolled_back``: the base has it again. ``stopped``: somebody moved
    the traffic by hand, or the version failed.
    """

    RUNNING = "running"
    HELD = "held"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    STOPPED = "stopped"


_V, _R, _D, _J, _T = VersionState, ReplicaPhase, DeploymentState, JobState, TrialState

VERSION_TRANSITIONS: Mapping[VersionState, frozenset[VersionState]] = {
    _V.PENDING: frozenset({_V.BUILDING, _V.FAILED, _V.RETIRED}),
    _V.BUILDING: frozenset({_V.STARTING, _V.FAILED, _V.RETIRED}),
    _V.STARTING: frozenset({_V.LIVE, _V.FAILED, _V.DRAINING, _V.RETIRED}),
    _V.LIVE: frozenset({_V.DRAINING}),
    _V.DRAINING: frozenset({_V.RETIRED, _V.STARTING}),
    _V.RETIRED: frozenset({_V.PENDING}),
    _V.FAILED: frozenset({_V.PENDING}),
}

REPLICA_TRANSITIONS: Mapping[ReplicaPhase, frozenset[ReplicaPhase]] = {
    _R.STARTING: frozenset({_R.READY, _R.BACKOFF, _R.STOPPING, _R.FAILED}),
    _R.READY: frozenset({_R.UNREADY, _R.BACKOFF, _R.STOPPING}),
    _R.UNREADY: frozenset({_R.READY, _R.BACKOFF, _R.STOPPING}),
    _R.BACKOFF: frozenset({_R.STARTING, _R.STOPPING, _R.FAILED}),
    _R.STOPPING: frozenset({_R.STOPPED}),
    _R.STOPPED: frozenset(),
    _R.FAILED: frozenset({_R.STOPPING}),
}

DEPLOYMENT_TRANSITIONS: Mapping[DeploymentState, frozenset[DeploymentState]] = {
    _D.DEPLOYING: frozenset({_D.READY, _D.DEGRADED, _D.FAILED, _D.DELETING}),
    _D.READY: frozenset({_D.DEPLOYING, _D.DEGRADED, _D.DELETING}),
    _D.DEGRADED: frozenset({_D.READY, _D.DEPLOYING, _D.FAILED, _D.DELETING}),
    _D.FAILED: frozenset({_D.DEPLOYING, _D.DELETING}),
    _D.DELETING: frozenset(),
}

JOB_TRANSITIONS: Mapping[JobState, frozenset[JobState]] = {
    _J.QUEUED: frozenset({_J.RUNNING, _J.FAILED, _J.CANCELED, _J.EXPIRED}),
    _J.RUNNING: frozenset({_J.QUEUED, _J.SUCCEEDED, _J.FAILED, _J.CANCELED, _J.EXPIRED}),
    _J.SUCCEEDED: frozenset(),
    _J.FAILED: frozenset(),
    _J.CANCELED: frozenset(),
    _J.EXPIRED: frozenset(),
}

TRIAL_TRANSITIONS: Mapping[TrialState, frozenset[TrialState]] = {
    _T.RUNNING: frozenset({_T.HELD, _T.PROMOTED, _T.ROLLED_BACK, _T.STOPPED}),
    _T.HELD: frozenset({_T.RUNNING, _T.PROMOTED, _T.ROLLED_BACK, _T.STOPPED}),
    _T.PROMOTED: frozenset(),
    _T.ROLLED_BACK: frozenset(),
    _T.STOPPED: frozenset(),
}

S = TypeVar("S", VersionState, ReplicaPhase, DeploymentState, JobState, TrialState)


def check(table: Mapping[S, frozenset[S]], old: S, new: S) -> S:
    """``new`` when the table allows ``old`` -> ``new`` (staying put is allowed); else a fault of ours."""
    if old != new and new not in table[old]:
        raise HeadwayError(f"no transition {type(old).__name__} {old} -> {new}")
    return new
