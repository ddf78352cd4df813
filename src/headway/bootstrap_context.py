"""The bootstrap of commands with a context: the models of one namespace of a cluster, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from headway.adapters.kubernetes.cluster import KubernetesCluster
from headway.adapters.kubernetes.connection import connect
from headway.adapters.local import SystemClock
from headway.control.cluster_models import ClusterModels
from headway.domain.errors import ClusterFailed, ClusterForbidden, KindMissing

MANAGER = "headway-cli"
"""The field manager of what people ask for; the operator's is another."""
T = TypeVar("T")


def on_cluster(context: str, namespace: str | None, work: Callable[[ClusterModels], Awaitable[T]]) -> T:
    """What ``work`` makes of the models of ``namespace`` (None: the context's own) in the cluster of ``context``.

    Its errors of the cluster name the context, and say what to do.
    """
    return asyncio.run(_on_cluster(context, namespace, work))


async def _on_cluster(context: str, namespace: str | None, work: Callable[[ClusterModels], Awaitable[T]]) -> T:
    connection = connect(context)
    chosen = namespace or connection.namespace
    async with connection.http as http:
        cluster = KubernetesCluster(http, chosen, manager=MANAGER)
        try:
            return await work(ClusterModels(cluster, SystemClock(), chosen))
        except ClusterFailed as error:
            raise _explained(error, context, connection.server, chosen) from error


def _explained(error: ClusterFailed, context: str, server: str, namespace: str) -> ClusterFailed:
    if error.hint is not None:
        return error
    if isinstance(error, KindMissing):
        error.message = f"the cluster does not know Headway's custom resources: {error.message}"
        error.hint = f"headway --context {context} kube install --image IMAGE installs them, and the operator"
    elif isinstance(error, ClusterForbidden):
        error.hint = (
            f"it takes, in the namespace {namespace}, get, list, create, update and delete on modeldeployments and "
            "scalingpolicies of headway.dev, and get and list on deployments and pods"
        )
    elif type(error) is ClusterFailed:
        error.hint = f"the context {context} says that it is at {server}"
    error.where = f"context {context}" if error.where is None else f"context {context}: {error.where}"
    return error
