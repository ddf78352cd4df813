"""What Headway's own loop scales on a cluster: how many replicas each version is to have, and what was decided. Pure.

A version's count stands on its Deployment, ``spec.replicas``, and nowhere else. What the loop has decided since is a
wish: it holds for the count that it was decided from, so a count that somebody else has set meanwhile is where the next
decision begins.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final

from headway.cluster.names import MODEL_LABEL, VERSION_LABEL, Object
from headway.cluster.obstacles import no_room
from headway.cluster.pods import PORT
from headway.cluster.versions import ClusterVersion
from headway.domain.cluster_objects import Name, instant_of, labels_of, moment_of
from headway.domain.cluster_objects import Object as Found
from headway.domain.lifecycle import ReplicaPhase
from headway.domain.replicas import ReplicaStatus
from headway.domain.routing_table import WEIGHT_TOTAL, Arm
from headway.domain.scaling_spec import Scaling

MOST_LISTED: Final = 10_000
"""Replicas of somebody else's Deployment, each told apart: it may ask for billions that nobody has."""


@dataclass(frozen=True, slots=True)
class Wish:
    """A decided count."""

    based_on: int
    desired: int


@dataclass(frozen=True, slots=True)
class Report:
    """A decision, for the status."""

    version: str
    at: float
    """Seconds since the epoch."""
    current: int
    desired: int
    binding: str
    message: str
    trouble: str = ""
    """``NoData`` or ``NoRoom``: why the count does not follow the load; empty while it does."""

    def document(self) -> Object:
        """As in ``status.scaling``."""
        return {
            "version": self.version,
            "at": moment_of(self.at),
            "current": self.current,
            "desired": self.desired,
            "binding": self.binding,
            "message": self.message,
        }


@dataclass(frozen=True, slots=True)
class Loop:
    """What the loop has to say of one resource, by version."""

    wishes: Mapping[str, Wish] = field(default_factory=dict)
    reports: Mapping[str, Report] = field(default_factory=dict)
    blocked: tuple[str, str] | None = None
    """Why nothing can be decided at all: reason and message."""
    replicas: int | None = None
    """Of all versions, as found; None: not known."""


SILENT: Final = Loop()
"""It has not said anything yet."""


@dataclass(frozen=True, slots=True)
class Elastic:
    """One version that the loop is to scale."""

    version: str
    digest: str
    level: Mapping[str, Any]
    """The version-level part of the document: what a replica asks for."""
    weight: int
    count: int
    """Replicas asked for now."""
    there: int
    """What was found of what is decided about: the Deployment's replicas, or the fewest that another engine keeps."""
    replicas: tuple[ReplicaStatus, ...]
    growing: bool
    """Whether it is about to get a larger share of the traffic: then it is not lowered."""
    full: str
    """Why there is no room for more; empty while there may be."""
    floor: int | None = None
    """Of what another engine scales: the fewest replicas that it is asked to keep; None: no other engine does."""


@dataclass(frozen=True, slots=True)
class Scaled:
    """What Headway's own loop is to carry out for one resource."""

    scaling: Mapping[str, Any]
    """``spec.scaling``, or what of it the loop is to see to."""
    secret: Name | None
    """What holds what triggers name in ``…FromEnv``."""
    elastic: tuple[Elastic, ...] = ()
    """The versions of a model."""
    target: Name | None = None
    """Of a policy: somebody else's Deployment."""
    scale: int | None = None
    """How many replicas ``target`` is to be given now."""


def first_count(scaling: Scaling, total: int, weight: int) -> int:
    """Replicas that a version starts with, or has before it gets a larger share: as many as that share of ``total``,
    so that it takes over from a busy one with no fewer."""
    most = scaling.min_replicas if scaling.max_replicas is None else scaling.max_replicas
    return min(max(ceil(total * weight / WEIGHT_TOTAL), 1, scaling.min_replicas), most)


def counts(
    scaling: Scaling,
    split: Sequence[Arm],
    live: Sequence[Arm],
    shadow: Arm | None,
    records: Mapping[str, Found],
    wishes: Mapping[str, Wish],
) -> dict[str, int]:
    """Replicas of every version that runs. ``split`` is asked for, ``live`` is what the routes do; ``records`` are the
    Deployments that there are."""
    shares = {arm.version: arm.weight for arm in live}
    total = sum(_count(records.get(version)) for version in shares)
    found: dict[str, int] = {}
    for version in shares:
        count, wish = _count(records.get(version)), wishes.get(version)
        found[version] = wish.desired if wish is not None and wish.based_on == count else count
    for version, weight in growing(split, live).items():
        count = found.get(version, _count(records.get(version)))
        found[version] = max(count, first_count(scaling, total, weight))
    if shadow is not None:
        count = _count(records.get(shadow.version))
        found.setdefault(shadow.version, count or first_count(scaling, total, shadow.weight))
    return found


