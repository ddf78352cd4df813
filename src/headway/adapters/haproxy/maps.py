"""The maps that HAProxy looks routes up in. Pure. Everything that can change without a reload is in them.

=============  =====================================  ==============================================
map            key                                    value
=============  =====================================  ==============================================
``split``      ``model``                              version with the largest share, ``none`` for no split
               ``model/BUCKET`` (0 to 99)             version, where there is more than one
``routes``     ``model/version``                      backend, ``none``: no replica, and none is waited for
``holds``      ``model/version``                      milliseconds that a request waits for a first replica
``sticky``     ``model``                              ``header:NAME`` or ``cookie:NAME``
``shadow``     ``model``                              ``version:percent``
``tokens``     SHA-256 of the token                   ``expiry:scope:name``, scope ``all`` or ``some``
               ``sha256/model``                       ``1``, for a token confined to models
``state``      ``table``                              fingerprint of the table in force
               ``require_token``                      present when a token is required
               ``jobs``                               present when there is a job server
=============  =====================================  ==============================================

What has to change together lies in one map, since a map is replaced in one step. ``state`` tells a control
plane that adopts a running HAProxy whether it routes as wished; it is the last to be replaced.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping

from headway.domain.errors import GatewayFailed
from headway.domain.names import MODEL_NAME, TOKEN_NAME, VERSION_NAME
from headway.domain.routing_table import (
    Endpoint,
    GatewayToken,
    ModelRoute,
    RoutingTable,
    Sticky,
    VersionRoute,
    bucket_plan,
)

Maps = Mapping[str, Mapping[str, str]]

ORDER = ("tokens", "holds", "routes", "sticky", "shadow", "split", "state")
"""In which changed maps are replaced: a route is there before the split leads to it."""
NO_BACKEND = "none"
JOBS_BACKEND = "jobs"
"""Backend of the job server; those of versions have dots in their names."""
NEVER = 253_402_300_799
"""Expiry of a token without one: the last second of the year 9999."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SERVER_ID = re.compile(r"[A-Za-z0-9._-]{1,100}")
_STICKY_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


def backend_name(model: str, route: VersionRoute) -> str:
    """``iris.v2.30000ms.256.33554432``: all that a backend's configuration depends on is in its name.

    So a backend of that name is the right one, whoever has put it into the running configuration.
    """
    limits = f"{round(route.timeout_s * 1000)}ms.{max(1, route.max_concurrency)}.{route.max_body_bytes}"
    return f"{model}.{route.version}.{limits}{'.shared' if route.workers > 1 else ''}"


def hold_ms(route: VersionRoute) -> int:
    """How long a request waits for a first replica, at most the version's time limit; 0: not at all."""
    return round(min(route.hold_s, route.timeout_s) * 1000)


def server_name(endpoint: Endpoint) -> str:
    """Name of the endpoint's server. A replica that comes back elsewhere is another server."""
    return f"{endpoint.replica_id}.{hashlib.sha256(endpoint.address.encode()).hexdigest()[:6]}"


def replica_of(server: str) -> str:
    """The replica's id, back from :func:`server_name`."""
    return server.rpartition(".")[0]


def servers_of(table: RoutingTable) -> set[tuple[str, str]]:
    """Backend and name of every replica's server."""
    return {(backend_name(m.model, v), server_name(e)) for m in table.models for v in m.versions for e in v.endpoints}


def replicas_in(table: RoutingTable) -> frozenset[str]:
    """Every replica's id."""
    return frozenset(e.replica_id for m in table.models for v in m.versions for e in v.endpoints)


def sticky_rule(sticky: Sticky) -> str:
    """``header:x-user``; names are compared as HTTP does: headers in any case, cookies exactly."""
    name = sticky.name.lower() if sticky.kind == "header" else sticky.name
    return f"{sticky.kind}:{name}"


def check_table(table: RoutingTable) -> None:
    """Refuse what could break out of a configuration line or a map; raises :class:`GatewayFailed`.

    Names were checked where they came in. This is the last door before a text that HAProxy interprets.
    """
    for route in table.models:
        fine = MODEL_NAME.fullmatch(route.model) is not None
        fine = fine and all(VERSION_NAME.fullmatch(v.version) for v in route.versions)
        fine = fine and all(VERSION_NAME.fullmatch(a.version) for a in route.arms)
        endpoints = [e for v in route.versions for e in v.endpoints]
        fine = fine and all(_SERVER_ID.fullmatch(e.replica_id) and _plain(e.address) for e in endpoints)
        if route.sticky is not None:
            known = route.sticky.kind in {"header", "cookie"}
            fine = fine and known and _STICKY_NAME.fullmatch(route.sticky.name) is not None
        if route.shadow is not None:
            fine = fine and VERSION_NAME.fullmatch(route.shadow.version) is not None
        if not fine:
            raise GatewayFailed(f"the route of {route.model[:60]!r} holds a name or address that cannot be configured")
    if table.jobs is not None and not _plain(table.jobs):
        raise GatewayFailed("the address of the job server cannot be configured")
    for token in table.tokens:
        if not TOKEN_NAME.fullmatch(token.name) or not _DIGEST.fullmatch(token.sha256):
            raise GatewayFailed(f"token {token.name[:60]!r} cannot be configured")


def _plain(address: str) -> bool:
    return address.isprintable() and 5 < len(address) < 120 and not set(address) & set("\"'$\\#")


def render_maps(table: RoutingTable) -> dict[str, dict[str, str]]:
    """All maps but ``state``'s fingerprint, which is taken over all of this and the configuration."""
    maps: dict[str, dict[str, str]] = {name: {} for name in ORDER}
    for route in table.models:
        maps["split"].update(_split(route))
        for version in route.versions:
            key = f"{route.model}/{version.version}"
            held_ms = hold_ms(version)
            maps["routes"][key] = backend_name(route.model, version) if version.endpoints or held_ms else NO_BACKEND
            if held_ms:
                maps["holds"][key] = str(held_ms)
        if route.sticky is not None:
            maps["sticky"][route.model] = sticky_rule(route.sticky)
        if route.shadow is not None and route.shadow.percent > 0:
            maps["shadow"][route.model] = f"{route.shadow.version}:{route.shadow.percent}"
    for token in table.tokens:
        maps["tokens"].update(_token(token))
    if table.require_token:
        maps["state"]["require_token"] = "1"
    if table.jobs is not None:
        maps["state"][JOBS_BACKEND] = "1"
    return maps


def _split(route: ModelRoute) -> dict[str, str]:
    plan = bucket_plan(route.arms)
    if not plan:
        return {route.model: NO_BACKEND}
    largest = max(route.arms, key=lambda arm: arm.weight).version
    entries = {route.model: largest}
    if len(set(plan)) > 1:
        entries |= {f"{route.model}/{bucket}": version for bucket, version in enumerate(plan)}
    return entries


def _token(token: GatewayToken) -> dict[str, str]:
    expiry = NEVER if token.expires_at is None else max(0, token.expires_at)
    scope = "all" if token.models is None else "some"
    entries = {token.sha256: f"{expiry}:{scope}:{token.name}"}
    return entries | {f"{token.sha256}/{model}": "1" for model in token.models or ()}


def map_text(entries: Mapping[str, str]) -> str:
    """The map as the file that HAProxy reads when it starts or reloads."""
    return "".join(f"{key} {value}\n" for key, value in entries.items())
