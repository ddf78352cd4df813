"""What the operator looks after: ModelDeployments and ScalingPolicies, each by a pure look at it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from headway.cluster.elastic import SILENT, Loop
from headway.cluster.kinds import MODEL_DEPLOYMENT, OWNED, SCALERS, SCALING_POLICY, kind_of
from headway.cluster.names import MANAGED_BY, MANAGER, MODEL_LABEL, NAMESPACE
from headway.cluster.reconcile import reconcile
from headway.control.operator.cache import RESYNC_S
from headway.control.operator.cluster_fleet import ClusterFleet
from headway.control.operator.leader import Leader
from headway.control.operator.operator import Children, Failure, Operator, Wanted
from headway.control.operator.target_watch import TargetWatch, policy_key
from headway.domain.cluster_objects import POD, Kind, Name, Object, name_of
from headway.ports.clock import Clock
from headway.ports.cluster import Cluster

LABELS: Final = {MANAGED_BY: MANAGER}
"""On all that Headway renders; nothing else is followed."""
WORKERS: Final = 8


def operators(
    cluster: Cluster,
    clock: Clock,
    leader: Leader,
    fleet: ClusterFleet,
    targets: TargetWatch,
    *,
    namespace: str = NAMESPACE,
    resync_s: float = RESYNC_S,
) -> list[Operator]:
    """One for each kind of custom resource. ``fleet`` and ``targets`` are
    told what is to be scaled; ``namespace`` is the operator's."""

    def wanted_model(resource: Object, children: Children, failures: Sequence[Failure], now: float) -> Wanted:
        return wanted(resource, children, failures, now, fleet.loop(str(name_of(resource))), namespace)

    def wanted_policy(resource: Object, children: Children, failures: Sequence[Failure], now: float) -> Wanted:
        return wanted(resource, children, failures, now, fleet.loop(policy_key(name_of(resource))), namespace)

    def looked_at_model(name: Name, look: Wanted | None) -> None:
        if look is None or (scaled := look.scaled) is None:
            fleet.gone(str(name))
        else:
            fleet.looked(str(name), scaled.scaling, scaled.elastic, scaled.secret)

    def looked_at_policy(name: Name, look: Wanted | None) -> None:
        targets.follow(name, None if look is None else look.scaled)

    made = [
        Operator(
            cluster,
            clock,
            leader,
            render,
            owner=owner,
            kinds=kinds,
            labels=LABELS,
            followed=followed,
            looked=looked,
            workers=WORKERS,
            resync_s=resync_s,
        )
        for owner, kinds, followed, render, looked in (
            (MODEL_DEPLOYMENT, OWNED, {POD: MODEL_LABEL}, wanted_model, looked_at_model),
            (SCALING_POLICY, SCALERS, dict[Kind, str](), wanted_policy, looked_at_policy),
        )
    ]
    models, policies = made

    def news(key: str) -> None:
        *of_policy, place, name = key.split("/")
        (policies if of_policy else models).look_at(Name(place, name))

    fleet.on_news = news
    return made


def wanted(
    resource: Object,
    children: Children,
    failures: Sequence[Failure],
    now: float,
    loop: Loop = SILENT,
    namespace: str = NAMESPACE,
) -> Wanted:
    """All that a custom resource wants of the cluster, and its status."""
    owned = [one for kind in OWNED for one in children.of(kind)]
    told = [f"{failure.where}: {failure.message}" for failure in failures]
    look = reconcile(resource, owned, children.of(POD), told, now, loop, namespace)
    objects = None if look.objects is None else [(kind_of(one), one) for one in look.objects]
    return Wanted(objects, look.status, look.claim, look.again_s, look.scaled)
