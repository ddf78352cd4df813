"""What a namespace needs to take jobs: a job server for all of its models, on a PostgreSQL database of somebody's.

It reads the namespace's ModelDeployments and nothing else of the cluster. The Secret :data:`SECRET` says where jobs are
stored; everything of them lies there, so any number of servers may run and none has a volume.
"""

from __future__ import annotations

from typing import Any, Final

from headway.cluster.kinds import MODEL_DEPLOYMENT
from headway.cluster.names import MANAGED_BY, Object
from headway.cluster.restricted import own_deployment
from headway.domain.cluster_objects import DEPLOYMENT, Kind

JOB_SERVER: Final = "headway-jobs"
"""Name of all of these objects, the Service above all."""
SECRET: Final = "headway-jobs"
DATABASE_KEY: Final = "database"
CALLERS_PORT: Final = 80
WORKERS_PORT: Final = 8431
PORTS: Final = {"callers": 8430, "workers": WORKERS_PORT}
"""Of the process."""
ENVIRONMENT: Final = {
    "HEADWAY_JOBS_DATABASE": (DATABASE_KEY, True),
    "HEADWAY_JOBS_WEBHOOK_SECRET": ("webhookSecret", True),
    "HEADWAY_JOBS_BROKER": ("broker", False),
}
"""By setting: the key of the Secret that says it, and whether it has to."""
LABELS: Final = {
    "app.kubernetes.io/name": JOB_SERVER,
    "app.kubernetes.io/part-of": "headway",
    # Not the operator's own manager label: what bears that is what it looks after.
    MANAGED_BY: "headway-install",
}
_RBAC: Final = "rbac.authorization.k8s.io/v1"
GRACE_S: Final = 30


def job_server(image: str, namespace: str, replicas: int = 2) -> list[Object]:
    """All objects, in the order in which they can be created. ``image`` holds ``headway[kubernetes,postgresql]``, and
    ``[rabbitmq]`` where the Secret names a broker."""
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": JOB_SERVER}
    subject = [{"kind": "ServiceAccount", "name": JOB_SERVER, "namespace": namespace}]
    bodies: tuple[tuple[str, str, Object], ...] = (
        ("v1", "ServiceAccount", {"automountServiceAccountToken": False}),
        (_RBAC, "Role", {"rules": [_sight(MODEL_DEPLOYMENT), _sight(DEPLOYMENT)]}),
        (_RBAC, "RoleBinding", {"roleRef": role, "subjects": subject}),
        ("networking.k8s.io/v1", "NetworkPolicy", {"spec": _network_policy()}),
        ("policy/v1", "PodDisruptionBudget", {"spec": {"maxUnavailable": 1, "selector": _selector()}}),
        ("v1", "Service", {"spec": _service()}),
        ("apps/v1", "Deployment", {"spec": _deployment(image, replicas)}),
    )
    metadata = {"name": JOB_SERVER, "namespace": namespace, "labels": LABELS}
    return [
        {"apiVersion": api_version, "kind": kind, "metadata": dict(metadata), **body}
        for api_version, kind, body in bodies
    ]


def _sight(kind: Kind) -> Object:
    group = kind.api_version.rpartition("/")[0]
    return {"apiGroups": [group], "resources": [kind.plural], "verbs": ["get", "list", "watch"]}


def _selector() -> Object:
    return {"matchLabels": {"app.kubernetes.io/name": JOB_SERVER}}


def _network_policy() -> Object:
    """Callers from everywhere, as to the models themselves. Workers' API: only workers of the namespace."""
    workers = {"podSelector": {"matchLabels": {"app.kubernetes.io/component": "worker", MANAGED_BY: "headway"}}}
    ports = {name: [{"port": port, "protocol": "TCP"}] for name, port in PORTS.items()}
    return {
        "podSelector": _selector(),
        "policyTypes": ["Ingress"],
        "ingress": [{"ports": ports["callers"]}, {"from": [workers], "ports": ports["workers"]}],
    }


def _service() -> Object:
    ports = [
        {"name": "callers", "port": CALLERS_PORT, "targetPort": "callers", "protocol": "TCP", "appProtocol": "http"},
        {"name": "workers", "port": WORKERS_PORT, "targetPort": "workers", "protocol": "TCP"},
    ]
    return {"type": "ClusterIP", "selector": _selector()["matchLabels"], "ports": ports}


def _deployment(image: str, replicas: int) -> Object:
    environment: list[Object] = [
        {"name": "HOME", "value": "/tmp"},  # noqa: S108
        {"name": "HEADWAY_JOBS_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
    ]
    for variable, (key, needed) in ENVIRONMENT.items():
        reference: Object = {"name": SECRET, "key": key}
        given = reference if needed else {**reference, "optional": True}
        environment.append({"name": variable, "valueFrom": {"secretKeyRef": given}})
    probe = {"httpGet": {"path": "/health", "port": "callers"}, "periodSeconds": 5, "timeoutSeconds": 3}
    container: dict[str, Any] = {
        "name": "job-server",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["headway", "job-server", "--host", "0.0.0.0"],  # noqa: S104
        "ports": [{"name": name, "containerPort": port} for name, port in PORTS.items()],
        "env": environment,
        "startupProbe": {**probe, "failureThreshold": 24},
        "readinessProbe": probe,
        "livenessProbe": {**probe, "failureThreshold": 12},
        # The pod goes from the endpoints while it still serves; see headway.cluster.pods.
        "lifecycle": {"preStop": {"sleep": {"seconds": 5}}},
        "resources": {"requests": {"cpu": "200m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
    }
    return own_deployment(
        container, account=JOB_SERVER, labels=LABELS, selector=_selector(), replicas=replicas, grace_s=GRACE_S
    )
