"""What each version has of its own: Deployment, Service, PodDisruptionBudget, NetworkPolicy, ServiceAccount."""

from __future__ import annotations

from typing import Final

from headway.cluster.names import OPERATOR, Object, Owner, built, labels, selector, version_object
from headway.cluster.pods import PORT, PORT_NAME, pod_template
from headway.cluster.versions import ClusterVersion
from headway.domain.kubernetes_spec import Kubernetes

SERVICE_PORT: Final = 80
LEAST_PROGRESS_S: Final = 600
NOWHERE: Final = {"0.0.0.0/0": "169.254.0.0/16", "::/0": "fe80::/10"}
"""Link-local addresses: where clouds hand out the node's credentials to whoever asks."""


def version_objects(
    owner: Owner, version: ClusterVersion, kubernetes: Kubernetes, replicas: int | None, watcher: str | None
) -> list[Object]:
    """All of a version that runs. ``replicas`` None: somebody else (an autoscaler's object) sets them. ``watcher``: the
    namespace of the operator that asks the pods what they are doing; None: it does not."""
    return [
        _service_account(owner, version),
        _network_policy(owner, version, kubernetes, watcher),
        deployment(owner, version, kubernetes, replicas),
        _service(owner, version),
        _disruption_budget(owner, version),
    ]


def retired_objects(owner: Owner, version: ClusterVersion, kubernetes: Kubernetes) -> list[Object]:
    """Of a version without traffic: what keeps it, so that it can be gone back to."""
    return [deployment(owner, version, kubernetes, 0)]


def deployment(owner: Owner, version: ClusterVersion, kubernetes: Kubernetes, replicas: int | None) -> Object:
    """The Deployment, which is also the record of the version."""
    startup = version.spec().probes().startup
    start_s = startup.initial_delay_s + startup.period_s * startup.failure_threshold
    spec: Object = {
        "selector": {"matchLabels": selector(owner.name, version.name)},
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "revisionHistoryLimit": 1,
        "progressDeadlineSeconds": max(LEAST_PROGRESS_S, int(start_s) + 60),
        "template": pod_template(owner.name, version, kubernetes),
    }
    if replicas is not None:
        spec = {"replicas": replicas, **spec}
    return _of(owner, version, "apps/v1", "Deployment", {"spec": spec}, version.annotations())


def _service_account(owner: Owner, version: ClusterVersion) -> Object:
    return _of(owner, version, "v1", "ServiceAccount", {"automountServiceAccountToken": False})


def _service(owner: Owner, version: ClusterVersion) -> Object:
    port = {"name": PORT_NAME, "port": SERVICE_PORT, "targetPort": PORT_NAME, "protocol": "TCP", "appProtocol": "http"}
    spec = {"type": "ClusterIP", "selector": selector(owner.name, version.name), "ports": [port]}
    return _of(owner, version, "v1", "Service", {"spec": spec})


def _disruption_budget(owner: Owner, version: ClusterVersion) -> Object:
    """One at a time. A pod that is not ready serves nobody and never stands in the way of a node's maintenance."""
    spec = {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": selector(owner.name, version.name)},
    }
    return _of(owner, version, "policy/v1", "PodDisruptionBudget", {"spec": spec})


def _network_policy(owner: Owner, version: ClusterVersion, kubernetes: Kubernetes, watcher: str | None) -> Object:
    """In: the one port, from all or from named namespaces. Out: a model may call what it needs, but no link-local
    address; pods are named besides, since not every network plugin counts them among addresses."""
    inward: Object = {"ports": [{"port": PORT, "protocol": "TCP"}]}
    if kubernetes.allow_from:
        names = sorted(set(kubernetes.allow_from))
        expression = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": names}
        callers: list[Object] = [{"namespaceSelector": {"matchExpressions": [expression]}}]
        if watcher is not None:
            operator = {"matchLabels": {"app.kubernetes.io/name": OPERATOR}}
            place = {"matchLabels": {"kubernetes.io/metadata.name": watcher}}
            callers.append({"namespaceSelector": place, "podSelector": operator})
        inward = {"from": callers, **inward}
    outward = [{"ipBlock": {"cidr": all_, "except": [but]}} for all_, but in NOWHERE.items()]
    spec = {
        "podSelector": {"matchLabels": selector(owner.name, version.name)},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [inward],
        "egress": [{"to": [*outward, {"namespaceSelector": {}}]}],
    }
    return _of(owner, version, "networking.k8s.io/v1", "NetworkPolicy", {"spec": spec})


def _of(
    owner: Owner,
    version: ClusterVersion,
    api_version: str,
    kind: str,
    body: Object,
    annotations: dict[str, str] | None = None,
) -> Object:
    name = version_object(owner.name, version.name)
    return built(api_version, kind, name, owner, labels(owner.name, version.name), body, annotations)
