"""How many replicas each version is to have, where triggers move that number. Pure.

Every version in the split, and a shadow, has a count of its own. The autoscaler moves the counts of versions that
serve; what stands here sets them where somebody else does: a version that comes into the split or gets a larger
share starts with as many replicas as that share of the live replicas, so that a new version takes over from a busy
one with no fewer. A version nobody needs any more has no count.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import ceil
from typing import Any

from headway.domain.deployments import Deployment, Version
from headway.domain.errors import InvalidInput, InvalidSpec
from headway.domain.events import EventType, NewEvent
from headway.domain.routing_table import WEIGHT_TOTAL, Arm
from headway.domain.scaling_rules import NO_MEMORY
from headway.domain.scaling_spec import Scaling


def with_scaling(deployment: Deployment, scaling: Scaling) -> Deployment:
    """``deployment`` under ``scaling``: counts it has stay where the new bounds allow them."""
    if not scaling.elastic:
        return deployment.with_scaling(None, {}, scaling.min_replicas)
    most = scaling.min_replicas if scaling.max_replicas is None else scaling.max_replicas
    live = {arm.version for arm in deployment.live}
    counts = {}
    for name in {*deployment.counts, *_running(deployment)}:
        least = scaling.min_replicas if name in live else scaling.first_count
        counts[name] = min(max(deployment.wished(name), least), most)
    document: dict[str, Any] = scaling.model_dump(mode="json", by_alias=True)
    if document == deployment.scaling:
        document = deployment.extra["scaling"]  # the very same: readers know it by its identity
    return deployment.with_scaling(document, counts, scaling.first_count)


def fixed(deployment: Deployment) -> Deployment:
    """With a fixed number of replicas: the largest count there is, at least 1, as nothing would wake it from 0."""
    if deployment.scaling is None:
        return deployment
    split = deployment.live or deployment.target
    replicas = max([1, *(deployment.wished(arm.version) for arm in split)])
    return deployment.with_scaling(None, {}, replicas)


def started(deployment: Deployment, target: Sequence[Arm]) -> Deployment:
    """With counts for every version that ``target`` brings in or gives a larger share than it has now."""
    if deployment.scaling is None:
        return deployment
    known = deployment.counts
    total = sum(deployment.wished(arm.version) for arm in deployment.live)
    again = tuple(target) == deployment.target
    shares = growing(deployment.live, target)
    shadow = deployment.shadow
    if shadow is not None and shadow.version not in known:
        shares.setdefault(shadow.version, shadow.percent)
    counts = dict(known)
    least, most = deployment.bounds
    for version, weight in shares.items():
        if version in known and again:
            continue
        fair = min(max(ceil(total * weight / WEIGHT_TOTAL), 1, least), most)
        counts[version] = max(fair, known.get(version, 0))
    return deployment.with_counts(counts)


def growing(live: Sequence[Arm], target: Sequence[Arm]) -> dict[str, int]:
    """The shares of those versions that get more in ``target`` than they have in ``live``, or come in."""
    now = {arm.version: arm.weight for arm in live}
    return {arm.version: arm.weight for arm in target if arm.weight > now.get(arm.version, -1)}


def forgotten(deployment: Deployment, needed: Collection[str]) -> Deployment:
    """Without the counts of versions that are not ``needed``."""
    return deployment.with_counts({name: count for name, count in deployment.counts.items() if name in needed})


def set_all(deployment: Deployment, replicas: int) -> tuple[Deployment, int]:
    """With ``replicas`` of each version in the split; and how many there were, the most of any version.

    A version on its way into the split keeps at least one: it has to show that it can serve.
    """
    if deployment.scaling is None:
        return deployment.with_scaling(None, {}, replicas), deployment.replicas
    least, most = deployment.bounds
    if not least <= replicas <= most:
        raise InvalidInput(
            f"model {deployment.name} is scaled between {least} and {most} replicas, so {replicas} cannot stand",
            where="replicas",
            hint="change minReplicas or maxReplicas of its scaling, or make the number fixed",
        )
    live = {arm.version for arm in deployment.live}
    split = live | {arm.version for arm in deployment.target}
    old = max([deployment.wished(version) for version in split], default=deployment.replicas)
    set_now = {version: replicas if version in live else max(1, replicas) for version in split}
    return deployment.with_counts({**deployment.counts, **set_now}), old


def check_limit(deployment: Deployment, versions: Sequence[Version]) -> None:
    """Raise :class:`InvalidSpec` when a memory trigger would have no limit to compare with in one of ``versions``."""
    triggers = (deployment.scaling or {}).get("triggers", ())
    if any(trigger["type"] == "memory" for trigger in triggers):
        for version in versions:
            if version.spec.get("resources", {}).get("memory") is None:
                raise InvalidSpec(f"{version.name} has none, and {NO_MEMORY}", where="spec.resources.memory")


def configured(deployment: Deployment, now: float) -> NewEvent:
    """The event that tells how ``deployment`` is scaled from now on."""
    data = {"scaling": deployment.scaling, "replicas": deployment.replicas}
    return NewEvent(now, EventType.SCALING_CONFIGURED, deployment.name, data=data)


def _running(deployment: Deployment) -> set[str]:
    names = {arm.version for arm in (*deployment.target, *deployment.live)}
    return names | ({deployment.shadow.version} if deployment.shadow is not None else set())
