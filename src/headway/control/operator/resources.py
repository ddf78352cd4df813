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
    *,
    namespace: str = NAMESPACE,
    resync_s: float = RESYNC_S,
) -> list[Operator]:
    """One for each kind of custom resource. ``fleet`` is told what is to be scaled; ``namespace`` is the operator's."""

    def wanted_model(resource: Object, children: Children, failures: Sequence[Failure], now: float) -> Wanted:
        return wanted(resource, children, failures, now, fleet.loop(name_of(resource)), namespace)

    def looked(name: Name, look: Wanted | None) -> None:
        if look is None:
            fleet.gone(name)
        else:
            fleet.looked(name, look.scaling, look.elastic)

    made = [
        Operator(
            cluster,
            clock,
            leader,
            wanted_model if owner == MODEL_DEPLOYMENT else wanted,
            owner=owner,
            kinds=kinds,
            labels=LABELS,
            followed=followed,
            looked=looked if owner == MODEL_DEPLOYMENT else lambda name, look: None,
            workers=WORKERS,
            resync_s=resync_s,
        )
        for owner, kinds, followed in (
            (MODEL_DEPLOYMENT, OWNED, {POD: MODEL_LABEL}),
            (SCALING_POLICY, SCALERS, dict[Kind, str]()),
        )
    ]
    fleet.on_news = made[0].look_at
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
    return Wanted(objects, look.status, look.claim, look.again_s, look.scaling, look.elastic)
