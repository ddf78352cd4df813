"""TargetWatch: the Deployments of others that policies scale, read now and then.

They carry no label of ours, so no watch of the operator tells of them, and following every Deployment of a cluster for
the sake of a few would cost more than asking: one read for each policy every fifteen seconds, as often as Kubernetes'
own autoscaler looks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from headway.cluster.elastic import Scaled, target_of
from headway.cluster.kinds import MODEL_DEPLOYMENT
from headway.control.operator.cluster_fleet import ClusterFleet
from headway.control.operator.work_queue import WorkQueue
from headway.domain.cluster_objects import DEPLOYMENT, POD, Name, Object, controller_of, name_of
from headway.ports.clock import Clock
from headway.ports.cluster import Cluster

_log = logging.getLogger(__name__)

EVERY_S: Final = 15.0
SOON_S: Final = 2.0
"""While a count is on its way."""


@dataclass(frozen=True, slots=True)
class _Followed:
    scaling: Mapping[str, Any]
    target: Name
    secret: Name | None


class TargetWatch:
    """A service. What it finds goes to ``fleet``; nothing is read while another operator leads."""

    def __init__(self, cluster: Cluster, clock: Clock, fleet: ClusterFleet, leads: Callable[[], bool]) -> None:
        self._cluster = cluster
        self._fleet = fleet
        self._leads = leads
        self._policies: dict[Name, _Followed] = {}
        self._queue = WorkQueue(clock, self._read, self._failed)

    def start(self) -> None:
        """Begin; nothing when it has."""
        self._queue.start()

    async def stop(self) -> None:
        """End, whatever it is in."""
        await self._queue.stop()

    def follow(self, policy: Name, scaled: Scaled | None) -> None:
        """``policy`` asks for this; None: it is gone, or another engine's."""
        if scaled is None or scaled.target is None:
            self._policies.pop(policy, None)
            self._fleet.gone(policy_key(policy))
            return
        known = self._policies.get(policy)
        if known is not None and known.target != scaled.target:
            self._fleet.gone(policy_key(policy))
        self._policies[policy] = _Followed(scaled.scaling, scaled.target, scaled.secret)
        self._queue.add(policy)

    async def _read(self, policy: Name) -> float | None:
        followed = self._policies.get(policy)
        if followed is None or not self._leads():
            return None  # the next look, as after an election, brings it back
        key = policy_key(policy)
        if first := [one for one, other in self._policies.items() if other.target == followed.target and one < policy]:
            words = f"Deployment {followed.target.name} is scaled by the ScalingPolicy {min(first).name} already"
            self._fleet.blocked(key, followed.scaling, "TargetShared", words)
            return EVERY_S
        found = await self._cluster.read(DEPLOYMENT, followed.target)
        pods = [] if found is None else await self._pods(found)
        if self._policies.get(policy) is not followed:
            return 0.0
        if found is None:
            words = f"there is no Deployment {followed.target.name} in {followed.target.namespace}"
            self._fleet.blocked(key, followed.scaling, "TargetMissing", words)
            return EVERY_S
        if (held := controller_of(found)) is not None and held.get("kind") == MODEL_DEPLOYMENT.kind:
            words = (
                f"Deployment {followed.target.name} is of the ModelDeployment {held['name']}, which scales it itself"
            )
            self._fleet.blocked(key, followed.scaling, "TargetOwned", words)
            return EVERY_S
        elastic = target_of(found, pods)
        if elastic.count == 0 and followed.scaling["minReplicas"] > 0:
            words = f"Deployment {followed.target.name} has 0 replicas: it is left alone until somebody starts it again"
            self._fleet.blocked(key, followed.scaling, "ScalingDisabled", words, elastic)
            return EVERY_S
        self._fleet.looked(key, followed.scaling, (elastic,), followed.secret)
        return SOON_S if self._fleet.loop(key).wishes else EVERY_S

    async def _pods(self, deployment: Object) -> list[Object]:
        """Its pods, if some of them do not come up; only then it matters why."""
        status = deployment.get("status") or {}
        labels = (deployment["spec"].get("selector") or {}).get("matchLabels")
        if not labels or status.get("readyReplicas", 0) >= deployment["spec"].get("replicas", 1):
            return []
        listing = await self._cluster.listing(POD, labels)
        namespace = name_of(deployment).namespace
        return [pod for pod in listing.objects if name_of(pod).namespace == namespace]

    @staticmethod
    def _failed(policy: Name, error: Exception, again_s: float) -> None:
        _log.warning("the target of %s cannot be read: %s; again in %g s", policy, error, again_s)


def policy_key(policy: Name) -> str:
    """What a policy is called among all that is scaled."""
    return f"scalingpolicy/{policy}"
