"""The pod of a version: one model server in the version's image, under the *restricted* Pod Security Standard.

How a pod ends. Kubernetes takes it from the endpoints and asks it to stop at the same moment, and gateways hear of the
former late. So a pause (``preStop``) comes first, in which it serves as before; then SIGTERM: its readiness fails, it
serves on for a moment, closes connections as they fall idle, answers what it has, and leaves. All of it is inside the
grace period, the pause included.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from headway.cluster.names import Object, canonical, labels, selector
from headway.cluster.restricted import CONTAINER_SECURITY, TMP_MOUNT, TMP_VOLUME, pod_security
from headway.cluster.versions import ClusterVersion
from headway.domain import replicas
from headway.domain.kubernetes_spec import Kubernetes
from headway.domain.spec import VersionSpec

PORT: Final = 8080
PORT_NAME: Final = "http"
CONTAINER: Final = "model"
CONFIG_VARIABLE: Final = "HEADWAY_SERVER_CONFIG"
REPLICA_VARIABLE: Final = "HEADWAY_REPLICA"
STATE_FOLDER: Final = "/var/lib/headway"
STATE_SIZE: Final = "1Gi"
LONGEST_PAUSE_S: Final = 5
"""For gateways and proxies to hear that the pod goes: they are told within a second or two."""
LONGEST_LAG_S: Final = 2
NO_CONFIG: Final[Mapping[str, Any]] = MappingProxyType({})


def pause_s(grace_s: int) -> int:
    """Whole seconds from a pod's end being asked for until SIGTERM."""
    return min(LONGEST_PAUSE_S, grace_s // 3)


def lag_s(grace_s: int) -> int:
    """Whole seconds after SIGTERM in which it still takes new requests."""
    return min(LONGEST_LAG_S, grace_s // 6)


def pod_template(
    model: str, version: ClusterVersion, kubernetes: Kubernetes, *, config: Mapping[str, Any] = NO_CONFIG
) -> Object:
    """The ``template`` of the version's Deployment; ``config`` is what its model server is told besides."""
    spec = version.spec()
    pod: Object = {
        "serviceAccountName": f"{model}-{version.name}",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(owns_volumes=True),
        "terminationGracePeriodSeconds": spec.termination_grace_period_seconds,
        "containers": [_container(model, version, spec, config)],
        "volumes": [
            TMP_VOLUME,
            {"name": "state", "emptyDir": {"sizeLimit": STATE_SIZE}},
        ],
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(model, version.name)},
            }
        ],
    }
    if kubernetes.image_pull_secrets:
        pod["imagePullSecrets"] = [{"name": name} for name in kubernetes.image_pull_secrets]
    if kubernetes.node_selector:
        pod["nodeSelector"] = dict(sorted(kubernetes.node_selector.items()))
    if kubernetes.tolerations:
        pod["tolerations"] = [
            one.model_dump(mode="json", by_alias=True, exclude_none=True) for one in kubernetes.tolerations
        ]
    return {"metadata": {"labels": labels(model, version.name)}, "spec": pod}


def _container(model: str, version: ClusterVersion, spec: VersionSpec, config: Mapping[str, Any]) -> Object:
    probes = spec.probes()
    container: Object = {
        "name": CONTAINER,
        "image": version.image,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": PORT_NAME, "containerPort": PORT}],
        "env": _environment(model, version, spec, config),
        "startupProbe": _probe(probes.startup),
        "readinessProbe": _probe(probes.readiness),
        "livenessProbe": _probe(probes.liveness),
        "securityContext": CONTAINER_SECURITY,
        "volumeMounts": [TMP_MOUNT, {"name": "state", "mountPath": STATE_FOLDER}],
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",
    }
    if resources := _resources(spec):
        container["resources"] = resources
    if pause := pause_s(spec.termination_grace_period_seconds):
        container["lifecycle"] = {"preStop": {"sleep": {"seconds": pause}}}
    return container


def _resources(spec: VersionSpec) -> Object:
    """The processor share is what a replica is planned with, as on a laptop, and no limit; memory is a limit."""
    cpu, memory = spec.resources.cpu, spec.resources.memory
    requests = {name: amount for name, amount in (("cpu", cpu), ("memory", memory)) if amount is not None}
    found: Object = {"requests": requests} if requests else {}
    return found if memory is None else {**found, "limits": {"memory": memory}}


def _environment(model: str, version: ClusterVersion, spec: VersionSpec, more: Mapping[str, Any]) -> list[Object]:
    """What sizes and places things has a value of ours unless the document says another; names of ours are refused."""
    config = canonical({**server_config(model, version, spec), **more})
    ours = {CONFIG_VARIABLE: config, "HOME": "/tmp", "PYTHONUNBUFFERED": "1"}  # noqa: S108
    ours |= replicas.thread_variables(spec.cpu_millicores(), spec.server.workers)
    plain = {**ours, **spec.env()}
    replica = {"name": REPLICA_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    return [replica, *({"name": name, "value": _literal(value)} for name, value in plain.items())]


def _literal(value: str) -> str:
    """Kubernetes reads ``$(NAME)`` in a value as a reference and ``$$`` as ``$``; here a value means itself."""
    return value.replace("$", "$$")


def server_config(model: str, version: ClusterVersion, spec: VersionSpec) -> dict[str, Any]:
    """The model server's config by the field names of ``headway.server.config``, without what only the pod knows."""
    liveness = spec.probes().liveness
    config: dict[str, Any] = {
        "model": model,
        "version": version.name,
        "digest": version.digest,
        "options": spec.server_options(),
        "worker_hang_s": liveness.failure_threshold * liveness.period_s + liveness.timeout_s,
        "drain_delay_s": float(lag_s(spec.termination_grace_period_seconds)),
    }
    optional = {
        "entrypoint": spec.model.entrypoint,
        "graph": None if spec.graph is None else spec.graph.document(),
        "sample": spec.model.sample,
        "metrics_compat": spec.metrics.compat,
    }
    return config | {name: value for name, value in optional.items() if value is not None}


def _probe(probe: replicas.Probe) -> Object:
    found: Object = {
        "httpGet": {"path": probe.path, "port": PORT_NAME, "scheme": "HTTP"},
        "periodSeconds": int(probe.period_s),
        "timeoutSeconds": int(probe.timeout_s),
        "failureThreshold": probe.failure_threshold,
        "successThreshold": probe.success_threshold,
    }
    if probe.initial_delay_s:
        found["initialDelaySeconds"] = int(probe.initial_delay_s)
    return found
