"""Jobs on a cluster: the workers of each version, and what leads calls for jobs to the job server of the namespace.

Jobs are taken where ``spec.jobs`` stands in the document. The job server is installed once for a namespace
(:mod:`headway.cluster.job_server`). Workers are the version's own image, in a Deployment of their own that no Service
knows: a fixed number of them, or as many as KEDA finds jobs for.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil
from typing import Any, Final

from headway.cluster.job_server import CALLERS_PORT, DATABASE_KEY, JOB_SERVER, SECRET, WORKERS_PORT
from headway.cluster.names import MANAGED_BY, MANAGER, Object, Owner, built, version_object
from headway.cluster.pods import CONTAINER, pod_template
from headway.cluster.scaling_objects import KEDA
from headway.cluster.versions import ClusterVersion
from headway.cluster.workloads import NOWHERE
from headway.domain.job_spec import Jobs
from headway.domain.kubernetes_spec import Kubernetes
from headway.domain.quantities import seconds
from headway.domain.spec import ModelDeployment

WORK_MODEL_LABEL: Final = "headway.dev/work-of-model"
WORK_VERSION_LABEL: Final = "headway.dev/work-of-version"
"""Not the labels of replicas: a worker gets no traffic and is no replica."""
MARGIN_S: Final = 5
"""For a worker to give back what its time does not reach for, beyond the job's own grace."""
POLL_S: Final = 5


def takes_jobs(document: ModelDeployment) -> bool:
    """Whether the model's document speaks of jobs, be it with defaults alone."""
    return "jobs" in document.spec.model_fields_set


def is_fixed(jobs: Jobs) -> bool:
    """Whether there are always as many workers."""
    return jobs.workers.min == jobs.workers.max


def job_problems(document: ModelDeployment) -> Iterator[tuple[str, str]]:
    """What a cluster cannot do of ``spec.jobs``: place and words."""
    if not takes_jobs(document):
        return
    jobs = document.spec.jobs
    if not is_fixed(jobs) and document.spec.kubernetes.engine != "keda":
        yield (
            "spec.jobs.workers",
            "on Kubernetes their number is fixed (min equal to max), or moved by KEDA (spec.kubernetes.engine: keda)",
        )
    if jobs.workers.scale_down_window != Jobs().workers.scale_down_window and is_fixed(jobs):
        yield "spec.jobs.workers.scaleDownWindow", "a fixed number of workers has none"
    if jobs.webhooks.secret_from_env is not None:
        yield (
            "spec.jobs.webhooks.secretFromEnv",
            f"on Kubernetes all webhooks are signed with the key webhookSecret of the Secret {SECRET}",
        )


def worker_objects(
    owner: Owner, version: ClusterVersion, jobs: Jobs, kubernetes: Kubernetes, weight: int | None
) -> list[Object]:
    """The workers of one version; ``weight`` is its share of the split, None: it has no place there.

    A fixed number is for those in the split. What follows the queue is for all: pinned jobs may wait for any, and jobs
    that name no version only come to those with a share.
    """
    fixed = is_fixed(jobs)
    if fixed and weight is None:
        return []
    name = f"{version_object(owner.name, version.name)}-work"  # no version is called so
    named = worker_labels(owner.name, version.name)
    account = {"automountServiceAccountToken": False}
    found = [
        built("v1", "ServiceAccount", name, owner, named, account),
        built("networking.k8s.io/v1", "NetworkPolicy", name, owner, named, {"spec": _network_policy(named)}),
        _deployment(owner, name, version, jobs, kubernetes, jobs.workers.min if fixed else None),
    ]
    if fixed:
        return found
    return [*found, *_scaled_object(owner, name, named, version, jobs, live=bool(weight))]


def worker_labels(model: str, version: str) -> dict[str, str]:
    """Of all objects of the workers of a version."""
    return {
        "app.kubernetes.io/name": model,
        "app.kubernetes.io/component": "worker",
        MANAGED_BY: MANAGER,
        WORK_MODEL_LABEL: model,
        WORK_VERSION_LABEL: version,
    }


def _selector(named: dict[str, str]) -> Object:
    return {"matchLabels": {key: named[key] for key in (WORK_MODEL_LABEL, WORK_VERSION_LABEL)}}


def _deployment(
    owner: Owner, name: str, version: ClusterVersion, jobs: Jobs, kubernetes: Kubernetes, count: int | None
) -> Object:
    named = worker_labels(owner.name, version.name)
    own = {
        "job_server": f"tcp:{JOB_SERVER}:{WORKERS_PORT}",
        "job_grace_s": jobs.grace_s,
        "drain_delay_s": 0.0,
        "options": {**version.spec().server_options(), "workers": 1},  # more processes are more workers
    }
    template = pod_template(owner.name, version, kubernetes, config=own)
    template["metadata"]["labels"] = named
    pod: dict[str, Any] = template["spec"]
    pod["serviceAccountName"] = name
    pod["terminationGracePeriodSeconds"] = ceil(jobs.grace_s) + MARGIN_S
    for spread in pod["topologySpreadConstraints"]:
        spread["labelSelector"] = _selector(named)
    for container in pod["containers"]:
        assert container["name"] == CONTAINER
        container.pop("lifecycle", None)  # nobody sends it anything that could come late
    spec: Object = {
        "selector": _selector(named),
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "revisionHistoryLimit": 1,
        "template": template,
    }
    if count is not None:
        spec = {"replicas": count, **spec}
    return built("apps/v1", "Deployment", name, owner, named, {"spec": spec})


def _network_policy(named: dict[str, str]) -> Object:
    """In: nobody; probes are the node's. Out: as a replica."""
    outward = [{"ipBlock": {"cidr": all_, "except": [but]}} for all_, but in NOWHERE.items()]
    return {
        "podSelector": _selector(named),
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [],
        "egress": [{"to": [*outward, {"namespaceSelector": {}}]}],
    }


def _scaled_object(
    owner: Owner, name: str, named: dict[str, str], version: ClusterVersion, jobs: Jobs, *, live: bool
) -> list[Object]:
    """As many as there are jobs, queued and running, by the database's own count."""
    workers = jobs.workers
    lines = f"'{version.name}', ''" if live else f"'{version.name}'"
    query = (
        f"SELECT count(*) FROM headway_jobs WHERE model = '{owner.name}' AND version IN ({lines}) "  # noqa: S608
        "AND shelf IN ('queued', 'running')"
    )
    reference = {"parameter": "connection", "name": SECRET, "key": DATABASE_KEY}
    window = int(seconds(workers.scale_down_window))
    behavior = {"scaleDown": {"stabilizationWindowSeconds": window}}
    scaled: Object = {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
        "minReplicaCount": workers.min if live else 0,
        "maxReplicaCount": workers.max,
        "cooldownPeriod": int(seconds(workers.cooldown)),
        "pollingInterval": POLL_S,
        "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
        "triggers": [
            {
                "type": "postgresql",
                "metadata": {
                    "query": query,
                    "targetQueryValue": f"{workers.target:g}",
                    "activationTargetQueryValue": "0",
                },
                "authenticationRef": {"name": name},
            }
        ],
    }
    return [
        built(KEDA, "TriggerAuthentication", name, owner, named, {"spec": {"secretTargetRef": [reference]}}),
        built(KEDA, "ScaledObject", name, owner, named, {"spec": scaled}),
    ]


def job_backend() -> Object:
    """Of a route: where calls for jobs go."""
    return {"group": "", "kind": "Service", "name": JOB_SERVER, "port": CALLERS_PORT}
