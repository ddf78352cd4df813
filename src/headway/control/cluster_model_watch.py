"""ClusterModelWatch: what a load test sees of a model on a cluster, with the rights of whoever asks for the test.

Counts are those of the versions' Deployments; a changed count is a mark, at the moment at which it was seen. Why it
was changed the status of the custom resource tells, where Headway's own loop decided it. That is written a moment later
than the Deployment, so mark and reason come together only when the marks are asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from headway.cluster.kinds import MODEL_DEPLOYMENT
from headway.cluster.names import MODEL_LABEL, VERSION_LABEL
from headway.domain.cluster_objects import DEPLOYMENT, Name, Object, labels_of, name_of
from headway.domain.errors import HeadwayError
from headway.domain.load_reports import ScalingMark
from headway.ports.clock import Clock
from headway.ports.cluster import Cluster
from headway.ports.model_watch import ModelLook

REASON_WITHIN_S: Final = 60.0
"""A decision that is told farther from a changed count is not its reason."""
OTHERS: Final = {"hpa": "by its HorizontalPodAutoscaler", "keda": "by KEDA"}
UNEXPLAINED: Final = "no decision of Headway's loop tells why"


@dataclass(frozen=True, slots=True)
class _Changed:
    """A version's count is another than at the look before."""

    at: float
    version: str
    current: int
    desired: int
    engine: str


class ClusterModelWatch:
    """Looks at one model. ``trouble``: why the last look saw nothing; ``unexplained``: why no decision can be read."""

    def __init__(self, cluster: Cluster, clock: Clock, namespace: str, model: str) -> None:
        self.trouble: str | None = None
        self.unexplained: str | None = None
        self._cluster = cluster
        self._clock = clock
        self._name = Name(namespace, model)
        self._counts: dict[str, int] | None = None
        self._changes: list[_Changed] = []
        self._set: list[tuple[float, int | None]] = []
        self._decisions: dict[tuple[str, str, int], tuple[float, Mapping[str, Any]]] = {}

    async def look(self) -> ModelLook | None:
        """See the port; what replicas use is not told here."""
        try:
            listing = await self._cluster.listing(DEPLOYMENT, {MODEL_LABEL: self._name.name})
        except HeadwayError as error:
            self.trouble = error.message
            return None
        found = {
            labels_of(one)[VERSION_LABEL]: one
            for one in listing.objects
            if name_of(one).namespace == self._name.namespace and VERSION_LABEL in labels_of(one)
        }
        if not found:
            self.trouble = f"the namespace {self._name.namespace} has no Deployment of a model {self._name.name}"
            return None
        resource = await self._resource()
        self._note({version: _wished(one) for version, one in found.items()}, resource)
        self.trouble = None
        ready = sum(int((one.get("status") or {}).get("readyReplicas") or 0) for one in found.values())
        return ModelLook(ready, sum(map(_wished, found.values())), ())

    async def decisions(self, since: float) -> Sequence[ScalingMark]:
        """See the port. A changed count that no decision explains is a mark, too."""
        own = [ScalingMark(at - since, "", 0, 0, _told(replicas)) for at, replicas in self._set]
        seen = [
            ScalingMark(one.at - since, one.version, one.current, one.desired, self._reason(one))
            for one in self._changes
            if one.at >= since and not self._asked_for(one)
        ]
        return sorted(own + seen, key=lambda mark: mark.at_s)

    def was_set(self, replicas: int | None) -> None:
        """The load test has just given each version so many replicas; None: a policy that moves them."""
        self._set.append((self._clock.now(), replicas))

    def _asked_for(self, change: _Changed) -> bool:
        """Whether a changed count is what the load test has asked for: that is a mark already."""
        before = [replicas for at, replicas in self._set if at <= change.at]
        return bool(before) and before[-1] == change.desired

    async def _resource(self) -> Object:
        """Empty where there is none, or it cannot be read."""
        try:
            found = await self._cluster.read(MODEL_DEPLOYMENT, self._name)
        except HeadwayError as error:
            self.unexplained = error.message
            return {}
        self.unexplained = None
        return found or {}

    def _note(self, counts: dict[str, int], resource: Object) -> None:
        now = self._clock.now()
        engine = str((((resource.get("spec") or {}).get("kubernetes")) or {}).get("engine") or "")
        for one in (resource.get("status") or {}).get("scaling") or ():
            if isinstance(one, Mapping):
                told = version, _, desired = str(one.get("version")), str(one.get("at")), int(one.get("desired") or 0)
                # What had come true before the first look explains nothing after it.
                over = self._counts is None and counts.get(version) == desired
                self._decisions.setdefault(told, (float("-inf") if over else now, one))
        before = counts if self._counts is None else self._counts
        for version in sorted(counts.keys() | before.keys()):
            current, desired = before.get(version, 0), counts.get(version, 0)
            if current != desired:
                self._changes.append(_Changed(now, version, current, desired, engine))
        self._counts = counts

    def _reason(self, change: _Changed) -> str:
        near = [
            (abs(seen_at - change.at), str(one.get("message") or ""))
            for (version, _, desired), (seen_at, one) in self._decisions.items()
            if (version, desired) == (change.version, change.desired)
        ]
        apart_s, message = min(near, default=(REASON_WITHIN_S + 1, ""))
        if apart_s <= REASON_WITHIN_S and message:
            return message
        return OTHERS.get(change.engine, UNEXPLAINED)


def _told(replicas: int | None) -> str:
    return "triggers set by the load test" if replicas is None else f"set to {replicas} by the load test, triggers off"


def _wished(deployment: Object) -> int:
    count = (deployment.get("spec") or {}).get("replicas")
    return 1 if count is None else int(count)
