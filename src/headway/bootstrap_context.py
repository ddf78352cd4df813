"""The bootstrap of commands with a context: the models of one namespace of a cluster, put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TypeVar

from headway.adapters.kubernetes.cluster import KubernetesCluster
from headway.adapters.kubernetes.connection import connect
from headway.adapters.kubernetes.pod_logs import KubernetesPodLogs
from headway.adapters.local import SystemClock
from headway.api.cluster_logs import cluster_logs
from headway.cluster.pods import CONTAINER
from headway.control.cluster_models import ClusterModels
from headway.domain.errors import ClusterFailed, ClusterForbidden, KindMissing

MANAGER = "headway-cli"
"""The field manager of what people ask for; the operator's is another."""
T = TypeVar("T")


def on_cluster(context: str, namespace: str | None, work: Callable[[ClusterModels], Awaitable[T]]) -> T:
    """What ``work`` makes of the models of ``namespace`` (None: the context's own) in the cluster of ``context``.

    Its errors of the cluster name the context, and say what to do.
    """

    async def run() -> T:
        async with _opened(context, namespace) as (models, _):
            return await work(models)

    return asyncio.run(run())


def logs_on_cluster(
    context: str,
    namespace: str | None,
    name: str,
    write: Callable[[bytes], None],
    *,
    replica: str | None,
    version: str | None,
    tail: int | None,
    follow: bool,
) -> None:
    """Call ``write`` with whole lines of what the pods of the model ``name`` print."""

    async def run() -> None:
        async with _opened(context, namespace) as (models, logs):
            lines = cluster_logs(models, logs, name, replica=replica, version=version, tail=tail, follow=follow)
            async with aclosing(lines):
                async for chunk in lines:
                    write(chunk)

    asyncio.run(run())


@asynccontextmanager
async def _opened(context: str, namespace: str | None) -> AsyncGenerator[tuple[ClusterModels, KubernetesPodLogs]]:
    connection = connect(context)
    chosen = namespace or connection.namespace
    async with connection.http as http:
        cluster = KubernetesCluster(http, chosen, manager=MANAGER)
        try:
            clock = SystemClock()
            yield ClusterModels(cluster, clock, chosen), KubernetesPodLogs(http, chosen, clock, container=CONTAINER)
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
            "scalingpolicies of headway.dev, get and list on deployments and pods, and for logs get on pods/log"
        )
    elif type(error) is ClusterFailed:
        error.hint = f"the context {context} says that it is at {server}"
    error.where = f"context {context}" if error.where is None else f"context {context}: {error.where}"
    return error
