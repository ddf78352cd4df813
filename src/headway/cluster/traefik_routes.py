"""The routes of a model where Traefik is the ingress controller.

An ``Ingress`` holds the versions' own paths, an ``IngressRoute`` the model's path, whose split, stickiness and mirror
are ``TraefikService`` objects: no Ingress has weights. Traefik compares prefixes letter by letter, not segment by
segment, so every prefix here ends with its slash: ``v1`` is no prefix of ``v10``.
"""

from __future__ import annotations

import re
from typing import Final

from headway.cluster.job_server import CALLERS_PORT, JOB_SERVER
from headway.cluster.names import Object, Owner, built, labels, side_object, version_object
from headway.cluster.traffic import REMOVED_HEADERS, Traffic
from headway.cluster.workloads import SERVICE_PORT
from headway.domain.kubernetes_spec import TraefikIngress

API: Final = "traefik.io/v1alpha1"
FIRST: Final = 1_000_000
"""Above every priority that Traefik gives by itself: those are lengths of rules."""
_ROUTER = "traefik.ingress.kubernetes.io/router"


def traefik_routes(owner: Owner, traffic: Traffic) -> list[Object]:
    """What routes lean on comes first: a route never names what is not there yet."""
    ingress = traffic.route.ingress
    assert ingress is not None
    split = _weighted(owner, traffic)
    services = [split]
    if traffic.shadow is not None:
        services.append(_mirroring(owner, traffic, split["metadata"]["name"]))
    target = services[-1]["metadata"]["name"]
    return [
        _strip(owner, traffic),
        _headers(owner, traffic, "split"),
        _headers(owner, traffic, "pinned"),
        *([_headers(owner, traffic, "jobs")] if traffic.jobs else []),
        *services,
        _ingress(owner, traffic, ingress),
        _ingress_route(owner, traffic, ingress, target),
    ]


def _weighted(owner: Owner, traffic: Traffic) -> Object:
    weighted: Object = {
        "services": [{**_service(traffic.model, arm.version), "weight": arm.weight} for arm in traffic.split]
    }
    if traffic.cookie is not None:
        weighted["sticky"] = {"cookie": {"name": traffic.cookie, "httpOnly": True}}
    return _of(owner, "TraefikService", owner.name, {"weighted": weighted})


def _mirroring(owner: Owner, traffic: Traffic, split: str) -> Object:
    shadow = traffic.shadow
    assert shadow is not None
    mirror = {**_service(traffic.model, shadow.version), "percent": shadow.percent}
    mirroring = {"kind": "TraefikService", "name": split, "maxBodySize": traffic.body_bytes, "mirrors": [mirror]}
    return _of(owner, "TraefikService", side_object(owner.name, "mirror"), {"mirroring": mirroring})


def _strip(owner: Owner, traffic: Traffic) -> Object:
    """The first prefix that fits is cut off, so the longer ones come first."""
    pinned = [f"{traffic.version_path(version)}/" for version in traffic.running]
    prefixes = [*sorted(pinned, key=len, reverse=True), f"{traffic.path}/", traffic.path]
    return _of(owner, "Middleware", owner.name, {"stripPrefix": {"prefixes": prefixes}})


def _headers(owner: Owner, traffic: Traffic, arm: str) -> Object:
    """An empty value takes a header away."""
    added = {} if arm == "jobs" else traffic.added_headers(arm)
    wanted = {**dict.fromkeys(REMOVED_HEADERS, ""), **added}
    return _of(owner, "Middleware", side_object(owner.name, arm), {"headers": {"customRequestHeaders": wanted}})


