"""Views of scaling: policies, decisions and their stories as the bodies that clients get. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from headway.api.ports import Snapshot
from headway.api.schemas import ScalingRange
from headway.api.schemas_scaling import (
    DecisionSummary,
    DecisionView,
    Explanation,
    ReplicaUsage,
    ScalingView,
    SignalView,
    UsageView,
    VersionScaling,
)
from headway.domain.decisions import DecisionRecord
from headway.domain.deployments import Deployment
from headway.domain.errors import InvalidInput
from headway.ports.replica_stats import ReplicaStat
from headway.scaling.decision import Decision
from headway.scaling.explain import summary, tell
from headway.scaling.record import decision_of


def split_of(deployment: Deployment) -> list[str]:
    """Versions of the live split, then those on their way into it."""
    return list(dict.fromkeys(arm.version for arm in (*deployment.live, *deployment.target)))


def scaling_range(deployment: Deployment) -> ScalingRange | None:
    """The bounds of a model whose replicas triggers move."""
    if deployment.scaling is None:
        return None
    least, most = deployment.bounds
    return ScalingRange(min_replicas=least, max_replicas=most, shadow=deployment.scaling["shadow"])


def usage_view(snapshot: Snapshot, stats: Sequence[ReplicaStat]) -> UsageView:
    """Of all versions together."""
    deployment = snapshot.deployment
    return UsageView(
        model=deployment.name,
        wished=sum(deployment.wished(name) for name in split_of(deployment)),
        ready=sum(replica.ready for replica in snapshot.replicas),
        replicas=[
            ReplicaUsage(
                name=stat.replica_id,
                at=stat.at,
                epoch=stat.epoch,
                cpu_s=stat.cpu_s,
                memory_bytes=stat.memory_bytes,
                in_flight=stat.in_flight,
                finished=stat.finished,
            )
            for stat in stats
        ],
    )


def scaling_view(snapshot: Snapshot, latest: Mapping[str, Mapping[str, Any]]) -> ScalingView:
    """The policy and how it stands; ``latest``: the document of the newest decision by version."""
    deployment = snapshot.deployment
    weights = {arm.version: arm.weight for arm in deployment.live}
    versions = []
    for name in split_of(deployment):
        decision = _decision(latest.get(name))
        versions.append(
            VersionScaling(
                version=name,
                weight=weights.get(name),
                wished=deployment.wished(name),
                ready=sum(r.ready for r in snapshot.replicas if r.version == name),
                decision=None if decision is None else _short(decision),
                signals=[] if decision is None else _signals(decision),
            )
        )
    scaling = deployment.scaling
    return ScalingView(
        model=deployment.name,
        scaling=None if scaling is None else dict(scaling),
        replicas=deployment.replicas,
        versions=versions,
    )


def _decision(document: Mapping[str, Any] | None) -> Decision | None:
    """None also for a record that another release has written in another form."""
    with suppress(InvalidInput):
        return None if document is None else decision_of(document)
    return None


def _short(decision: Decision) -> DecisionSummary:
    return DecisionSummary(
        at=decision.at,
        current=decision.current,
        desired=decision.desired,
        wish=decision.wish,
        binding=decision.binding,
        summary=summary(decision),
        shadow=decision.shadow,
    )


def _signals(decision: Decision) -> list[SignalView]:
    return [
        SignalView(
            trigger=proposal.trigger,
            status=str(proposal.status),
            desired=proposal.desired,
            value=proposal.value,
            target=proposal.target,
            age_s=proposal.age_s,
            note=proposal.note,
        )
        for proposal in decision.proposals
    ]


def decision_view(record: DecisionRecord) -> DecisionView:
    """A recorded decision."""
    return DecisionView(
        at=record.at,
        version=record.version,
        current=record.current,
        desired=record.desired,
        changed=record.changed,
        binding=record.binding,
        summary=record.summary,
        shadow=record.shadow,
        role=record.role,
        cursor=record.cursor,
        document=dict(record.document),
    )


def explanation(record: DecisionRecord) -> Explanation:
    """A recorded decision with its story."""
    try:
        lines = tell(record.document, record.role)
    except InvalidInput as error:  # of another release: what is stored in words can be told
        lines = [record.summary, error.message]
    return Explanation(**decision_view(record).model_dump(), lines=lines)
