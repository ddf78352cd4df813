"""How a model stands on a cluster: its custom resource, Deployments and pods, read together. Pure.

Who asks from outside sees what the operator sees, and nothing else: the document, the versions that stand on
Deployments, the split that the status tells, the pods. From it follow the target (what the document asks for), whether
it is reached, and what is in its way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from headway.cluster.names import VERSION_LABEL
from headway.cluster.obstacles import Obstacle, obstacle
from headway.cluster.pod_states import PodState, condition_of, instant, pod_state
from headway.cluster.reconcile import PATIENCE_S, document_of, is_ready, newest_of
from headway.cluster.status import split_in
from headway.cluster.versions import ClusterVersion, split_of, version_of, with_version
from headway.domain.cluster_objects import Name, Object, labels_of, name_of, uid_of
from headway.domain.errors import HeadwayError
from headway.domain.lifecycle import DeploymentState, VersionState
from headway.domain.names import version_number
from headway.domain.routing_table import Arm
from headway.domain.spec import ModelDeployment, parse

UNSEEN: Final = "the operator has not looked at it yet"


@dataclass(frozen=True, slots=True)
class Standing:
    """One model."""

    resource: Object
    document: ModelDeployment | None
    """None when the resource holds none that this release can read."""
    kept: tuple[ClusterVersion, ...]
    """The versions on Deployments."""
    versions: tuple[ClusterVersion, ...]
    """The same and the one that the document describes, in order of creation."""
    newest: str | None
    """Name of the version that the document describes; None when it does not say."""
    target: tuple[Arm, ...]
    live: tuple[Arm, ...]
    previous: tuple[Arm, ...]
    records: Mapping[str, Object]
    """Deployments by version."""
    pods: tuple[Object, ...]
    obstacles: Mapping[str, Obstacle]
    """By version of the target."""

    @property
    def name(self) -> Name:
        return name_of(self.resource)

    @property
    def uid(self) -> str:
        return uid_of(self.resource)

    @property
    def generation(self) -> int:
        return int(self.resource["metadata"].get("generation", 0))

    @property
    def created_at(self) -> float:
        return instant(self.resource["metadata"].get("creationTimestamp")) or 0.0

    @property
    def conditions(self) -> Sequence[Mapping[str, Any]]:
        return (self.resource.get("status") or {}).get("conditions") or ()

    @property
    def ever_seen(self) -> bool:
        """Whether an operator has ever looked at it."""
        return bool(self.conditions)

    @property
    def seen(self) -> bool:
        """Whether the status is about the document as it is now."""
        return self.ever_seen and self._observed >= self.generation

    @property
    def _observed(self) -> int:
        return int((self.resource.get("status") or {}).get("observedGeneration") or 0)

    @property
    def refused(self) -> Mapping[str, Any] | None:
        """The condition that says why the document is not carried out."""
        accepted = condition_of(self.resource, "Accepted")
        return accepted if accepted.get("status") == "False" else None

    @property
    def unapplied(self) -> str:
        """What the API did not take; empty when all was applied."""
        applied = condition_of(self.resource, "Applied")
        return str(applied.get("message", "")) if applied.get("status") == "False" else ""

    @property
    def running(self) -> tuple[str, ...]:
        """Versions that are to have replicas, in order of creation."""
        named = {arm.version for arm in (*self.target, *self.live)}
        if self.document is not None and self.document.spec.shadow is not None:
            named.add(self.document.spec.shadow.version)
        return tuple(version.name for version in self.versions if version.name in named)

    @property
    def settled(self) -> bool:
        """Whether what the document asks for is so: seen, accepted, applied, its split live, its replicas ready."""
        if not self.seen or self.refused is not None or self.unapplied:
            return False
        return self._arrived and all(self.is_full(version) for version in self.running)

    @property
    def _arrived(self) -> bool:
        """Whether the wished split serves. One of versions that are to have no replica never will, and is there."""
        if self.live:
            return self.live == self.target
        return bool(self.target) and all(self.wished(arm.version) == 0 for arm in self.target)

    @property
    def state(self) -> DeploymentState:
        """As of a deployment on one machine."""
        if self.resource["metadata"].get("deletionTimestamp"):
            return DeploymentState.DELETING
        if self.refused is not None:
            return DeploymentState.DEGRADED if self.live else DeploymentState.FAILED
        if not self.seen or not self._arrived:
            return DeploymentState.DEPLOYING
        return DeploymentState.READY if self.settled else DeploymentState.DEGRADED

    @property
    def message(self) -> str:
        """Why it is in its state, in a line; empty where the state says all."""
        if not self.ever_seen:
            return UNSEEN
        if self.refused is not None:
            return str(self.refused.get("message", ""))
        if not self.seen:
            return "the operator has not looked at the last change yet"
        for version, why in self.obstacles.items():
            return f"{version}: {why.reason}, {first_line(why.message)}"
        if self.unapplied:
            return self.unapplied
        return "" if self.settled else str(condition_of(self.resource, "Ready").get("message", ""))

    def wished(self, version: str) -> int | None:
        """Replicas that ``version`` is to have; None when it is not to run, or has no Deployment yet."""
        record = self.records.get(version)
        return int(record["spec"].get("replicas", 1)) if record is not None and version in self.running else None

    def ready(self, version: str) -> int:
        """Replicas of ``version`` that are ready."""
        record = self.records.get(version) or {}
        return int((record.get("status") or {}).get("readyReplicas") or 0)

    def is_full(self, version: str) -> bool:
        """Whether ``version`` has all replicas that it is to have; where triggers move them, as many as the least."""
        record, wished = self.records.get(version), self.wished(version)
        if record is None or wished is None:
            return False
        scaling = None if self.document is None else self.document.spec.scaling
        if scaling is not None and scaling.elastic and self.ready(version) >= min(wished, scaling.first_count):
            return True
        return wished == 0 or is_ready(record)

    def version_state(self, version: str) -> VersionState:
        """As of a version on one machine."""
        if version in {arm.version for arm in self.live}:
            return VersionState.LIVE
        if version in self.running:
            return VersionState.LIVE if self.live and self.is_full(version) else VersionState.STARTING
        return VersionState.DRAINING if self.ready(version) else VersionState.RETIRED

    def pod_states(self) -> list[PodState]:
        """Its pods, by version and name."""
        found = [pod_state(pod) for pod in self.pods]
        return sorted(found, key=lambda one: (_number(one.version), one.name))


def standing_of(resource: Object, deployments: Sequence[Object], pods: Sequence[Object], now: float) -> Standing:
    """``resource`` with what bears its label; ``now`` is seconds since the epoch."""
    mine = [one for one in deployments if VERSION_LABEL in labels_of(one)]
    records = {labels_of(one)[VERSION_LABEL]: one for one in mine}
    known = tuple(sorted(_readable(mine), key=lambda one: version_number(one.name)))
    status = resource.get("status") or {}
    was = split_in(status.get("split"))
    live = was if condition_of(resource, "Ready").get("status") == "True" else ()
    document, newest, versions, target = _asked(resource, known, live or was)
    found = Standing(
        resource=resource,
        document=document,
        kept=known,
        versions=versions,
        newest=newest,
        target=target,
        live=live,
        previous=split_in(status.get("previousSplit")),
        records=records,
        pods=tuple(pods),
        obstacles={},
    )
    short = [version for version in found.running if version in records and not found.is_full(version)]
    stuck = {version: why for version in short if (why := _obstacle(records[version], version, pods, now)) is not None}
    return replace(found, obstacles=stuck)


def first_line(text: str) -> str:
    """The first line of ``text``."""
    return text.partition("\n")[0]


def _asked(
    resource: Object, known: tuple[ClusterVersion, ...], else_: tuple[Arm, ...]
) -> tuple[ModelDeployment | None, str | None, tuple[ClusterVersion, ...], tuple[Arm, ...]]:
    """The document, the version that it describes, all versions, and who is to get traffic; ``else_``: when it does
    not say, as a refused document leaves all as it is."""
    try:
        document = parse(document_of(resource))
    except HeadwayError:
        return None, None, known, else_
    if document.spec.kubernetes.image is None:
        return document, None, known, else_
    newest = newest_of(resource, document, known)
    versions = with_version(known, newest)
    try:
        return document, newest.name, versions, split_of(document, newest, versions)
    except HeadwayError:
        return document, newest.name, known, else_


def _readable(deployments: Sequence[Object]) -> list[ClusterVersion]:
    """The versions on ``deployments``. Of those whose record somebody has damaged the operator tells, in the status."""
    found = []
    for one in deployments:
        try:
            found.append(version_of(one))
        except HeadwayError:
            continue
    return found


def _obstacle(record: Object, version: str, pods: Sequence[Object], now: float) -> Obstacle | None:
    return obstacle(record, [pod for pod in pods if labels_of(pod).get(VERSION_LABEL) == version], now, PATIENCE_S)


def _number(version: str) -> int:
    return version_number(version) if version else 0