def _ingress(owner: Owner, traffic: Traffic, ingress: TraefikIngress) -> Object:
    used = [owner.name, side_object(owner.name, "pinned")]
    annotations = {
        f"{_ROUTER}.middlewares": ",".join(f"{owner.namespace}-{name}@kubernetescrd" for name in used),
    }
    if ingress.entry_points:
        annotations[f"{_ROUTER}.entrypoints"] = ",".join(ingress.entry_points)
    paths = [
        {
            "path": f"{traffic.version_path(version)}/",
            "pathType": "Prefix",
            "backend": {"service": {"name": version_object(traffic.model, version), "port": {"number": SERVICE_PORT}}},
        }
        for version in traffic.running
    ]
    hosts = sorted(set(traffic.route.hosts))
    rules = [{"host": host, "http": {"paths": paths}} for host in hosts] or [{"http": {"paths": paths}}]
    spec: Object = {"ingressClassName": ingress.class_name, "rules": rules}
    if ingress.tls_secret is not None:
        annotations[f"{_ROUTER}.tls"] = "true"
        spec["tls"] = [{"secretName": ingress.tls_secret, **({"hosts": hosts} if hosts else {})}]
    body = {"spec": spec}
    return built("networking.k8s.io/v1", "Ingress", owner.name, owner, labels(owner.name), body, annotations)


def _ingress_route(owner: Owner, traffic: Traffic, ingress: TraefikIngress, target: str) -> Object:
    base = f"(Path(`{traffic.path}`) || PathPrefix(`{traffic.path}/`))"
    if traffic.route.hosts:
        hosts = " || ".join(_host(host) for host in sorted(set(traffic.route.hosts)))
        base = f"({hosts}) && {base}"
    unpinned = f"{base} && !PathPrefix(`{traffic.path}/versions/`)"
    by_header = [
        _rule(
            owner,
            f"{unpinned} && Header(`{match.name}`, `{match.value}`)",
            "pinned",
            _service(traffic.model, match.version),
        )
        for match in traffic.headers
    ]
    # Of two rules the longer one counts, so a shorter header could lose to a longer one that is listed after it.
    for rank, rule in enumerate(by_header):
        rule["priority"] = FIRST - rank
    split = _rule(owner, base, "split", {"kind": "TraefikService", "name": target})
    spec: Object = {"routes": [*_jobs(owner, traffic), *by_header, split]}
    if ingress.entry_points:
        spec["entryPoints"] = list(ingress.entry_points)
    if ingress.tls_secret is not None:
        spec["tls"] = {"secretName": ingress.tls_secret}
    body = {"spec": spec}
    return built(API, "IngressRoute", owner.name, owner, labels(owner.name), body, traffic.annotations())


def _jobs(owner: Owner, traffic: Traffic) -> list[Object]:
    """Calls for jobs, before all else and with their whole path, by which the job server knows them."""
    if not traffic.jobs:
        return []
    match = " || ".join(f"Path(`{path}`) || PathPrefix(`{path}/`)" for path in traffic.job_paths)
    if traffic.route.hosts:
        match = f"({' || '.join(_host(host) for host in sorted(set(traffic.route.hosts)))}) && ({match})"
    service = {"kind": "Service", "name": JOB_SERVER, "port": CALLERS_PORT}
    middlewares = [{"name": side_object(owner.name, "jobs")}]
    return [{"kind": "Rule", "match": match, "priority": FIRST + 1, "middlewares": middlewares, "services": [service]}]


def _rule(owner: Owner, match: str, arm: str, service: Object) -> Object:
    middlewares = [{"name": owner.name}, {"name": side_object(owner.name, arm)}]
    return {"kind": "Rule", "match": match, "middlewares": middlewares, "services": [service]}


def _host(host: str) -> str:
    if not host.startswith("*."):
        return f"Host(`{host}`)"
    return f"HostRegexp(`^[a-z0-9-]+{re.escape(host[1:])}$`)"


def _service(model: str, version: str) -> Object:
    return {"kind": "Service", "name": version_object(model, version), "port": SERVICE_PORT}


def _of(owner: Owner, kind: str, name: str, spec: Object) -> Object:
    return built(API, kind, name, owner, labels(owner.name), {"spec": spec})
