"""A load test as objects: a master, workers that send, and what lets them find each other. Nothing else is touched.

The master is a Job whose pod counts and judges; all other objects belong to it and go when it goes. The workers are an
indexed Job. They come to the master through a headless Service, or at any address that the run names where a cluster
has no DNS. Pods meet Pod Security *restricted* and have no token of the API: which replicas the model has, to ask them
what they use, the master learns from the name of a second headless Service.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any, Final

from headway.cluster.names import MANAGED_BY, MODEL_LABEL, Object, labels
from headway.cluster.pods import PORT
from headway.cluster.restricted import CONTAINER_SECURITY, TMP_MOUNT, TMP_VOLUME, pod_security
from headway.cluster.workloads import NOWHERE
from headway.domain.cluster_objects import Kind
from headway.domain.cluster_objects import Object as Found

JOB: Final = Kind("batch/v1", "Job", "jobs")
LOAD_KINDS: Final = (
    JOB,
    Kind("v1", "ServiceAccount", "serviceaccounts"),
    Kind("v1", "Secret", "secrets"),
    Kind("v1", "ConfigMap", "configmaps"),
    Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    Kind("v1", "Service", "services"),
)
INSTANCE: Final = "app.kubernetes.io/instance"
COMPONENT: Final = "app.kubernetes.io/component"
LOAD_LABEL: Final = "headway.dev/load-test-of"
MASTER, WORKER = "master", "worker"
PROCESS: Final = ("python3", "-m", "headway.cli.load_pod")
HUB_PORT: Final = 7070
LOCUST_PORT: Final = 5557
ORDER_FOLDER: Final = "/etc/headway-load"
ORDER_KEY: Final = "order"
MOST_ORDER_BYTES: Final = 700_000
"""What a ConfigMap, at most 1 MiB, has room for once it is written in base64."""
KEPT_S: Final = 3600
"""How long what is over stays when nobody takes it away."""
GRACE_S: Final = 60
TOKEN_VARIABLE: Final = "HEADWAY_LOAD_TOKEN"
TARGET_TOKEN_VARIABLE: Final = "HEADWAY_LOAD_TARGET_TOKEN"
_BY_NAME: Final = {kind.kind: kind for kind in LOAD_KINDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadRun:
    """One load test on a cluster."""

    name: str
    """Of all its objects."""
    model: str
    namespace: str
    image: str
    """Holds headway, with its extra loadtest where there are users."""
    workers: int
    order: bytes
    """What the master is to do, as it reads it."""
    token: str = field(repr=False)
    """Of the workers, at the master."""
    target_token: str | None = field(default=None, repr=False)
    """For the model."""
    patience_s: int
    """How long the workers wait for the master."""
    lasts_s: int
    """After so long Kubernetes ends it, whatever it does."""
    cpu: str = "1"
    memory: str = "512Mi"
    """What each worker asks for."""
    master_host: str | None = None
    """Where the workers find the master; None: by the name of its Service."""

    @property
    def workers_name(self) -> str:
        return f"{self.name}-workers"

    @property
    def replicas_name(self) -> str:
        """Of the Service whose addresses are those of the model's ready replicas, whichever their version."""
        return f"{self.name}-pods"

    @property
    def labels(self) -> dict[str, str]:
        """Of every object and pod of this run, and of no other."""
        return {
            "app.kubernetes.io/name": "headway-loadtest",
            INSTANCE: self.name,
            MANAGED_BY: "headway-loadtest",
            LOAD_LABEL: self.model,
        }


def load_kind(item: Found) -> Kind:
    """The kind of an object of a load test."""
    return _BY_NAME[item["kind"]]


def load_objects(run: LoadRun) -> list[Object]:
    """Everything, in an order in which it can be created."""
    return [*side_objects(run), master(run), workers(run)]


def side_objects(run: LoadRun, owner: str | None = None) -> list[Object]:
    """All but the two Jobs; ``owner``: the uid of the master's Job, which only a cluster knows."""
    texts = {TOKEN_VARIABLE: run.token}
    if run.target_token is not None:
        texts[TARGET_TOKEN_VARIABLE] = run.target_token
    ports = [
        {"name": "hub", "port": HUB_PORT, "targetPort": HUB_PORT, "protocol": "TCP"},
        {"name": "locust", "port": LOCUST_PORT, "targetPort": LOCUST_PORT, "protocol": "TCP"},
    ]
    service = {
        "clusterIP": "None",
        "publishNotReadyAddresses": True,
        "selector": _selector(run, MASTER),
        "ports": ports,
    }
    chosen = labels(run.model)
    replicas = {
        "clusterIP": "None",
        "selector": {key: chosen[key] for key in (MODEL_LABEL, COMPONENT)},
        "ports": [{"name": "http", "port": PORT, "targetPort": PORT, "protocol": "TCP"}],
    }
    inward = {
        "from": [{"podSelector": {"matchLabels": _selector(run, WORKER)}}],
        "ports": [{"port": one["port"], "protocol": "TCP"} for one in ports],
    }
    outward = [{"ipBlock": {"cidr": all_, "except": [but]}} for all_, but in NOWHERE.items()]
    policy = {
        "podSelector": {"matchLabels": {INSTANCE: run.name}},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [inward],
        "egress": [{"to": [*outward, {"namespaceSelector": {}}]}],
    }
    order = {"binaryData": {ORDER_KEY: base64.b64encode(run.order).decode()}, "immutable": True}
    return [
        _object(run, "v1", "ServiceAccount", run.name, {"automountServiceAccountToken": False}, owner),
        _object(run, "v1", "Secret", run.name, {"type": "Opaque", "stringData": texts, "immutable": True}, owner),
        _object(run, "v1", "ConfigMap", run.name, order, owner),
        _object(run, "networking.k8s.io/v1", "NetworkPolicy", run.name, {"spec": policy}, owner),
        _object(run, "v1", "Service", run.name, {"spec": service}, owner),
        _object(run, "v1", "Service", run.replicas_name, {"spec": replicas}, owner),
    ]


