"""How a deployment moves from what is live to what is wished: pure functions of state, replicas and now.

One round of the reconciler asks, in this order:

1. :func:`advance`: move versions along their life, and call the rollout off when a new version failed.
2. :func:`shift`: once every version of the wished split has all its replicas ready, make it the live one.
3. :func:`judge`: say in one word and one line how the deployment is.
4. :func:`surplus` and :func:`missing`: which replicas have to go, and how many have to come.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from headway.control import counts
from headway.control.commands import weights_of
from headway.domain.deployments import Deployment, Version
from headway.domain.events import EventType, NewEvent
from headway.domain.lifecycle import DeploymentState, ReplicaPhase, VersionState
from headway.domain.replicas import Failure, ReplicaStatus
from headway.domain.version_specs import spec_of

_V = VersionState
GONE = (ReplicaPhase.STOPPING, ReplicaPhase.STOPPED)
CERTAIN = frozenset({"load_failed", "sample_prediction_failed", "start_timeout", "out_of_memory", "invalid_spec"})
"""Failures of a start that trying again does not mend."""
RESTARTS_ALLOWED = 3
"""Starts of a new version that may end for any other reason (killed from outside, say)."""
PROGRESS_SLACK_S = 60.0
"""Beyond the startup probe's own time: process start, readiness probe, a busy machine."""

_EVENT_OF = {
    _V.BUILDING: EventType.VERSION_BUILDING,
    _V.STARTING: EventType.VERSION_STARTING,
    _V.LIVE: EventType.VERSION_LIVE,
    _V.DRAINING: EventType.VERSION_DRAINING,
    _V.RETIRED: EventType.VERSION_RETIRED,
    _V.FAILED: EventType.VERSION_FAILED,
}


def wanted(deployment: Deployment) -> frozenset[str]:
    """Versions that must run: wished, live, or shadowing."""
    names = {arm.version for arm in (*deployment.target, *deployment.live)}
    if deployment.shadow is not None and deployment.state is not DeploymentState.DELETING:
        names.add(deployment.shadow.version)
    return frozenset(names)


def event_of(deployment: str, version: Version, now: float) -> NewEvent:
    """The event that tells of ``version``'s present state."""
    data: dict[str, object] = {"digest": version.digest}
    if version.failure is not None:
        data["failure"] = {
            "code": version.failure.code,
            "message": version.failure.message,
            "where": version.failure.where,
            "hint": version.failure.hint,
            "log_tail": version.failure.log_tail,
        }
    return NewEvent(now, _EVENT_OF[version.state], deployment, version.name, data=data)


def advance(deployment: Deployment, replicas: Sequence[ReplicaStatus], now: float) -> tuple[Deployment, list[NewEvent]]:
    """Move every version one step along; give up a wished split that names a failed version."""
    events: list[NewEvent] = []
    result = deployment
    needed = wanted(deployment)
    for version in deployment.versions:
        own = [r for r in replicas if r.version == version.name]
        moved = _step(result, version, version.name in needed, own, now)
        if moved is not version:
            result = result.with_version(moved)
            events.append(event_of(deployment.name, moved, now))
    failed = [v for v in result.versions if v.state is _V.FAILED]
    doomed = next((v for arm in result.target for v in failed if v.name == arm.version), None)
    if doomed is not None and result.target != result.live:
        data = {"old": weights_of(result.target), "new": weights_of(result.live), "reason": f"{doomed.name} failed"}
        events.append(NewEvent(now, EventType.TRAFFIC_REQUESTED, deployment.name, doomed.name, data=data))
        result = replace(result, target=result.live, message=_failed_line(doomed))
    shadow = result.shadow
    if shadow is not None and any(v.name == shadow.version for v in failed):
        result = replace(result, shadow=None, message=_failed_line(result.version(shadow.version)))
    return counts.forgotten(result, wanted(result)), events