def latency_alone(scaling: Scaling) -> Scaling:
    """What of ``scaling`` is the loop's where another engine carries out the rest."""
    return scaling.model_copy(update={"triggers": [one for one in scaling.triggers if one.type == "latency"]})


def floors(
    scaling: Scaling, arms: Sequence[Arm], scalers: Mapping[str, Found], wishes: Mapping[str, Wish]
) -> dict[str, int]:
    """The fewest replicas that another engine is to keep of each version, which latency has raised.

    They stand on that engine's own objects, ``scalers``.
    """
    most = scaling.min_replicas if scaling.max_replicas is None else scaling.max_replicas
    found: dict[str, int] = {}
    for arm in arms:
        floor, wish = floor_of(scalers.get(arm.version), scaling), wishes.get(arm.version)
        floor = wish.desired if wish is not None and wish.based_on == floor else floor
        found[arm.version] = min(max(floor, scaling.min_replicas), most)
    return found


def floor_of(scaler: Found | None, scaling: Scaling) -> int:
    """The fewest replicas that a HorizontalPodAutoscaler or a ScaledObject keeps."""
    spec = {} if scaler is None else scaler["spec"]
    return int(spec.get("minReplicas", spec.get("minReplicaCount", scaling.min_replicas)))


def growing(split: Sequence[Arm], live: Sequence[Arm]) -> dict[str, int]:
    """The shares of those versions that get more in ``split`` than they have in ``live``, or come in."""
    shares = {arm.version: arm.weight for arm in live}
    return {arm.version: arm.weight for arm in split if arm.weight > shares.get(arm.version, -1)}


def elastic(
    arms: Sequence[Arm],
    split: Sequence[Arm],
    versions: Sequence[ClusterVersion],
    counts: Mapping[str, int],
    records: Mapping[str, Found],
    pods: Sequence[Found],
    now: float,
) -> tuple[Elastic, ...]:
    """The versions of ``arms``, each with its pods as replicas; ``split`` is asked for."""
    coming = growing(split, arms)
    known = {version.name: version for version in versions}
    by_version: dict[str, list[Found]] = {}
    for pod in pods:
        by_version.setdefault(labels_of(pod).get(VERSION_LABEL, ""), []).append(pod)
    return tuple(
        Elastic(
            arm.version,
            known[arm.version].digest,
            known[arm.version].level,
            arm.weight,
            counts.get(arm.version, _count(records[arm.version])),
            _count(records[arm.version]),
            tuple(replicas_of(by_version.get(arm.version, ()), now)),
            arm.version in coming,
            no_room(records[arm.version], by_version.get(arm.version, ())),
        )
        for arm in arms
        if arm.version in records
    )


def target_of(deployment: Found, pods: Sequence[Found]) -> Elastic:
    """A Deployment of somebody else's. ``pods``: its own, as far as they matter."""
    name, count = deployment["metadata"]["name"], _count(deployment)
    listed = min(count, MOST_LISTED)
    ready = min(int((deployment.get("status") or {}).get("readyReplicas", 0)), listed)
    phases = [ReplicaPhase.READY] * ready + [ReplicaPhase.STARTING] * (listed - ready)
    replicas = tuple(ReplicaStatus(f"{name}/{place}", name, "", phase, None) for place, phase in enumerate(phases))
    version = f"deployment/{name}"
    return Elastic(version, "", {}, WEIGHT_TOTAL, count, count, replicas, False, no_room(deployment, pods))


def replicas_of(pods: Sequence[Found], now: float) -> Iterator[ReplicaStatus]:
    """Pods of model servers that are there and stay."""
    for pod in pods:
        metadata, status = pod["metadata"], pod.get("status") or {}
        if metadata.get("deletionTimestamp") or status.get("phase") in ("Succeeded", "Failed"):
            continue
        conditions: Sequence[Mapping[str, Any]] = status.get("conditions") or ()
        ready = next((one for one in conditions if one.get("type") == "Ready"), {})
        is_ready = ready.get("status") == "True"
        since = ready.get("lastTransitionTime")
        address = status.get("podIP")
        yield ReplicaStatus(
            replica_id=f"{metadata['namespace']}/{metadata['name']}",
            model=f"{metadata['namespace']}/{labels_of(pod).get(MODEL_LABEL, '')}",
            version=labels_of(pod).get(VERSION_LABEL, ""),
            phase=ReplicaPhase.READY if is_ready else ReplicaPhase.STARTING,
            address=_host_port(address) if address else None,
            ready_at=min(instant_of(since), now) if is_ready and since else None,
        )


def _host_port(address: str) -> str:
    return f"[{address}]:{PORT}" if ":" in address else f"{address}:{PORT}"


def _count(record: Found | None) -> int:
    return 0 if record is None else int(record["spec"].get("replicas", 1))
