"""What the ModelDeployments of a namespace say about jobs, as a job server of that namespace follows it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from headway.cluster.jobs import takes_jobs
from headway.cluster.kinds import MODEL_DEPLOYMENT
from headway.cluster.names import MODEL_LABEL, VERSION_LABEL
from headway.cluster.reconcile import document_of
from headway.cluster.refusals import admitted
from headway.cluster.versions import version_of
from headway.control.jobs.policies import JobPolicies, ModelPolicy
from headway.control.operator.cache import ObjectCache
from headway.control.operator.resources import LABELS
from headway.domain.cluster_objects import DEPLOYMENT, Kind, Object, labels_of, uid_of
from headway.domain.errors import HeadwayError
from headway.domain.job_spec import Jobs
from headway.domain.spec import ModelDeployment
from headway.ports.clock import Clock
from headway.ports.cluster import Cluster

_log = logging.getLogger(__name__)


class ClusterJobPolicies:
    """Follows the cluster between :meth:`open` and :meth:`close`; ``cluster`` is limited to one namespace."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._changes = 0
        self._accepted: dict[str, Jobs] = {}
        """By uid of a model: what it last said about jobs. A mistake in its document takes nothing down."""
        self._models = ObjectCache(cluster, MODEL_DEPLOYMENT, {}, clock, self._changed)
        self._versions = ObjectCache(cluster, DEPLOYMENT, LABELS, clock, self._changed)
        self.policies = JobPolicies(self._read, self._count, clock)

    async def open(self) -> None:
        """Learn what there is."""
        for cache in (self._models, self._versions):
            cache.start()
        await asyncio.gather(self._models.wait_listed(), self._versions.wait_listed())

    async def close(self) -> None:
        """Follow no more."""
        for cache in (self._models, self._versions):
            await cache.stop()

    def _changed(self, kind: Kind, item: Object) -> None:
        self._changes += 1

    async def _count(self) -> int:
        return self._changes

    async def _read(self) -> list[ModelPolicy]:
        versions: dict[str, list[Object]] = {}
        for item in self._versions.all():
            labels = labels_of(item)
            if VERSION_LABEL in labels:
                versions.setdefault(labels.get(MODEL_LABEL, ""), []).append(item)
        found = [self._policy(item, versions.get(item["metadata"]["name"], [])) for item in self._models.all()]
        there = {uid_of(item) for item in self._models.all()}
        self._accepted = {uid: jobs for uid, jobs in self._accepted.items() if uid in there}
        return [policy for policy in found if policy is not None]

    def _policy(self, resource: Object, records: Sequence[Object]) -> ModelPolicy | None:
        """None: the model takes no jobs, or its document was never accepted."""
        try:
            document = admitted(document_of(resource))
        except HeadwayError as error:
            _log.info("%s: %s", resource["metadata"]["name"], error)
        else:
            self._accepted.pop(uid_of(resource), None)
            if isinstance(document, ModelDeployment) and takes_jobs(document):
                self._accepted[uid_of(resource)] = document.spec.jobs
        jobs = self._accepted.get(uid_of(resource))
        return None if jobs is None else _policy_of(resource, jobs, records)


def _policy_of(resource: Object, jobs: Jobs, records: Sequence[Object]) -> ModelPolicy:
    bodies: dict[str, int] = {}
    for record in records:
        try:
            version = version_of(record)
            bodies[version.name] = int(version.spec().server_options()["max_body_bytes"])
        except HeadwayError as error:  # somebody has damaged this one; the others run jobs as before
            _log.info("%s: %s", record["metadata"]["name"], error)
    status = resource.get("status") or {}
    shares = {one["name"]: int(one.get("weight", 0)) for one in status.get("versions") or ()}
    live = {name: weight for name, weight in shares.items() if weight and name in bodies}
    return ModelPolicy(resource["metadata"]["name"], jobs, frozenset(live), bodies, live)