def _step(
    deployment: Deployment, version: Version, needed: bool, replicas: Sequence[ReplicaStatus], now: float
) -> Version:
    if not needed:
        if version.state in (_V.PENDING, _V.BUILDING):
            return version.moved(_V.RETIRED, now)
        if version.state in (_V.LIVE, _V.STARTING):
            return version.moved(_V.DRAINING, now)
        if version.state is _V.DRAINING and not replicas:
            return version.moved(_V.RETIRED, now)
        return version
    if version.state is _V.PENDING:
        return version.moved(_V.BUILDING, now)
    if version.state is _V.DRAINING:
        return version.moved(_V.STARTING, now)
    if version.state is _V.STARTING:
        failure = start_failure(version, replicas, now)
        if failure is not None:
            return version.moved(_V.FAILED, now, failure)
        in_split = any(arm.version == version.name for arm in (*deployment.target, *deployment.live))
        if not in_split and ready_count(version.name, replicas) >= deployment.wished(version.name):
            return version.moved(_V.LIVE, now)  # a shadow: it has no share to wait for
    return version


def start_failure(version: Version, replicas: Sequence[ReplicaStatus], now: float) -> Failure | None:
    """Why a starting version will not become ready; None while it still may."""
    spec = spec_of(version)
    for replica in replicas:
        failure = replica.failure
        if failure is not None and (failure.code in CERTAIN or replica.restarts >= RESTARTS_ALLOWED):
            return failure
    startup = spec.probes().startup
    budget = startup.initial_delay_s + startup.period_s * startup.failure_threshold + PROGRESS_SLACK_S
    for replica in replicas:
        # From the start of its process: the control plane, or the machine, may have been away since the rollout began.
        began = max(version.state_since, replica.started_at or now)
        if not replica.ready and now - began > budget:
            late = f"{replica.replica_id} is {replica.phase} {now - began:.0f} s after its start"
            return replica.failure or Failure("start_timeout", late, hint="headway logs shows what it does")
    return None


def ready_count(version: str, replicas: Sequence[ReplicaStatus]) -> int:
    """How many replicas of ``version`` are ready."""
    return sum(1 for r in replicas if r.version == version and r.ready)


def shift(
    deployment: Deployment, replicas: Sequence[ReplicaStatus], now: float
) -> tuple[Deployment, list[NewEvent]] | None:
    """The deployment with the wished split live, once all of it is ready; None when it is not yet time.

    A version whose count triggers move, and that gets no more traffic than it has, is not waited for: under load it
    may lack replicas at any moment.

    ``previous`` is renewed only when a version comes in that was not in the split before. So after a canary
    has been promoted, rollback leads to the split before the canary, not to the trial itself.
    """
    if deployment.target == deployment.live or not deployment.target:
        return None
    more = counts.growing(deployment.live, deployment.target)
    for arm in deployment.target:
        if deployment.version(arm.version).state not in (_V.STARTING, _V.LIVE):
            return None
        settled = deployment.scaling is not None and arm.version not in more
        if not settled and ready_count(arm.version, replicas) < deployment.wished(arm.version):
            return None
    before = {arm.version for arm in deployment.live}
    comes_in = any(arm.version not in before for arm in deployment.target)
    result = replace(
        deployment,
        live=deployment.target,
        previous=deployment.live if comes_in and deployment.live else deployment.previous,
        message="",
    )
    events: list[NewEvent] = []
    for arm in deployment.target:
        version = result.version(arm.version)
        if version.state is _V.STARTING:
            version = version.moved(_V.LIVE, now)
            result = result.with_version(version)
            events.append(event_of(deployment.name, version, now))
    data = {"old": weights_of(deployment.live), "new": weights_of(deployment.target)}
    events.append(NewEvent(now, EventType.TRAFFIC_SHIFTED, deployment.name, data=data))
    return result, events


def judge(
    deployment: Deployment, replicas: Sequence[ReplicaStatus], now: float, fault: str = ""
) -> tuple[Deployment, list[NewEvent]] | None:
    """The deployment in the state it is in by now; None when that is the state it says already.

    ``fault``: what keeps the reconciler from looking after it, if anything does.
    """
    state, message = _verdict(deployment, replicas, fault)
    if fault and state is not DeploymentState.READY:
        message = f"{message}; {fault}" if message else fault
    if (state, message) == (deployment.state, deployment.message):
        return None
    if state is deployment.state:
        return replace(deployment, message=message), []
    data = {"old": str(deployment.state), "new": str(state), "message": message}
    event = NewEvent(now, EventType.DEPLOYMENT_STATE_CHANGED, deployment.name, data=data)
    return deployment.moved(state, message), [event]


