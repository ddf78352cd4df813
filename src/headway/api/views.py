"""Views: domain values as the bodies that clients get. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from headway.api.ports import Snapshot
from headway.api.scaling_views import scaling_range
from headway.api.schemas import (
    ArmView,
    EventView,
    FailureView,
    JobsView,
    ModelSummary,
    ModelView,
    ReplicaView,
    ShadowView,
    SourceView,
    StickyView,
    TokenView,
    TrialView,
    Urls,
    VersionView,
)
from headway.domain.deployments import Deployment, Version
from headway.domain.events import Event
from headway.domain.lifecycle import VersionState
from headway.domain.replicas import Failure, ReplicaStatus
from headway.domain.routing_table import Arm
from headway.domain.tokens import Token
from headway.domain.trials import Trial
from headway.domain.version_specs import jobs_of

RUNNING = frozenset({VersionState.STARTING, VersionState.LIVE, VersionState.DRAINING})


def urls(deployment: Deployment, gateway_url: str) -> Urls:
    """Where the model answers: the base of its paths, to which ``/predict`` and the like are added."""
    base = f"{gateway_url.rstrip('/')}/models/{deployment.name}"
    pinned = {v.name: f"{base}/versions/{v.name}" for v in deployment.versions if v.state in RUNNING}
    return Urls(production=base, pinned=pinned)


def urls_with(deployment: Deployment, gateway_url: str, version: str) -> Urls:
    """As :func:`urls`, and of a version that is only about to run."""
    found = urls(deployment, gateway_url)
    return Urls(production=found.production, pinned={**found.pinned, version: f"{found.production}/versions/{version}"})


def arm_views(arms: Sequence[Arm]) -> list[ArmView]:
    """A traffic split."""
    return [ArmView(version=arm.version, weight=arm.weight) for arm in arms]


def failure_view(failure: Failure | None) -> FailureView | None:
    """A failure, if there is one."""
    if failure is None:
        return None
    return FailureView(
        code=failure.code,
        message=failure.message,
        where=failure.where,
        hint=failure.hint,
        log_tail=failure.log_tail,
    )


def version_view(version: Version, deployment: Deployment) -> VersionView:
    """A version with its share of the live split."""
    return VersionView(
        name=version.name,
        digest=version.digest,
        bundle_digest=version.bundle_digest,
        state=str(version.state),
        state_since=version.state_since,
        created_at=version.created_at,
        lock_digest=version.lock_digest,
        python=version.python,
        failure=failure_view(version.failure),
        source=None if version.source is None else SourceView(**asdict(version.source)),
        weight=next((arm.weight for arm in deployment.live if arm.version == version.name), None),
        wished=_wished(version, deployment),
        spec=version.spec,
    )


def _wished(version: Version, deployment: Deployment) -> int | None:
    shadow = deployment.shadow.version if deployment.shadow is not None else None
    runs = version.name == shadow or any(a.version == version.name for a in (*deployment.live, *deployment.target))
    return deployment.wished(version.name) if runs else None


def replica_view(replica: ReplicaStatus) -> ReplicaView:
    """A replica as last observed."""
    return ReplicaView(
        name=replica.replica_id,
        version=replica.version,
        phase=str(replica.phase),
        ready=replica.ready,
        restarts=replica.restarts,
        pid=replica.pid,
        reason=replica.reason,
        failure=failure_view(replica.failure),
        started_at=replica.started_at,
        ready_at=replica.ready_at,
        rss_bytes=replica.rss_bytes,
    )


def model_view(snapshot: Snapshot, gateway_url: str) -> ModelView:
    """A deployment in full."""
    deployment = snapshot.deployment
    sticky, shadow = deployment.sticky, deployment.shadow
    return ModelView(
        name=deployment.name,
        state=str(deployment.state),
        message=deployment.message,
        created_at=deployment.created_at,
        generation=deployment.generation,
        replicas=deployment.replicas,
        scaling=scaling_range(deployment),
        ready_replicas=sum(r.ready for r in snapshot.replicas),
        target=arm_views(deployment.target),
        live=arm_views(deployment.live),
        previous=arm_views(deployment.previous),
        sticky=StickyView(kind=sticky.kind, name=sticky.name) if sticky else None,
        shadow=ShadowView(version=shadow.version, percent=shadow.percent) if shadow else None,
        urls=urls(deployment, gateway_url),
        versions=[version_view(v, deployment) for v in deployment.versions],
        replica_list=[replica_view(r) for r in snapshot.replicas],
        jobs=_jobs(snapshot),
        worker_list=[replica_view(r) for r in snapshot.workers],
        trial=trial_view(deployment.trial),
    )


def trial_view(trial: Trial | None) -> TrialView | None:
    """A trial, if there is or was one."""
    if trial is None:
        return None
    return TrialView(
        base=trial.base,
        version=trial.version,
        state=str(trial.state),
        reason=trial.reason,
        share=trial.share,
        steps=list(trial.rules.steps),
        since=trial.since,
        began_at=trial.began_at,
        ended_at=trial.ended_at,
        rules=trial.document()["rules"],
    )


def _jobs(snapshot: Snapshot) -> JobsView | None:
    standing, said = snapshot.jobs, jobs_of(snapshot.deployment)
    if standing is None:
        return None
    return JobsView(
        queued=standing.queued,
        delayed=standing.delayed,
        running=standing.running,
        workers=sum(standing.wished.values()),
        min_workers=said.workers.min,
        max_workers=said.workers.max,
        version=said.version,
    )


def model_summary(snapshot: Snapshot, gateway_url: str) -> ModelSummary:
    """A deployment in a list."""
    deployment = snapshot.deployment
    return ModelSummary(
        name=deployment.name,
        state=str(deployment.state),
        message=deployment.message,
        live=arm_views(deployment.live),
        replicas=deployment.replicas,
        scaling=scaling_range(deployment),
        wished=sum(deployment.wished(arm.version) for arm in deployment.live),
        ready_replicas=sum(r.ready for r in snapshot.replicas),
        created_at=deployment.created_at,
        url=urls(deployment, gateway_url).production,
    )


def event_view(event: Event) -> EventView:
    """A recorded event."""
    return EventView(
        cursor=event.cursor,
        at=event.at,
        type=event.type,
        model=event.model,
        version=event.version,
        replica=event.replica,
        data=dict(event.data),
    )


def token_view(token: Token, now: float) -> TokenView:
    """A token without anything that would help to use it."""
    if token.revoked_at is not None:
        state = "revoked"
    else:
        state = "active" if token.active(now) else "expired"
    return TokenView(
        name=token.name,
        scope=str(token.scope),
        models=None if token.models is None else list(token.models),
        created_at=token.created_at,
        expires_at=token.expires_at,
        revoked_at=token.revoked_at,
        state=state,
    )
