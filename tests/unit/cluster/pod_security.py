"""The *restricted* Pod Security Standard (Kubernetes 1.30 and later), as a list of what a pod breaks of it.

Control by control as in https://kubernetes.io/docs/concepts/security/pod-security-standards/, *baseline* included. And
what we ask of ourselves besides: no token of the API, a root file system that cannot be written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")
VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"),
}
SYSCTLS = {"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"}
PROFILES = ("RuntimeDefault", "Localhost")


def breaches(pod: dict[str, Any]) -> list[str]:
    """What ``pod`` (a PodSpec) breaks; empty when it may run."""
    return list(_of_pod(pod))


def _of_pod(pod: dict[str, Any]) -> Iterator[str]:
    whole = pod.get("securityContext", {})
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(field):
            yield field
    for volume in pod.get("volumes", []):
        if kinds := set(volume) - {"name"} - VOLUMES:
            yield f"volume {volume['name']}: {', '.join(kinds)}"
    for sysctl in whole.get("sysctls", []):
        if sysctl["name"] not in SYSCTLS:
            yield f"sysctl {sysctl['name']}"
    if whole.get("seLinuxOptions") or whole.get("windowsOptions", {}).get("hostProcess"):
        yield "seLinuxOptions or hostProcess"
    if whole.get("runAsUser") == 0:
        yield "runAsUser 0"
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken"
    for group in ("initContainers", "containers", "ephemeralContainers"):
        for container in pod.get(group, []):
            yield from (f"{container['name']}: {what}" for what in _of_container(container, whole))


def _of_container(container: dict[str, Any], whole: dict[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})
    if own.get("privileged"):
        yield "privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation"
    if "ALL" not in own.get("capabilities", {}).get("drop", []):
        yield "capabilities.drop lacks ALL"
    if set(own.get("capabilities", {}).get("add", [])) - {"NET_BIND_SERVICE"}:
        yield "capabilities.add"
    if own.get("runAsNonRoot", whole.get("runAsNonRoot")) is not True:
        yield "runAsNonRoot"
    if own.get("runAsUser") == 0:
        yield "runAsUser 0"
    if own.get("seccompProfile", whole.get("seccompProfile", {})).get("type") not in PROFILES:
        yield "seccompProfile"
    if own.get("procMount", "Default") != "Default":
        yield "procMount"
    if own.get("readOnlyRootFilesystem") is not True:
        yield "readOnlyRootFilesystem"
    if any("hostPort" in port for port in container.get("ports", [])):
        yield "hostPort"
    for handler in ("postStart", "preStop"):
        if "host" in container.get("lifecycle", {}).get(handler, {}).get("httpGet", {}):
            yield f"{handler} host"
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if "host" in container.get(probe, {}).get("httpGet", {}):
            yield f"{probe} host"
