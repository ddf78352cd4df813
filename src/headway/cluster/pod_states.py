"""What a pod is as a replica: its phase, whether it is ready, how often it was started anew, and why it is not there.

The phases are those of the lifecycle table, read from what the kubelet says of the pod.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headway.cluster.names import VERSION_LABEL
from headway.domain.cluster_objects import Object, labels_of
from headway.domain.lifecycle import ReplicaPhase


@dataclass(frozen=True, slots=True)
class PodState:
    """One pod. Instants are seconds since the epoch."""

    name: str
    version: str
    phase: ReplicaPhase
    restarts: int
    reason: str | None
    started_at: float | None
    ready_at: float | None
    has_run: bool
    """Whether its container was ever started."""

    @property
    def ready(self) -> bool:
        return self.phase is ReplicaPhase.READY


def pod_state(pod: Object) -> PodState:
    """``pod``, which bears the labels of a version, as a replica."""
    status = pod.get("status") or {}
    containers = [one for one in status.get("containerStatuses") or () if isinstance(one, Mapping)]
    ready = condition_of(pod, "Ready")
    is_ready = ready.get("status") == "True"
    running = [one["state"]["running"] for one in containers if (one.get("state") or {}).get("running")]
    return PodState(
        name=pod["metadata"]["name"],
        version=labels_of(pod).get(VERSION_LABEL, ""),
        phase=_phase(pod, containers, is_ready),
        restarts=sum(int(one.get("restartCount", 0)) for one in containers),
        reason=_reason(pod, containers),
        started_at=instant(running[0].get("startedAt")) if running else None,
        ready_at=instant(ready.get("lastTransitionTime")) if is_ready else None,
        has_run=any(one.get("restartCount") or _ran(one, "state") or _ran(one, "lastState") for one in containers),
    )


def condition_of(item: Object, type_: str) -> Mapping[str, Any]:
    """The condition of this type; empty when there is none."""
    conditions = (item.get("status") or {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == type_), {})


def instant(text: str | None) -> float | None:
    """RFC 3339 as seconds since the epoch; None stays None."""
    return None if not text else datetime.fromisoformat(text).timestamp()


def _ran(container: Mapping[str, Any], which: str) -> bool:
    state = container.get(which) or {}
    return "running" in state or "terminated" in state


def _phase(pod: Object, containers: list[Mapping[str, Any]], is_ready: bool) -> ReplicaPhase:
    if pod["metadata"].get("deletionTimestamp"):
        return ReplicaPhase.STOPPING
    if is_ready:
        return ReplicaPhase.READY
    if (pod.get("status") or {}).get("phase") == "Failed":
        return ReplicaPhase.FAILED
    states = [one.get("state") or {} for one in containers]
    if any((s.get("waiting") or {}).get("reason") == "CrashLoopBackOff" or s.get("terminated") for s in states):
        return ReplicaPhase.BACKOFF
    started = [one for one in containers if one.get("started")]
    return ReplicaPhase.UNREADY if started else ReplicaPhase.STARTING


def _reason(pod: Object, containers: list[Mapping[str, Any]]) -> str | None:
    """The word that Kubernetes has for it: of the pod, of what a container waits for, of how one ended."""
    scheduled = condition_of(pod, "PodScheduled")
    if scheduled.get("status") == "False" and scheduled.get("reason"):
        return str(scheduled["reason"])
    for one in containers:
        state = one.get("state") or {}
        said = (state.get("waiting") or {}).get("reason") or (state.get("terminated") or {}).get("reason")
        if said and said != "ContainerCreating":
            return str(said)
    stated = (pod.get("status") or {}).get("reason")
    return str(stated) if stated else None