def master(run: LoadRun, *, suspended: bool = False) -> Object:
    """The master's Job. Made ``suspended``, it has a uid before it has a pod that misses what is not made yet."""
    replicas = f"{run.replicas_name}.{run.namespace}.svc:{PORT}"
    command = [*PROCESS, "master", "--order", f"{ORDER_FOLDER}/{ORDER_KEY}", "--port", str(HUB_PORT)]
    command += ["--replicas", replicas]
    container = _container(run, MASTER, command, {"cpu": "250m", "memory": "256Mi"}, "2Gi")
    container["ports"] = [
        {"name": "hub", "containerPort": HUB_PORT},
        {"name": "locust", "containerPort": LOCUST_PORT},
    ]
    container["volumeMounts"].append({"name": "order", "mountPath": ORDER_FOLDER, "readOnly": True})
    spec: Object = {"backoffLimit": 0, **_job(run, MASTER, container)}
    spec["template"]["spec"]["volumes"].append({"name": "order", "configMap": {"name": run.name}})
    if suspended:
        spec = {"suspend": True, **spec}
    return _object(run, "batch/v1", "Job", run.name, {"spec": spec}, None)


def workers(run: LoadRun, owner: str | None = None) -> Object:
    """The workers' Job: so many pods at once. One that ends before it had work is started anew."""
    host = run.master_host or f"{run.name}.{run.namespace}.svc"
    place = f"[{host}]:{HUB_PORT}" if ":" in host else f"{host}:{HUB_PORT}"
    command = [*PROCESS, "worker", place, "--patience", str(run.patience_s)]
    container = _container(run, WORKER, command, {"cpu": run.cpu, "memory": run.memory}, run.memory)
    spec: Object = {
        "completionMode": "Indexed",
        "completions": run.workers,
        "parallelism": run.workers,
        "backoffLimit": 3 * run.workers,
        **_job(run, WORKER, container),
    }
    spec["template"]["spec"]["topologySpreadConstraints"] = [
        {
            "maxSkew": 1,
            "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": _selector(run, WORKER)},
        }
    ]
    return _object(run, "batch/v1", "Job", run.workers_name, {"spec": spec}, owner)


def _job(run: LoadRun, component: str, container: Object) -> Object:
    pod: Object = {
        "restartPolicy": "Never",
        "serviceAccountName": run.name,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": pod_security(owns_volumes=True),
        "containers": [container],
        "volumes": [TMP_VOLUME],
    }
    labels = {**run.labels, COMPONENT: component}
    return {
        "activeDeadlineSeconds": run.lasts_s,
        "ttlSecondsAfterFinished": KEPT_S,
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }


def _container(run: LoadRun, name: str, command: list[str], requests: Object, memory_limit: str) -> Object:
    keys = [TOKEN_VARIABLE] if run.target_token is None else [TOKEN_VARIABLE, TARGET_TOKEN_VARIABLE]
    env: list[Any] = [{"name": "HOME", "value": "/tmp"}]  # noqa: S108
    env += [{"name": key, "valueFrom": {"secretKeyRef": {"name": run.name, "key": key}}} for key in keys]
    return {
        "name": name,
        "image": run.image,
        "imagePullPolicy": "IfNotPresent",
        "command": command,
        "env": env,
        # No limit of the processor: a generator that is held back says nothing about the model.
        "resources": {"requests": requests, "limits": {"memory": memory_limit}},
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [TMP_MOUNT],
    }


def _selector(run: LoadRun, component: str) -> dict[str, str]:
    return {INSTANCE: run.name, COMPONENT: component}


def _object(run: LoadRun, api_version: str, kind: str, name: str, body: Object, owner: str | None) -> Object:
    metadata: Object = {"name": name, "namespace": run.namespace, "labels": run.labels}
    if owner is not None:
        metadata["ownerReferences"] = [
            {"apiVersion": JOB.api_version, "kind": JOB.kind, "name": run.name, "uid": owner}
        ]
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}