def _verdict(deployment: Deployment, replicas: Sequence[ReplicaStatus], fault: str = "") -> tuple[DeploymentState, str]:
    if deployment.state is DeploymentState.DELETING:
        return DeploymentState.DELETING, deployment.message
    if deployment.target != deployment.live:
        coming = ", ".join(f"{a.version} {a.weight} %" for a in deployment.target)
        return DeploymentState.DEPLOYING, f"on the way to {coming}"
    if not deployment.live:
        return DeploymentState.FAILED, deployment.message or "no version serves"
    short: list[str] = []
    growing: list[str] = []
    for arm in deployment.live:
        ready, wished = ready_count(arm.version, replicas), deployment.wished(arm.version)
        if ready < wished:
            reasons = {r.reason for r in replicas if r.version == arm.version and not r.ready and r.reason}
            why = f" ({', '.join(sorted(reasons))})" if reasons else ""
            comes = not fault and _only_grows(deployment, arm.version, replicas)
            (growing if comes else short).append(f"{arm.version}: {ready} of {wished} replicas ready{why}")
    if short:
        return DeploymentState.DEGRADED, "; ".join([*short, *growing])
    told = deployment.message.partition(_NOW)[0] if deployment.message.startswith(_FAILED_PREFIX) else ""
    now = [f"scaling up, {'; '.join(growing)}"] if growing else []
    asleep = [arm.version for arm in deployment.live if deployment.wished(arm.version) == 0]
    if asleep and deployment.scaling is not None:
        everything = len(asleep) == len(deployment.live)
        now.append("scaled to zero" if everything else f"scaled to zero: {', '.join(asleep)}")
    message = "; ".join(now)
    return DeploymentState.READY, f"{told}{_NOW}{message}" if told and message else told or message


def _only_grows(deployment: Deployment, version: str, replicas: Sequence[ReplicaStatus]) -> bool:
    """Whether ``version`` lacks replicas only because the autoscaler wished for more a moment ago.

    As many as it has to have at least are ready, and none of the others is in trouble.
    """
    own = [r for r in replicas if r.version == version and r.phase not in GONE]
    starting = all(r.ready or (r.phase is ReplicaPhase.STARTING and r.failure is None) for r in own)
    return deployment.scaling is not None and starting and ready_count(version, own) >= deployment.bounds[0]


_FAILED_PREFIX = "last rollout failed: "
_NOW = "; now: "
"""Between what went wrong last, which stays until the next rollout, and how it is at the moment."""


def _failed_line(version: Version) -> str:
    reason = version.failure.message if version.failure is not None else "unknown"
    return f"{_FAILED_PREFIX}{version.name}: {reason}"


def surplus(
    deployment: Deployment | None, replicas: Sequence[ReplicaStatus], leaving: Collection[str]
) -> list[ReplicaStatus]:
    """Replicas that have to go: of versions nobody needs, failed ones, and more than wished.

    Of too many, those go first that are not ready, then the youngest.
    """
    if deployment is None:
        return [r for r in replicas if r.phase not in GONE and r.replica_id not in leaving]
    going: list[ReplicaStatus] = []
    for version, own in _by_version(replicas, leaving).items():
        keep = deployment.wished(version) if runs(deployment, version) else 0
        if len(own) > keep:
            ordered = sorted(own, key=lambda r: (r.ready, -(r.started_at or 0.0)))
            going.extend(ordered[: len(own) - keep])
    return going


def missing(deployment: Deployment, replicas: Sequence[ReplicaStatus], leaving: Collection[str]) -> dict[str, int]:
    """How many replicas each version still lacks."""
    own = _by_version(replicas, leaving)
    lacking = {}
    for version in deployment.versions:
        if runs(deployment, version.name):
            count = deployment.wished(version.name) - len(own.get(version.name, []))
            if count > 0:
                lacking[version.name] = count
    return lacking


def runs(deployment: Deployment, name: str) -> bool:
    known = next((v for v in deployment.versions if v.name == name), None)
    return known is not None and known.state in (_V.STARTING, _V.LIVE)


def _by_version(replicas: Sequence[ReplicaStatus], leaving: Collection[str]) -> dict[str, list[ReplicaStatus]]:
    grouped: dict[str, list[ReplicaStatus]] = {}
    for replica in replicas:
        if replica.phase not in GONE and replica.replica_id not in leaving:
            grouped.setdefault(replica.version, []).append(replica)
    return grouped
