"""What ``componentSpecs`` says of containers: environment, resources, probes and what they are the code of.

Headway runs no images. All nodes of a graph run in one process, so what containers ask for is added up, and what they
say about a process as a whole has to be the same for all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final

from headway.domain.quantities import byte_count, millicores
from headway.domain.seldon.reading import Fields, Notes, unsupported, wrong
from headway.domain.seldon.scaling import Asked, hpa, keda
from headway.domain.spec_values import RESERVED_ENV

PROBE_PATHS: Final = frozenset(
    {
        "/",
        "/health",
        "/health/live",
        "/health/ping",
        "/health/ready",
        "/health/status",
        "/metrics",
        "/ping",
        "/v2",
        "/v2/health/live",
        "/v2/health/ready",
        "/version",
    }
)
"""What a model server answers to."""
WRAPPER_ENV: Final = frozenset({"MODEL_NAME", "SERVICE_TYPE", "API_TYPE", "PERSISTENCE"})
"""What tells Seldon's image builder which code to run; no code looks at it."""
PROBES: Final = {"livenessProbe": "liveness", "readinessProbe": "readiness", "startupProbe": "startup"}
DEFAULT_PATHS: Final = {"liveness": "/health/live", "readiness": "/health/ready", "startup": "/health/ready"}
HARMLESS_POD: Final = ("imagePullSecrets", "serviceAccountName", "serviceAccount", "restartPolicy", "dnsPolicy")
POD_REFUSED: Final = {
    "volumes": "put the files into the model's folder",
    "initContainers": "prepare the folder before it is deployed",
    "nodeSelector": "there is one machine",
    "affinity": "there is one machine",
    "tolerations": "there is one machine",
    "topologySpreadConstraints": "there is one machine",
    "securityContext": "replicas run as who runs Headway",
    "runtimeClassName": "replicas are processes",
    "hostNetwork": "replicas listen on sockets of their own",
    "hostAliases": "replicas use the machine's own names",
    "priorityClassName": "there is one machine",
}
CONTAINER_REFUSED: Final = {
    "args": "Headway's model server runs the code",
    "command": "Headway's model server runs the code",
    "envFrom": "write the variables out, or set them where headway up runs",
    "lifecycle": "the model's load and Python's atexit take its place",
    "securityContext": "replicas run as who runs Headway",
    "volumeDevices": "put the files into the model's folder",
    "volumeMounts": "put the files into the model's folder",
    "workingDir": "code runs in the model's folder",
}


@dataclass
class Container:
    """One container; ``where`` is its place in the document."""

    name: str
    where: str
    image: str | None
    interface: str | None
    """``MODEL_NAME``: module and class of Seldon's wrapper."""
    env: dict[str, str]
    probes: dict[str, dict[str, Any]]
    asked: Asked


@dataclass
class Components:
    """All ``componentSpecs`` of one predictor."""

    containers: dict[str, Container] = field(default_factory=dict)
    scaling: tuple[str, dict[str, Any]] | None = None
    """Where it stands, and what it is here."""
    replicas: int | None = None
    grace_s: int | None = None
    asked: Asked = field(default_factory=Asked)

    def env(self) -> list[tuple[str, str, str]]:
        """Name, value and place of every variable. Refuses two values of one name."""
        found: dict[str, tuple[str, str]] = {}
        for container in self.containers.values():
            for name, value in container.env.items():
                known = found.setdefault(name, (value, container.where))
                if known[0] != value:
                    unsupported(
                        f"{container.where}.env",
                        f"{name} has another value in {known[1]}, and all nodes run in one process",
                        "give the variables different names",
                    )
        return [(name, value, where) for name, (value, where) in found.items()]

    def probes(self) -> dict[str, dict[str, Any]]:
        """By kind. Refuses different ones of one kind."""
        found: dict[str, tuple[dict[str, Any], str]] = {}
        for container in self.containers.values():
            for kind, probe in container.probes.items():
                known = found.setdefault(kind, (probe, container.where))
                if known[0] != probe:
                    unsupported(
                        f"{container.where}.{kind}Probe",
                        f"this {kind} probe differs from that of {known[1]}, and all nodes run in one process",
                        "state the same probe in both",
                    )
        return {kind: probe for kind, (probe, _) in found.items()}


