"""What a cluster needs for the operator: a namespace, the custom resources, rights as narrow as they can be, itself."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

from headway.cluster.crds import crds
from headway.cluster.kinds import MODEL_DEPLOYMENT, OWNED, SCALING_POLICY
from headway.cluster.names import MANAGED_BY, NAMESPACE, OPERATOR, Object
from headway.cluster.restricted import own_deployment
from headway.domain.cluster_objects import DEPLOYMENT, LEASE, POD, Kind
from headway.domain.cluster_objects import Object as Found

NAME: Final = OPERATOR
LABELS: Final = {
    "app.kubernetes.io/name": NAME,
    "app.kubernetes.io/part-of": "headway",
    # Not the operator's own manager label: what bears that is what it looks after.
    MANAGED_BY: "headway-install",
}
INSTALLED: Final = (
    Kind("v1", "Namespace", "namespaces", namespaced=False),
    Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False),
    Kind("v1", "ServiceAccount", "serviceaccounts"),
    Kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False),
    Kind("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False),
    Kind("rbac.authorization.k8s.io/v1", "Role", "roles"),
    Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
    Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
    Kind("v1", "Service", "services"),
    Kind("apps/v1", "Deployment", "deployments"),
)
"""In the order in which they are made."""
EVENTS_KEYS: Final = {
    "HEADWAY_OPERATOR_DATABASE": ("database", True),
    "HEADWAY_EVENTS_BROKER": ("broker", False),
    "HEADWAY_EVENTS_EXCHANGE": ("exchange", False),
    "HEADWAY_EVENTS_QUEUE": ("queue", False),
}
"""By setting: the key of the Secret that says it, and whether it has to."""
_BY_NAME: Final = {kind.kind: kind for kind in INSTALLED}
_RBAC: Final = "rbac.authorization.k8s.io/v1"
_FOLLOW: Final = ("get", "list", "watch")


def installed_kind(item: Found) -> Kind:
    """The kind of an object of :func:`install` or :func:`headway.cluster.job_server.job_server`."""
    return _BY_NAME[item["kind"]]


def install(image: str, namespace: str = NAMESPACE, *, events_secret: str | None = None) -> list[Object]:
    """Everything, in the order in which it can be created. ``image`` holds ``headway`` with ``[kubernetes]``.

    ``events_secret``: a Secret of the namespace that says where events are recorded and told (:data:`EVENTS_KEYS`);
    then the image holds ``[postgresql]`` and ``[rabbitmq]`` too.
    """
    subject = [{"kind": "ServiceAccount", "name": NAME, "namespace": namespace}]
    whole = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": NAME}
    own = {**whole, "kind": "Role"}
    inside = {"namespace": namespace}
    return [
        _namespace(namespace),
        *crds(),
        _object("v1", "ServiceAccount", inside, {"automountServiceAccountToken": False}),
        _object(_RBAC, "ClusterRole", {}, {"rules": _rules()}),
        _object(_RBAC, "ClusterRoleBinding", {}, {"roleRef": whole, "subjects": subject}),
        _object(_RBAC, "Role", inside, {"rules": _own_rules()}),
        _object(_RBAC, "RoleBinding", inside, {"roleRef": own, "subjects": subject}),
        _object("policy/v1", "PodDisruptionBudget", inside, {"spec": {"maxUnavailable": 1, "selector": _selector()}}),
        _object("apps/v1", "Deployment", inside, {"spec": _deployment(image, events_secret)}),
    ]


def _rules() -> list[Object]:
    """What it reads and writes, and no more: no Secret, no right to hand out rights, and of pods only the sight."""
    by_group: dict[str, set[str]] = defaultdict(set)
    for kind in OWNED:
        by_group[_group(kind)].add(kind.plural)
    resources = [MODEL_DEPLOYMENT.plural, SCALING_POLICY.plural]
    group = _group(MODEL_DEPLOYMENT)
    return [
        _rule(group, resources, _FOLLOW),
        # A version is named by a write to the model's custom resource; only its annotations change.
        _rule(group, [MODEL_DEPLOYMENT.plural], ("update",)),
        _rule(group, [f"{name}/status" for name in resources], ("get", "patch")),
        # Why a version does not come up stands on its pods.
        _rule(_group(POD), [POD.plural], _FOLLOW),
        # To give Deployments that are not ours the number of replicas that a policy asks for.
        _rule(_group(DEPLOYMENT), [f"{DEPLOYMENT.plural}/scale"], ("patch",)),
        # To own what may hold up the owner's end, where the cluster asks for that right.
        _rule(group, [f"{name}/finalizers" for name in resources], ("update",)),
        *(
            _rule(name, sorted(plurals), (*_FOLLOW, "create", "patch", "delete"))
            for name, plurals in sorted(by_group.items())
        ),
    ]


def _own_rules() -> list[Object]:
    return [_rule(_group(LEASE), [LEASE.plural], ("get", "create", "update"))]


def _rule(group: str, resources: list[str], verbs: tuple[str, ...]) -> Object:
    return {"apiGroups": [group], "resources": resources, "verbs": list(verbs)}


def _group(kind: Kind) -> str:
    return kind.api_version.rpartition("/")[0]


def _namespace(name: str) -> Object:
    levels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {**LABELS, **levels}}}


def _selector() -> Object:
    return {"matchLabels": {"app.kubernetes.io/name": NAME}}


def _deployment(image: str, events_secret: str | None) -> Object:
    """Two of them: one works, the other takes over within seconds."""
    container: dict[str, Any] = {
        "name": "operator",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["headway", "operator"],
        "env": [
            {"name": "HOME", "value": "/tmp"},  # noqa: S108
            {"name": "HEADWAY_OPERATOR_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
            *_events_environment(events_secret),
        ],
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
    }
    return own_deployment(container, account=NAME, labels=LABELS, selector=_selector(), replicas=2, grace_s=15)


def _events_environment(secret: str | None) -> list[Object]:
    """Read by the kubelet: the operator itself may read no Secret."""
    if secret is None:
        return []
    found: list[Object] = []
    for variable, (key, needed) in EVENTS_KEYS.items():
        reference: Object = {"name": secret, "key": key}
        found.append(
            {"name": variable, "valueFrom": {"secretKeyRef": reference if needed else {**reference, "optional": True}}}
        )
    return found


def _object(api_version: str, kind: str, place: Object, body: Object) -> Object:
    metadata = {"name": NAME, **place, "labels": LABELS}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **body}
