"""The routing table of everything: which versions of which models are reachable, through which replicas.

The table says what *is*, not what is wished: production traffic follows ``live``, never ``target``, and an
endpoint is a replica that is ready now and not on its way out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from headway.domain.deployments import Deployment, Version
from headway.domain.lifecycle import DeploymentState, VersionState
from headway.domain.replicas import ReplicaStatus
from headway.domain.routing_table import Endpoint, GatewayToken, ModelRoute, RoutingTable, VersionRoute
from headway.domain.spec import VersionSpec

ROUTED_STATES = frozenset({VersionState.STARTING, VersionState.LIVE, VersionState.DRAINING})


def render(
    deployments: Sequence[Deployment],
    replicas: Sequence[ReplicaStatus],
    tokens: Sequence[GatewayToken],
    require_token: bool,
    draining: Collection[str],
) -> RoutingTable:
    """The table for ``deployments`` (those being deleted are left out) as ``replicas`` stand.

    ``draining``: ids of replicas that get no new requests although they are still ready. Everything is
    sorted, so equal inputs in any order give equal tables.
    """
    endpoints: dict[tuple[str, str], list[Endpoint]] = {}
    for replica in replicas:
        if replica.ready and replica.address is not None and replica.replica_id not in draining:
            key = (replica.model, replica.version)
            endpoints.setdefault(key, []).append(Endpoint(replica.replica_id, replica.address))
    routes = tuple(
        _model_route(deployment, endpoints)
        for deployment in sorted(deployments, key=lambda d: d.name)
        if deployment.state is not DeploymentState.DELETING
    )
    return RoutingTable(routes, tuple(sorted(tokens, key=lambda t: t.name)), require_token)


def _model_route(deployment: Deployment, endpoints: dict[tuple[str, str], list[Endpoint]]) -> ModelRoute:
    shadow = deployment.shadow
    named = {arm.version for arm in deployment.live} | ({shadow.version} if shadow is not None else set())
    routes = tuple(
        _version_route(version, endpoints.get((deployment.name, version.name), []))
        for version in deployment.versions
        if version.state in ROUTED_STATES or version.name in named
    )
    serving = {route.version for route in routes if route.endpoints}
    return ModelRoute(
        model=deployment.name,
        arms=deployment.live,
        versions=routes,
        sticky=deployment.sticky,
        # A shadow without a replica would only make every model server send copies into nothing.
        shadow=shadow if shadow is not None and shadow.version in serving else None,
    )


def _version_route(version: Version, endpoints: Sequence[Endpoint]) -> VersionRoute:
    options = VersionSpec.model_validate(version.spec).server_options()
    defaults = VersionRoute(version.name, ())
    return VersionRoute(
        version=version.name,
        endpoints=tuple(sorted(endpoints)),
        max_concurrency=int(options.get("max_queue", defaults.max_concurrency)),
        timeout_s=float(options.get("timeout_s", defaults.timeout_s)),
        max_body_bytes=int(options.get("max_body_bytes", defaults.max_body_bytes)),
        workers=int(options.get("workers", defaults.workers)),
    )
