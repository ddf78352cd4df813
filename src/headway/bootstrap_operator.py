"""The bootstrap of ``headway operator`` and ``headway kube install``: what touches a cluster, put together."""

from __future__ import annotations

import asyncio
import logging
import os
import secrets
import signal
import socket
from collections.abc import Callable, Sequence
from pathlib import Path

from headway.adapters.kubernetes.cluster import KubernetesCluster
from headway.adapters.kubernetes.connection import connect
from headway.adapters.kubernetes.pod_stats import PodStats
from headway.adapters.local import SystemClock
from headway.adapters.sql import PostgresqlServer, SqlDatabase, SqlDecisionLog, SqlEventLog, SqlSightingStore
from headway.bootstrap_parts import event_relay, metric_sources
from headway.cluster.install import installed_kind
from headway.cluster.names import NAMESPACE
from headway.cluster.transitions import TOLD_OF
from headway.control.autoscaler import Autoscaler
from headway.control.event_relay import LOOK_S
from headway.control.operator.cluster_fleet import ClusterFleet
from headway.control.operator.event_stream import EventStream
from headway.control.operator.leader import Leader
from headway.control.operator.operator import Operator
from headway.control.operator.resources import operators
from headway.control.operator.secret_sources import SecretSources
from headway.control.operator.target_watch import TargetWatch
from headway.control.scaling_service import cluster_autoscaler
from headway.domain.cluster_objects import Name, Object
from headway.domain.errors import HeadwayError, InvalidInput
from headway.ports.clock import Clock
from headway.settings import Settings

_log = logging.getLogger(__name__)

DATABASE = "operator.db"
"""In the home, unless another is named: decisions, and what is told of them."""
OPEN_AGAIN_S = 5.0
LEASE_NAME = "headway-operator"
NAMESPACE_VARIABLE = "HEADWAY_OPERATOR_NAMESPACE"


def operate(context: str | None, namespace: str | None, settings: Settings, told: Callable[[str, str], None]) -> None:
    """Look after every custom resource of ``namespace`` (None: of all) until SIGTERM or SIGINT.

    ``told`` is called with ``following``, ``leading``, ``waiting`` and ``stopping``, and with who it is. Raises
    ``InvalidInput`` for a broker of events without a database of them.
    """
    asyncio.run(_operate(context, namespace, settings, told))


class _Records:
    """Where ``settings`` say that decisions, and what happens, are recorded and told."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        place = settings.operator_database
        if place is None and settings.events_broker is not None:
            raise InvalidInput(
                "a broker is told of events that a database has: name one for the operator",
                where="HEADWAY_OPERATOR_DATABASE",
                hint="postgresql://USER:PASSWORD@HOST/DATABASE, or the path of a file",
            )
        self._clock = clock
        self._told = place is not None
        file = settings.home_path / DATABASE if place is None else Path(place)
        self.database = SqlDatabase(PostgresqlServer(place) if place is not None and "://" in place else file)
        # Only the leader records, and its own appends wake its relay: polls are for the time after a change of leaders.
        self.log = SqlEventLog(self.database, poll_s=LOOK_S)
        self._relay = event_relay(settings, self.database, self.log, clock)

    def stream(self, running: Sequence[Operator], leader: Leader, namespace: str | None) -> EventStream | None:
        """What records what happens, beside ``running``, while ``leader`` leads; None: nothing does."""
        if not self._told:
            return None
        stream = EventStream(
            SqlSightingStore(self.database),
            {kind: cache for one in running for kind, cache in one.caches.items() if kind in TOLD_OF},
            self._clock,
            lambda: leader.leads,
            open_store=self.database.open,
            relay=self._relay,
            namespace=namespace,
        )
        for one in running:
            one.on_change = stream.note
        return stream

    async def scale(self, loop: Autoscaler) -> None:
        """Start ``loop`` as soon as it can record what it decides; what else the operator does waits for nothing."""
        while True:
            try:
                await self.database.open()
            except HeadwayError as error:
                _log.error("nothing is scaled, since no decision can be recorded: %s", error)
                await self._clock.sleep(OPEN_AGAIN_S)
            else:
                await loop.start()
                return


async def _operate(
    context: str | None, namespace: str | None, settings: Settings, told: Callable[[str, str], None]
) -> None:
    connection = connect(context)
    clock, stopping = SystemClock(), asyncio.Event()
    records = _Records(settings, clock)
    home = os.environ.get(NAMESPACE_VARIABLE, NAMESPACE)
    identity = f"{socket.gethostname()}-{secrets.token_hex(3)}"
    async with connection.http as http:
        cluster = KubernetesCluster(http, namespace)

        def changed() -> None:
            told("leading" if leader.leads else "waiting", identity)
            for one in running:
                one.look_at_all()
            if stream is not None:
                stream.wake()

        leader = Leader(cluster, clock, Name(home, LEASE_NAME), identity, changed)
        fleet = ClusterFleet(clock, lambda: leader.leads)
        targets = TargetWatch(cluster, clock, fleet, lambda: leader.leads)
        running = operators(cluster, clock, leader, fleet, targets, namespace=home)
        stream = records.stream(running, leader, namespace)
        sources_of_secrets = SecretSources(cluster, clock, metric_sources)
        stats = PodStats(fleet.addresses, clock)
        loop_of_own = cluster_autoscaler(
            fleet,
            stats=stats,
            sources=metric_sources({}),
            secrets=sources_of_secrets,
            decisions=SqlDecisionLog(records.database),
            events=records.log,
            clock=clock,
            max_age_s=settings.decisions_max_age_s,
        )
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping.set)
        told("following", identity)
        leader.start()
        starting = [asyncio.create_task(one.start()) for one in running]
        targets.start()
        starting.append(asyncio.create_task(records.scale(loop_of_own)))
        if stream is not None:
            stream.start()
        try:
            await stopping.wait()
        finally:
            told("stopping", identity)
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)
            await loop_of_own.stop()
            await targets.stop()
            await stats.close()
            await sources_of_secrets.close()
            for one in running:
                await one.stop()
            if stream is not None:
                await stream.stop()
            await leader.stop()
            await records.database.close()


def apply_objects(context: str | None, objects: Sequence[Object], told: Callable[[Object], None]) -> None:
    """Apply ``objects`` of :func:`headway.cluster.install.install` one after the other."""
    asyncio.run(_apply(context, objects, told))


async def _apply(context: str | None, objects: Sequence[Object], told: Callable[[Object], None]) -> None:
    async with connect(context).http as http:
        cluster = KubernetesCluster(http)
        for one in objects:
            await cluster.apply(installed_kind(one), one)
            told(one)
