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
from headway.adapters.local import SystemClock
from headway.cluster.install import NAMESPACE, installed_kind
from headway.control.operator.leader import Leader
from headway.control.operator.resources import operators
from headway.domain.cluster_objects import Name, Object

LEASE_NAME = "headway-operator"
NAMESPACE_VARIABLE = "HEADWAY_OPERATOR_NAMESPACE"


def operate(context: str | None, namespace: str | None, told: Callable[[str, str], None]) -> None:
    """Look after every custom resource of ``namespace`` (None: of all) until SIGTERM or SIGINT.

    ``told`` is called with ``following``, ``leading``, ``waiting`` and ``stopping``, and with who it is.
    """
    asyncio.run(_operate(context, namespace, told))


async def _operate(context: str | None, namespace: str | None, told: Callable[[str, str], None]) -> None:
    connection = connect(context)
    clock, stopping = SystemClock(), asyncio.Event()
    identity = f"{socket.gethostname()}-{secrets.token_hex(3)}"
    async with connection.http as http:
        cluster = KubernetesCluster(http, namespace)

        def changed() -> None:
            told("leading" if leader.leads else "waiting", identity)
            for one in running:
                one.look_at_all()

        lease = Name(os.environ.get(NAMESPACE_VARIABLE, NAMESPACE), LEASE_NAME)
        leader = Leader(cluster, clock, lease, identity, changed)
        running = operators(cluster, clock, leader)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping.set)
        told("following", identity)
        leader.start()
        starting = [asyncio.create_task(one.start()) for one in running]
        try:
            await stopping.wait()
        finally:
            told("stopping", identity)
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            for one in running:
                await one.stop()
            await leader.stop()


def apply_objects(context: str | None, objects: Sequence[Object], told: Callable[[Object], None]) -> None:
    """Apply ``objects`` of :func:`headway.cluster.install.install` one after the other."""
    asyncio.run(_apply(context, objects, told))


async def _apply(context: str | None, objects: Sequence[Object], told: Callable[[Object], None]) -> None:
    async with connect(context).http as http:
        cluster = KubernetesCluster(http)
        for one in objects:
            await cluster.apply(installed_kind(one), one)
            told(one)
