"""Why a version does not come up, read from what Kubernetes says of its Deployment and its pods.

The nearest cause counts: a pod that nobody made, then one that has no node, no image, no configuration, one that ends
again and again, one that runs and does not get ready.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from headway.domain.cluster_objects import instant_of

Reason = Literal[
    "QuotaExceeded",
    "PodsRefused",
    "Unschedulable",
    "ImagePullFailed",
    "ContainerConfigWrong",
    "CrashLoop",
    "OutOfMemory",
    "NotReady",
]
LOG_LINES: Final = 12
"""Of what a container said last."""
_IMAGE: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"}
)
_CONFIG: Final = frozenset(
    {"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError", "ContainerCannotRun"}
)
_SHORT: Final = re.compile(r"(\d+) Insufficient ([\w./-]*\w)")
_RESOURCES: Final[Mapping[str, str]] = {"cpu": "processors", "memory": "memory", "ephemeral-storage": "disk"}


@dataclass(frozen=True, slots=True)
class Obstacle:
    """What stands in the way, in words; ``pods`` says how many pods it holds."""

    reason: Reason
    message: str
    hint: str
    pods: int = 1
    said: str = ""
    """The last lines of a container that ended."""

    @property
    def text(self) -> str:
        """The message with what the container said."""
        return f"{self.message}; last it said:\n{self.said}" if self.said else self.message


def obstacle(
    deployment: Mapping[str, Any], pods: Sequence[Mapping[str, Any]], now: float, patience_s: float
) -> Obstacle | None:
    """The nearest cause why ``deployment`` has fewer ready pods than it should; None while nothing is wrong.

    ``pods`` are its pods. One that runs is given ``patience_s`` to get ready; ``now`` is seconds since the epoch.
    """
    if refused := _refused(deployment):
        return refused
    waiting = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp") and not _ready(pod)]
    looks: tuple[Callable[[Mapping[str, Any]], Obstacle | None], ...] = (
        _unschedulable,
        _image,
        _config,
        _crash,
        lambda pod: _unready(pod, now, patience_s),
    )
    for look in looks:
        found = [cause for pod in waiting if (cause := look(pod))]
        if found:
            first = found[0]
            return replace(first, pods=len(found))
    return None


def missing(message: str) -> dict[str, int]:
    """What the scheduler found too little of, by how many nodes: ``{"memory": 2}``.

    From its message, ``0/3 nodes are available: 1 Insufficient cpu, 2 Insufficient memory.``
    """
    return {resource: int(count) for count, resource in _SHORT.findall(message)}


def no_room(deployment: Mapping[str, Any], pods: Sequence[Mapping[str, Any]]) -> str:
    """Why more replicas of ``deployment`` would find no place: a full cluster, a quota. Empty while nothing says so."""
    refused = _refused(deployment)
    if refused is not None and refused.reason == "QuotaExceeded":
        return f"the quota is used up: {refused.message}"
    waiting = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    held = [cause for pod in waiting if (cause := _unschedulable(pod))]
    short = sorted({resource for cause in held for resource in missing(cause.message)})
    if not short:
        return ""
    pending = f"{len(held)} {'pod' if len(held) == 1 else 'pods'} pending"
    return f"the cluster is full: {pending}, insufficient {' and '.join(short)}"


def _refused(deployment: Mapping[str, Any]) -> Obstacle | None:
    failure = _condition(deployment, "ReplicaFailure")
    if failure is None or failure.get("status") != "True":
        return None
    message = str(failure.get("message", ""))
    if "exceeded quota" in message:
        return Obstacle("QuotaExceeded", message, "raise the namespace's ResourceQuota, or ask for less")
    return Obstacle("PodsRefused", message, "an admission rule of the cluster refuses the pods; the message names it")


def _unschedulable(pod: Mapping[str, Any]) -> Obstacle | None:
    scheduled = _condition(pod, "PodScheduled")
    if scheduled is None or scheduled.get("status") != "False" or scheduled.get("reason") != "Unschedulable":
        return None
    message = str(scheduled.get("message", ""))
    short = [_RESOURCES.get(resource, resource) for resource in missing(message)]
    if short:
        return Obstacle(
            "Unschedulable", message, f"the cluster is full: add nodes or free {' and '.join(short)}, or ask for less"
        )
    return Obstacle("Unschedulable", message, "no node takes the pod; see nodeSelector, tolerations and volumes")


def _image(pod: Mapping[str, Any]) -> Obstacle | None:
    for status in _statuses(pod):
        waiting = status.get("state", {}).get("waiting", {})
        if waiting.get("reason") in _IMAGE:
            message = f"{status.get('image', '')}: {waiting.get('message') or waiting['reason']}"
            return Obstacle("ImagePullFailed", message, "see the image's name, and imagePullSecrets if it is private")
    return None


def _config(pod: Mapping[str, Any]) -> Obstacle | None:
    for status in _statuses(pod):
        for state in (status.get("state", {}).get("waiting", {}), status.get("lastState", {}).get("terminated", {})):
            if state.get("reason") in _CONFIG:
                message = f"{state['reason']}: {state.get('message', '')}".rstrip(": ")
                return Obstacle("ContainerConfigWrong", message, "the container cannot be made as it is asked for")
    return None


def _crash(pod: Mapping[str, Any]) -> Obstacle | None:
    for status in _statuses(pod):
        ended = status.get("lastState", {}).get("terminated") or status.get("state", {}).get("terminated")
        if not ended or (ended.get("exitCode") == 0 and not status.get("restartCount")):
            continue
        times = status.get("restartCount", 0)
        said = "\n".join(str(ended.get("message") or "").strip().splitlines()[-LOG_LINES:])
        if ended.get("reason") == "OOMKilled":
            message = f"killed for using more memory than its limit, {times} times restarted"
            return Obstacle("OutOfMemory", message, "raise spec.resources.memory", said=said)
        how = f"signal {ended['signal']}" if ended.get("signal") else f"exit code {ended.get('exitCode')}"
        message = f"ended with {how}, {times} times restarted"
        return Obstacle("CrashLoop", message, "the last lines of its log say why", said=said)
    return None


def _unready(pod: Mapping[str, Any], now: float, patience_s: float) -> Obstacle | None:
    for status in _statuses(pod):
        started = status.get("state", {}).get("running", {}).get("startedAt")
        # One that has not started yet is the startup probe's, which ends it when its time is over.
        if started and status.get("started") and not status.get("ready") and now - instant_of(started) > patience_s:
            message = f"runs since {started} and its readiness probe fails"
            return Obstacle("NotReady", message, "its log says what it waits for")
    return None


def _statuses(pod: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    status = pod.get("status", {})
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _ready(pod: Mapping[str, Any]) -> bool:
    condition = _condition(pod, "Ready")
    return condition is not None and condition.get("status") == "True"


def _condition(item: Mapping[str, Any], type_: str) -> Mapping[str, Any] | None:
    conditions = item.get("status", {}).get("conditions") or ()
    return next((one for one in conditions if one.get("type") == type_), None)