def components(predictor: Fields, notes: Notes) -> Components:
    """What ``predictor`` says in ``componentSpecs``."""
    found = Components()
    specs = [
        (item, item.whole("replicas"), item.part("kedaSpec"), item.part("hpaSpec"))
        for item in predictor.parts("componentSpecs")
    ]
    for item, replicas, _, _ in specs:
        item.drop("metadata")
        item.refuse(pdbSpec="replicas are replaced one by one anyway")
        pod = item.part("spec") or Fields({}, item.at("spec"))
        item.done()
        grace_s = pod.whole("terminationGracePeriodSeconds")
        if grace_s is not None:
            found.grace_s = max(grace_s, found.grace_s or 0)
        for container in pod.parts("containers"):
            _add(found, container, notes)
        pod.drop(*HARMLESS_POD)
        pod.refuse(**POD_REFUSED)
        pod.done()
        if replicas is not None:
            found.replicas = _same(found.replicas, replicas, item.at("replicas"))
    limits = {container.where: container.asked.memory_limit for container in found.containers.values()}
    stated = [limit for limit in limits.values() if limit is not None]
    if limits and len(stated) == len(limits):
        found.asked.memory_limit = sum(stated)
    elif stated:
        open_ended = next(where for where, limit in limits.items() if limit is None)
        notes.add(open_ended, "without a memory limit here the process of all nodes has none")
    for _, _, by_keda, by_hpa in specs:
        _scale(found, by_keda, by_hpa, notes)
    return found


def _same(known: int | None, replicas: int, where: str) -> int:
    if known not in (None, replicas):
        unsupported(
            where, f"{replicas} replicas here and {known} elsewhere: all nodes run in one process", "one number"
        )
    return replicas


def _scale(found: Components, by_keda: Fields | None, by_hpa: Fields | None, notes: Notes) -> None:
    if by_keda is not None and by_hpa is not None:
        wrong(by_hpa.path, "hpaSpec and kedaSpec exclude each other")
    for spec, build in ((by_keda, keda), (by_hpa, hpa)):
        if spec is None:
            continue
        scaling = build(spec, found.asked, notes)
        if found.scaling is not None and found.scaling[1] != scaling:
            unsupported(spec.path, f"this policy differs from {found.scaling[0]}: all nodes run in one process")
        found.scaling = (spec.path, scaling)


def _add(found: Components, fields: Fields, notes: Notes) -> None:
    name = fields.text("name")
    if name is None:
        wrong(fields.at("name"), "this field is required")
    if name in found.containers:
        wrong(fields.at("name"), f"two containers are called {name}")
    image = fields.text("image")
    probes = {kind: probe for key, kind in PROBES.items() if (probe := _probe(fields, key, kind, notes)) is not None}
    asked = _resources(fields, notes)
    env, interface = _env(fields)
    for port in fields.parts("ports"):
        port.drop("containerPort", "name", "protocol")
        port.refuse(hostPort="models are reached through the gateway", hostIP="models are reached through the gateway")
        port.done()
    fields.drop("imagePullPolicy", "terminationMessagePath", "terminationMessagePolicy", "stdin", "tty")
    fields.refuse(**CONTAINER_REFUSED)
    fields.done()
    found.containers[name] = Container(name, fields.path, image, interface, env, probes, asked)
    for kind in ("cpu", "memory"):
        own = getattr(asked, kind)
        if own is not None:
            setattr(found.asked, kind, own + (getattr(found.asked, kind) or 0))


def _env(container: Fields) -> tuple[dict[str, str], str | None]:
    found: dict[str, str] = {}
    interface = None
    for variable in container.parts("env"):
        name = variable.text("name")
        if name is None:
            wrong(variable.at("name"), "this field is required")
        if variable.has("valueFrom"):
            unsupported(
                variable.at("valueFrom"),
                f"{name[:60]} comes from a secret or a field of the cluster, which is not there",
                "write its value, or have the model read it from the environment of headway up",
            )
        value = variable.text("value") or ""
        variable.done()
        if name == "MODEL_NAME":
            interface = value
        if name in WRAPPER_ENV:
            continue
        if RESERVED_ENV.fullmatch(name):
            unsupported(variable.at("name"), f"{name} is set by Headway itself", "give it another name")
        found[name] = value
    return found, interface


