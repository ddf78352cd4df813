"""What is told of a replica: from one look at its pod to the next. Pure.

Kubernetes counts how often a container was started again, so starts and ends that nobody saw are told all the same. The
reasons and moments are known of the last one only.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from headway.cluster.names import MODEL_LABEL, VERSION_LABEL
from headway.cluster.pods import CONTAINER
from headway.domain.cluster_objects import Object, controller_of, labels_of, version_of
from headway.domain.events import EventType, NewEvent
from headway.domain.sightings import Facts, Sighting

MOST_RUNS: Final = 100
"""Starts of one container that are made up for at once."""
_LONGEST_MESSAGE: Final = 2000
_NOTHING: Final[Facts] = {"starts": 0, "ends": 0, "ready": False, "ready_at": None, "leaving": False, "failed": None}
_E = EventType


def pod_facts(pod: Object) -> Facts | None:
    """What of a pod is told of; None for one that runs no replica."""
    labels, controller = labels_of(pod), controller_of(pod)
    if not {MODEL_LABEL, VERSION_LABEL} <= labels.keys() or not controller or controller.get("kind") != "ReplicaSet":
        return None
    status = pod.get("status") or {}
    statuses: Sequence[Mapping[str, Any]] = status.get("containerStatuses") or ({},)
    # What others have put beside the model server, as a service mesh does, is not the replica.
    container = next((one for one in statuses if one.get("name") == CONTAINER), statuses[0])
    state = container.get("state") or {}
    ended = state.get("terminated") or (container.get("lastState") or {}).get("terminated")
    restarts = int(container.get("restartCount") or 0)
    runs = "running" in state
    starts = restarts + 1 if runs or ended or restarts else 0
    ready: Mapping[str, Any] = next((one for one in status.get("conditions") or () if one.get("type") == "Ready"), {})
    return {
        "model": labels[MODEL_LABEL],
        "version": labels[VERSION_LABEL],
        "runs": runs,
        "counted": starts,
        "ready": runs and ready.get("status") == "True",
        "leaving": bool(pod["metadata"].get("deletionTimestamp")),
        "failed": _failed(status),
        "waits": (state.get("waiting") or {}).get("reason") if starts else None,
        "end": _end(ended) if ended else None,
        "started_at": _instant((state.get("running") or {}).get("startedAt")),
        "ready_at": _instant(ready.get("lastTransitionTime")),
        "ready_turn": str(ready.get("lastTransitionTime") or version_of(pod)),
    }


def with_runs(facts: Facts, before: Facts | None) -> Facts:
    """``facts`` with how often the container was started and has ended in all.

    The count that a pod gives begins anew when its node lost it, as after a crash of the node; this one goes on.
    """
    lost = 0
    if before is not None:
        lost = before["starts"] if facts["counted"] < before["counted"] else before["lost"]
    starts = lost + facts["counted"]
    return {**facts, "lost": lost, "starts": starts, "ends": starts - 1 if facts["runs"] else starts}


@dataclass(frozen=True, slots=True)
class _Teller:
    sighting: Sighting
    facts: Facts
    now: float
    adopted: bool

    def event(
        self, type_: EventType, turn: object, phase: str, old: str | None, at: float | None = None, **data: Any
    ) -> NewEvent:
        told: dict[str, Any] = {"namespace": self.sighting.namespace, "phase": phase}
        told |= {"old": old} if old is not None else {}
        told |= {name: value for name, value in data.items() if value is not None}
        told |= {"adopted": True} if self.adopted else {}
        facts, key = self.facts, f"{self.sighting.uid}/{type_}/{turn}"
        moment = self.now if at is None else min(at, self.now)
        return NewEvent(moment, type_, facts["model"], facts["version"], self.sighting.name, told, key)


def pod_transitions(
    before: Sighting | None, after: Sighting, now: float, *, adopted: bool = False
) -> Iterator[NewEvent]:
    """All that happened in between, in order. ``adopted``: nobody was watching then."""
    was: Facts | None = before.facts if before is not None else None
    facts = after.facts if after.facts is not None else was
    if facts is None:
        return
    tell = _Teller(after, facts, now, adopted)
    if after.facts is None:
        # One that never ran, or has failed for good, is not a replica that stopped.
        if facts["starts"] and not facts["failed"]:
            yield tell.event(_E.REPLICA_STOPPED, "", "stopped", _phase(facts), restarts=_restarts(facts["starts"]))
        return
    was = was or _NOTHING
    yield from _runs(tell, was, facts)
    same_run = was["starts"] == facts["starts"]
    ready_before = was["ready"] and same_run
    restarts = _restarts(facts["starts"])
    turn, at = f"{restarts}/{facts['ready_turn']}", facts["ready_at"]
    # Ready since another moment: it was not in between, though nobody looked then.
    flickered = ready_before and facts["ready"] and at != was["ready_at"]
    lost = ready_before and not facts["ready"] and facts["ends"] < facts["starts"] and not facts["leaving"]
    if lost or flickered:
        yield tell.event(_E.REPLICA_UNREADY, turn, "unready", "ready", at, restarts=restarts)
    if facts["ready"] and (flickered or not ready_before):
        old = "unready" if flickered else _phase(was) if same_run else "starting"
        yield tell.event(_E.REPLICA_READY, turn, "ready", old, at, restarts=restarts)
    if facts["leaving"] and not was["leaving"] and facts["starts"]:
        old = "ready" if facts["ready"] else _phase(was)
        yield tell.event(_E.REPLICA_STOPPING, "", "stopping", old, restarts=restarts)
    if facts["failed"] and not was["failed"]:
        failure = {"code": "replica_failed", "message": facts["failed"]["message"], "where": after.name}
        reason = facts["failed"]["reason"]
        yield tell.event(
            _E.REPLICA_FAILED, "", "failed", _phase(was), restarts=restarts, reason=reason, failure=failure
        )


def _runs(tell: _Teller, was: Facts, facts: Facts) -> Iterator[NewEvent]:
    """Every start and end since."""
    starts, ends = max(was["starts"], facts["starts"] - MOST_RUNS), max(was["ends"], facts["starts"] - MOST_RUNS)
    # What ends because it was told to, or with its pod, is told by that.
    last_end = facts["ends"] - 1 if facts["ends"] == facts["starts"] and _goes(facts) else facts["ends"]
    while starts < facts["starts"] or ends < last_end:
        if starts > ends:
            known = facts["end"] if ends == facts["ends"] - 1 else None
            at = known["at"] if known else None
            phase = "ready" if was["ready"] and ends == was["ends"] else "starting"
            details = {} if known is None else {"reason": _reason(facts, known), "failure": _failure(tell, known)}
            ends += 1
            yield tell.event(_E.REPLICA_EXITED, ends, "backoff", phase, at, restarts=_restarts(ends), **details)
        else:
            starts += 1
            at = facts["started_at"] if starts == facts["starts"] else None
            old = "backoff" if starts > 1 else None
            yield tell.event(_E.REPLICA_STARTED, starts, "starting", old, at, restarts=_restarts(starts))


def _goes(facts: Facts) -> bool:
    return bool(facts["leaving"] or facts["failed"])


def _restarts(starts: int) -> int:
    return max(0, starts - 1)


def _phase(facts: Facts) -> str:
    if facts["leaving"]:
        return "stopping"
    if facts["ready"]:
        return "ready"
    if facts["starts"] and facts["starts"] == facts["ends"]:
        return "backoff"
    # One that runs, is not ready and says since when was ready, or starts: Kubernetes does not tell the two apart.
    return "starting"


def _reason(facts: Facts, end: Mapping[str, Any]) -> str:
    return str(end["reason"] if end["reason"] == "OOMKilled" else facts["waits"] or end["reason"])


def _failure(tell: _Teller, end: Mapping[str, Any]) -> Mapping[str, Any] | None:
    message = f"ended with exit code {end['code']}"
    if end["message"]:
        message += f"; last it said:\n{end['message']}"
    return {"code": "replica_exited", "message": message, "where": tell.sighting.name}


def _failed(status: Mapping[str, Any]) -> Mapping[str, str] | None:
    """A pod that was evicted, or lost with its node, is never started again: another takes its place."""
    if status.get("phase") != "Failed":
        return None
    return {"reason": str(status.get("reason") or "Failed"), "message": str(status.get("message") or "")}


def _end(ended: Mapping[str, Any]) -> Mapping[str, Any]:
    return {
        "code": ended.get("exitCode"),
        "reason": str(ended.get("reason") or "Error"),
        "message": str(ended.get("message") or "").strip()[-_LONGEST_MESSAGE:],
        "at": _instant(ended.get("finishedAt")),
    }


def _instant(text: str | None) -> float | None:
    """RFC 3339 as seconds since the epoch."""
    return datetime.datetime.fromisoformat(text).timestamp() if text else None
