"""The bootstrap of ``headway operator`` and ``headway kube install``: what touches a cluster, put together."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import Callable, Sequence

from headway.adapters.kubernetes.cluster import KubernetesCluster
from headway.adapters.kubernetes.connection import connect
from headway.adapters.kubernetes.pod_stats import PodStats
from headway.adapters.local import SystemClock
from headway.adapters.sql import SqlDatabase, SqlDecisionLog, SqlEventLog
from headway.bootstrap_parts import metric_sources
from headway.cluster.install import installed_kind
from headway.cluster.names import NAMESPACE
from headway.control.operator.cluster_fleet import ClusterFleet
from headway.control.operator.leader import Leader
from headway.control.operator.resources import operators
from headway.control.scaling_service import cluster_autoscaler
from headway.domain.cluster_objects import Name, Object
from headway.settings import Settings

DATABASE = "operator.db"
"""In the home: decisions, and what is told of them."""
LEASE_NAME = "headway-operator"
NAMESPACE_VARIABLE = "HEADWAY_OPERATOR_NAMESPACE"


def operate(context: str | None, namespace: str | None, told: Callable[[str, str], None]) -> None:
    """Look after every custom resource of ``namespace`` (None: of all) until SIGTERM or SIGINT.

    ``told`` is called with ``following``, ``leading``, ``waiting`` and ``stopping``, and with who it is.
    """
    asyncio.run(_operate(context, namespace, told))


async def _operate(context: str | None, namespace: str | None, told: Callable[[str, str], None]) -> None:
    connection = connect(context)
    clock, stopping, settings = SystemClock(), asyncio.Event(), Settings()
    home = os.environ.get(NAMESPACE_VARIABLE, NAMESPACE)
    identity = f"{socket.gethostname()}-{secrets.token_hex(3)}"
    async with connection.http as http:
        cluster = KubernetesCluster(http, namespace)

        def changed() -> None:
            told("leading" if leader.leads else "waiting", identity)
            for one in running:
                one.look_at_all()

        leader = Leader(cluster, clock, Name(home, LEASE_NAME), identity, changed)
        fleet = ClusterFleet(clock, lambda: leader.leads)
        running = operators(cluster, clock, leader, fleet, namespace=home)
        database = SqlDatabase(settings.home_path / DATABASE)
        await database.open()
        stats = PodStats(fleet.addresses, clock)
        loop_of_own = cluster_autoscaler(
            fleet,
            stats=stats,
            sources=metric_sources({}),
            decisions=SqlDecisionLog(database),
            events=SqlEventLog(database),
            clock=clock,
            max_age_s=settings.decisions_max_age_s,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping.set)
        told("following", identity)
        leader.start()
        starting = [asyncio.create_task(one.start()) for one in running]
        await loop_of_own.start()
        try:
            await stopping.wait()
        finally:
            told("stopping", identity)
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            await loop_of_own.stop()
            await stats.close()
            for one in running:
                await one.stop()
            await leader.stop()
            await database.close()


def apply_objects(context: str | None, objects: Sequence[Object], told: Callable[[Object], None]) -> None:
    """Apply ``objects`` of :func:`headway.cluster.install.install` one after the other."""
    asyncio.run(_apply(context, objects, told))


async def _apply(context: str | None, objects: Sequence[Object], told: Callable[[Object], None]) -> None:
    async with connect(context).http as http:
        cluster = KubernetesCluster(http)
        for one in objects:
            await cluster.apply(installed_kind(one), one)
            told(one)
