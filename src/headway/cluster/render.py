"""The whole of what a document is on a cluster: every object, in the order in which they can be created."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from headway.cluster.gateway_routes import http_route
from headway.cluster.jobs import takes_jobs, worker_objects
from headway.cluster.names import MANAGED_BY, MANAGER, NAMESPACE, Object, Owner, labels, model_owner, version_object
from headway.cluster.refusals import check_model, check_policy
from headway.cluster.scaling_objects import Target, scaling_objects
from headway.cluster.traefik_routes import traefik_routes
from headway.cluster.traffic import traffic_of
from headway.cluster.versions import ClusterVersion, described, split_of, with_version
from headway.cluster.workloads import retired_objects, version_objects
from headway.domain.errors import InvalidInput
from headway.domain.routing_table import Arm
from headway.domain.scaling_policy import POLICY_KIND, ScalingPolicy
from headway.domain.spec import ModelDeployment

NO_COUNTS: Final[Mapping[str, int]] = MappingProxyType({})


def render_model(
    document: ModelDeployment,
    versions: Sequence[ClusterVersion],
    split: tuple[Arm, ...],
    owner: Owner,
    *,
    live: tuple[Arm, ...] | None = None,
    counts: Mapping[str, int] = NO_COUNTS,
    floors: Mapping[str, int] = NO_COUNTS,
    operator_namespace: str = NAMESPACE,
) -> list[Object]:
    """Every object of ``document``'s model, all ``versions`` of it included.

    ``split`` is what was asked for: its versions run. ``live`` is what the routes do meanwhile (None: the same; empty:
    no route yet). ``counts`` are replicas by version, where Headway has set them before, ``floors`` the fewest that
    another engine is to keep; from ``operator_namespace`` the loop asks the pods. Raises ``Unsupported`` and
    ``InvalidTraffic`` for what a cluster cannot do.
    """
    check_model(document)
    spec, kubernetes = document.spec, document.spec.kubernetes
    routed = split if live is None else live
    named = {arm.version for arm in (*split, *routed)}
    if spec.shadow is not None:
        named.add(spec.shadow.version)
    running = [version for version in versions if version.name in named]
    asked = kubernetes.engine == "headway" or any(trigger.type == "latency" for trigger in spec.scaling.triggers)
    watcher = operator_namespace if spec.scaling.elastic and asked else None
    elsewhere = spec.scaling.elastic and kubernetes.engine != "headway"
    found: list[Object] = []
    for version in versions:
        if version.name not in named:
            found += retired_objects(owner, version, kubernetes)
            continue
        replicas = counts.get(version.name, None if elsewhere else spec.scaling.first_count)
        found += version_objects(owner, version, kubernetes, replicas, watcher)
        name = version_object(owner.name, version.name)
        target = Target(name, labels(owner.name, version.name), name, kubernetes.trigger_secret)
        found += scaling_objects(owner, target, spec.scaling, kubernetes.engine, floors.get(version.name))
    if takes_jobs(document):
        shares = {arm.version: arm.weight for arm in split}
        for version in versions:
            found += worker_objects(owner, version, spec.jobs, kubernetes, shares.get(version.name))
    if kubernetes.route is not None and routed:
        traffic = traffic_of(document, kubernetes.route, routed, running)
        gateway = kubernetes.route.gateway is not None
        found += [http_route(owner, traffic)] if gateway else traefik_routes(owner, traffic)
    return _once(found)


def render_policy(policy: ScalingPolicy, owner: Owner) -> list[Object]:
    """Every object of ``policy``: none where Headway's own loop scales."""
    check_policy(policy)
    spec = policy.spec
    named = {MANAGED_BY: MANAGER, "app.kubernetes.io/component": "scaling-policy"}
    target = Target(owner.name, named, spec.target_ref.name, spec.trigger_secret)
    return scaling_objects(owner, target, spec.scaling, spec.engine)


def render_documents(documents: Sequence[ModelDeployment | ScalingPolicy], namespace: str | None) -> list[Object]:
    """What a cluster holds once ``documents`` have been applied one after the other.

    Several documents of one model are its versions, in order: the last one says how they share the traffic. In
    ``namespace``, or where a document says, or in ``default``. Without a cluster there are no owner references.
    """
    versions: dict[Owner, tuple[ClusterVersion, ...]] = {}
    found: dict[Owner, list[Object]] = {}
    for document in documents:
        place = agreed_namespace(document.metadata.namespace, namespace) or "default"
        if isinstance(document, ScalingPolicy):
            owner = Owner(POLICY_KIND, document.metadata.name, place)
            found[owner] = render_policy(document, owner)
            continue
        owner = model_owner(document.metadata.name, place)
        newest = described(document, versions.get(owner, ()))
        versions[owner] = with_version(versions.get(owner, ()), newest)
        split = split_of(document, newest, versions[owner])
        found[owner] = render_model(document, versions[owner], split, owner)
    return [one for objects in found.values() for one in objects]


def agreed_namespace(stated: str | None, asked: str | None) -> str | None:
    """The one that the document states or the command asks for. Raises ``InvalidInput`` when they differ."""
    if stated is not None and asked is not None and stated != asked:
        raise InvalidInput(
            f"the document is for the namespace {stated}, the command says {asked}",
            where="metadata.namespace",
            hint="leave one of them out",
        )
    return stated or asked


def _once(objects: Sequence[Object]) -> list[Object]:
    """What several versions share is listed once."""
    known: dict[tuple[str, str], Object] = {}
    for one in objects:
        known.setdefault((one["kind"], one["metadata"]["name"]), one)
    return list(known.values())
