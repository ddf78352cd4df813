"""What every pod of ours has in common: the *restricted* Pod Security Standard, and a root that cannot be written."""

from __future__ import annotations

from typing import Any, Final

from headway.cluster.names import Object

USER: Final = 65532
CONTAINER_SECURITY: Final[Object] = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
TMP_MOUNT: Final[Object] = {"name": "tmp", "mountPath": "/tmp"}  # noqa: S108
TMP_VOLUME: Final[Object] = {"name": "tmp", "emptyDir": {}}


def pod_security(*, owns_volumes: bool) -> Object:
    """``securityContext`` of a pod; with ``owns_volumes`` its user's group owns what is mounted."""
    group = {"fsGroup": USER} if owns_volumes else {}
    user = {"runAsNonRoot": True, "runAsUser": USER, "runAsGroup": USER}
    return {**user, **group, "seccompProfile": {"type": "RuntimeDefault"}}


def own_deployment(
    container: Object, *, account: str, labels: dict[str, str], selector: Object, replicas: int, grace_s: int
) -> Object:
    """``spec`` of a Deployment that runs one of Headway's own programs: it may ask the API, and one more of it comes
    before one goes."""
    common = {"terminationMessagePolicy": "FallbackToLogsOnError", "securityContext": CONTAINER_SECURITY}
    pod: dict[str, Any] = {
        "serviceAccountName": account,
        "automountServiceAccountToken": True,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_s,
        "securityContext": pod_security(owns_volumes=False),
        "containers": [{**container, **common, "volumeMounts": [TMP_MOUNT]}],
        "volumes": [TMP_VOLUME],
    }
    return {
        "replicas": replicas,
        "selector": selector,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
        "template": {"metadata": {"labels": labels}, "spec": pod},
    }
