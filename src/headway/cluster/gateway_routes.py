"""The ``HTTPRoute`` of a model (Gateway API, standard channel): split, versions, headers, mirror."""

from __future__ import annotations

from typing import Any, Final

from headway.cluster.jobs import job_backend
from headway.cluster.names import Object, Owner, built, labels, version_object
from headway.cluster.traffic import REMOVED_HEADERS, Traffic
from headway.cluster.workloads import SERVICE_PORT
from headway.domain.errors import Unsupported

API: Final = "gateway.networking.k8s.io/v1"
MOST_RULES: Final = 16
JOB_CALL_S: Final = 3600
"""A call for a job may wait for its end, or follow its events."""
MOST_BACKENDS: Final = 16
"""Both of ``HTTPRoute``."""


def http_route(owner: Owner, traffic: Traffic) -> Object:
    """All routes of the model in one object, so that they change together. ``Unsupported`` for more than it holds."""
    rules = [
        *_jobs(traffic),
        *(
            _rule(traffic, f"header-{number}", _by_header(traffic, number), "pinned", [(match.version, 1)])
            for number, match in enumerate(traffic.headers)
        ),
        *(
            _rule(traffic, version, [_by_path(traffic.version_path(version))], "pinned", [(version, 1)])
            for version in traffic.running
        ),
        _split(traffic),
    ]
    if len(rules) > MOST_RULES or len(traffic.split) > MOST_BACKENDS:
        raise Unsupported(
            f"an HTTPRoute holds {MOST_RULES} rules, and {len(traffic.running)} versions that run with "
            f"{len(traffic.headers)} headers need {len(rules)}",
            where="spec.traffic",
            hint="leave versions out of spec.traffic: they are kept, and can be gone back to",
        )
    spec: Object = {"parentRefs": [_parent(traffic)], "rules": rules}
    if traffic.route.hosts:
        spec["hostnames"] = sorted(set(traffic.route.hosts))
    body = {"spec": spec}
    annotations = traffic.annotations()
    return built(API, "HTTPRoute", owner.name, owner, labels(owner.name), body, annotations)


def _jobs(traffic: Traffic) -> list[Object]:
    """All calls for jobs, to the job server, which knows them by their whole path."""
    if not traffic.jobs:
        return []
    removed = {"type": "RequestHeaderModifier", "requestHeaderModifier": {"remove": list(REMOVED_HEADERS)}}
    rule: Object = {
        "name": "jobs",
        "matches": [_by_path(path) for path in traffic.job_paths],
        "filters": [removed],
        "backendRefs": [{**job_backend(), "weight": 1}],
        "timeouts": {"request": f"{JOB_CALL_S}s"},
    }
    return [rule]


def _parent(traffic: Traffic) -> Object:
    gateway = traffic.route.gateway
    assert gateway is not None
    found: Object = {"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": gateway.name}
    if gateway.namespace is not None:
        found["namespace"] = gateway.namespace
    if gateway.section_name is not None:
        found["sectionName"] = gateway.section_name
    return found


def _split(traffic: Traffic) -> Object:
    weights = [(arm.version, arm.weight) for arm in traffic.split]
    rule = _rule(traffic, "split", [_by_path(traffic.path)], "split", weights)
    rule["timeouts"] = {"request": f"{traffic.split_timeout_s}s"}
    if traffic.shadow is not None:
        mirror: Object = {"backendRef": _backend(traffic, traffic.shadow.version)}
        if traffic.shadow.percent < 100:
            mirror["percent"] = traffic.shadow.percent
        rule["filters"].append({"type": "RequestMirror", "requestMirror": mirror})
    return rule


def _rule(traffic: Traffic, name: str, matches: list[Object], arm: str, weights: list[tuple[str, int]]) -> Object:
    changed = {
        "set": [{"name": header, "value": value} for header, value in traffic.added_headers(arm).items()],
        "remove": list(REMOVED_HEADERS),
    }
    rewritten = {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}}
    rule: Object = {
        "name": name,
        "matches": matches,
        "filters": [
            {"type": "RequestHeaderModifier", "requestHeaderModifier": changed},
            {"type": "URLRewrite", "urlRewrite": rewritten},
        ],
        "backendRefs": [{**_backend(traffic, version), "weight": weight} for version, weight in weights],
    }
    if len(weights) == 1:
        rule["timeouts"] = {"request": f"{traffic.timeouts_s[weights[0][0]]}s"}
    return rule


def _by_path(path: str) -> Object:
    return {"path": {"type": "PathPrefix", "value": path}}


def _by_header(traffic: Traffic, number: int) -> list[Object]:
    match = traffic.headers[number]
    header: dict[str, Any] = {"type": "Exact", "name": match.name, "value": match.value}
    return [{**_by_path(traffic.path), "headers": [header]}]


def _backend(traffic: Traffic, version: str) -> Object:
    return {"group": "", "kind": "Service", "name": version_object(traffic.model, version), "port": SERVICE_PORT}