def _resources(container: Fields, notes: Notes) -> Asked:
    resources = container.part("resources")
    asked = Asked()
    if resources is None:
        return asked
    limits = resources.part("limits") or Fields({}, resources.at("limits"))
    requests = resources.part("requests") or Fields({}, resources.at("requests"))
    cpu_limit, memory_limit = _amount(limits, "cpu"), _amount(limits, "memory")
    cpu, memory = _amount(requests, "cpu"), _amount(requests, "memory")
    for part in (limits, requests):
        for name in [*part.names()]:
            what = "GPUs are" if "gpu" in name.lower() else f"the resource {name[:60]} is"
            unsupported(part.at(name), f"{what} not supported", "cpu and memory can be stated")
    resources.refuse(claims="there are no device drivers to ask")
    resources.done()
    # Kubernetes: who states a limit and no request asks for the limit.
    asked.cpu = cpu_limit if cpu is None else cpu
    asked.memory = memory_limit if memory is None else memory
    asked.memory_limit = memory_limit
    if cpu_limit is not None:
        notes.add(limits.at("cpu"), "a replica is planned with its cpu; nothing stops it from taking more")
    if memory is not None and memory_limit is None:
        notes.add(requests.at("memory"), "a request is no limit: replicas have none; state limits.memory for one")
    return asked


def _amount(fields: Fields, name: str) -> int | None:
    found = fields.take(name)
    if found is None:
        return None
    try:
        return (millicores if name == "cpu" else byte_count)(str(found))
    except ValueError as error:
        wrong(fields.at(name), str(error))


def _probe(container: Fields, key: str, kind: str, notes: Notes) -> dict[str, Any] | None:
    probe = container.part(key)
    if probe is None:
        return None
    found: dict[str, Any] = {}
    http, tcp = probe.part("httpGet"), probe.part("tcpSocket")
    if http is not None:
        path = http.text("path") or "/"
        if path.partition("?")[0] not in PROBE_PATHS:
            unsupported(
                http.at("path"),
                f"the model server has no {path[:60]}",
                "/health/status asks the model's health_status, /health/ping only whether the server answers",
            )
        found["path"] = path
        http.drop("port")
        if (http.text("scheme") or "HTTP").upper() != "HTTP":
            unsupported(http.at("scheme"), "probes of replicas speak HTTP")
        http.refuse(host="a probe asks its replica", httpHeaders="model servers look at none of them")
        http.done()
    elif tcp is not None:
        tcp.drop("port", "host")
        tcp.done()
        found["path"] = DEFAULT_PATHS[kind]
        notes.add(probe.path, f"instead of a port's being open, {found['path']} is asked")
    else:
        probe.refuse(exec="the model's health_status can do the same, behind httpGet /health/status")
        probe.refuse(grpc="ask /health/status by httpGet")
        wrong(probe.path, "a probe needs httpGet or tcpSocket")
    defaults = {"initialDelaySeconds": 0, "periodSeconds": 10, "timeoutSeconds": 1, "failureThreshold": 3}
    for name, default in defaults.items():
        value = probe.whole(name)
        found[name] = default if value is None else value
    success = probe.whole("successThreshold", 1)
    if success is not None:
        found["successThreshold"] = success
    probe.drop("terminationGracePeriodSeconds")
    probe.done()
    return found


def image_names(image: str | None) -> list[str]:
    """``docker.io/org/iris:0.1`` may be called that, ``docker.io/org/iris``, ``org/iris:0.1``, ``iris``, …"""
    if image is None:
        return []
    plain = re.sub(r"@sha256:[0-9a-f]+$", "", image)
    bare = re.sub(r":[^:/]*$", "", plain)
    found = [image, plain, bare]
    for name in (plain, bare):
        parts = name.split("/")
        found += ["/".join(parts[index:]) for index in range(1, len(parts))]
    return [*dict.fromkeys(found)]
