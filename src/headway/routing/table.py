"""The routing table of everything: which versions of which models are reachable, through which replicas.

The table says what *is*, not what is wished: production traffic follows ``live``, never ``target``, and an
endpoint is a replica that is ready now and not on its way out.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from headway.domain.deployments import Deployment, Version
from headway.domain.lifecycle import DeploymentState, ReplicaPhase, VersionState
from headway.domain.replicas import ReplicaStatus
from headway.domain.routing_table import Endpoint, GatewayToken, ModelRoute, RoutingTable, VersionRoute
from headway.domain.version_specs import spec_of

ROUTED_STATES = frozenset({VersionState.STARTING, VersionState.LIVE, VersionState.DRAINING})
RESTART_HOLD_S = 10.0
"""How long a request waits, at most, for replicas that were there and are being started again."""
LOOPING = "CrashLoopBackOff"
HOPELESS = frozenset({"load_failed", "sample_prediction_failed", "start_timeout", "out_of_memory", "invalid_spec"})
"""Failures of a start that the next start most likely repeats."""
_GONE = frozenset({ReplicaPhase.STOPPING, ReplicaPhase.STOPPED})


def render(
    deployments: Sequence[Deployment],
    replicas: Sequence[ReplicaStatus],
    tokens: Sequence[GatewayToken],
    require_token: bool,
    draining: Collection[str],
    jobs: str | None = None,
) -> RoutingTable:
    """The table for ``deployments`` (those being deleted are left out) as ``replicas`` stand.

    ``draining``: ids of replicas that get no new requests although they are still ready. Everything is
    sorted, so equal inputs in any order give equal tables.
    """
    staying: dict[tuple[str, str], list[ReplicaStatus]] = {}
    for replica in replicas:
        if replica.replica_id not in draining and replica.phase not in _GONE:
            staying.setdefault((replica.model, replica.version), []).append(replica)
    routes = tuple(
        _model_route(deployment, staying)
        for deployment in sorted(deployments, key=lambda d: d.name)
        if deployment.state is not DeploymentState.DELETING
    )
    return RoutingTable(routes, tuple(sorted(tokens, key=lambda t: t.name)), require_token, jobs)


def hold_s(deployment: Deployment, version: Version, own: Sequence[ReplicaStatus], timeout_s: float) -> float:
    """How long a request waits for a first replica of ``version``, whose replicas ``own`` are, in seconds.

    Only for what has served and will serve again: as long as the request may take when a policy has taken the version
    to zero or its first replicas are on their way, at most :data:`RESTART_HOLD_S` when its replicas come back from a
    crash. What crashes again and again, or cannot be loaded, refuses at once. That holds also while replicas are
    ready: when the last of them dies the gateway knows what to do before anybody tells it.
    """
    if version.state is not VersionState.LIVE or deployment.state is DeploymentState.FAILED:
        return 0.0
    if not own:
        # The same before and after somebody wishes for a first replica: nothing to tell the gateway in between.
        return timeout_s if deployment.scaling is not None or deployment.wished(version.name) > 0 else 0.0
    if any(r.phase is ReplicaPhase.STARTING and r.restarts == 0 for r in own) and not any(r.ready for r in own):
        return timeout_s
    hopeful = [r for r in own if not _broken(r)]
    return min(timeout_s, RESTART_HOLD_S) if hopeful else 0.0


def _broken(replica: ReplicaStatus) -> bool:
    if replica.ready:
        return False
    failed = replica.failure is not None and replica.failure.code in HOPELESS
    return failed or replica.reason == LOOPING or replica.phase is ReplicaPhase.FAILED


def _model_route(deployment: Deployment, replicas: Mapping[tuple[str, str], Sequence[ReplicaStatus]]) -> ModelRoute:
    shadow = deployment.shadow
    named = {arm.version for arm in deployment.live} | ({shadow.version} if shadow is not None else set())
    routes = tuple(
        _version_route(deployment, version, replicas.get((deployment.name, version.name), ()))
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


def _version_route(deployment: Deployment, version: Version, own: Sequence[ReplicaStatus]) -> VersionRoute:
    options = spec_of(version).server_options()
    defaults = VersionRoute(version.name, ())
    timeout_s = float(options.get("timeout_s", defaults.timeout_s))
    endpoints = [Endpoint(r.replica_id, r.address) for r in own if r.ready and r.address is not None]
    return VersionRoute(
        version=version.name,
        endpoints=tuple(sorted(endpoints)),
        max_concurrency=int(options.get("max_queue", defaults.max_concurrency)),
        timeout_s=timeout_s,
        max_body_bytes=int(options.get("max_body_bytes", defaults.max_body_bytes)),
        hold_s=hold_s(deployment, version, own, timeout_s),
        workers=int(options.get("workers", defaults.workers)),
    )
