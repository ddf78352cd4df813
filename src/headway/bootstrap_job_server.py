"""The bootstrap of ``headway job-server``: the job server of a namespace of a cluster.

What is said about jobs is followed in the namespace's ModelDeployments. Everything of jobs lies in PostgreSQL, so any
number of these may run, and none keeps anything.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Callable
from functools import partial

import uvloop

from headway.adapters.kubernetes.cluster import KubernetesCluster
from headway.adapters.kubernetes.connection import connect
from headway.adapters.local import SystemClock, allow_many_files
from headway.adapters.sql import SqlJobs
from headway.api.server import bind
from headway.control.operator.job_policies import ClusterJobPolicies
from headway.domain.errors import InvalidInput
from headway.job_server import Installation, JobDoors, JobServer, Precautions
from headway.settings import Settings

NAMESPACE_VARIABLE = "HEADWAY_JOBS_NAMESPACE"
Ports = tuple[int, int]
"""Of callers and of workers."""


def serve_namespace(
    context: str | None,
    namespace: str | None,
    settings: Settings,
    host: str,
    ports: Ports,
    told: Callable[[str], None],
) -> None:
    """Take and hand out jobs of the models of ``namespace`` (None: the pod's own) until SIGTERM or SIGINT.

    ``told`` is called with ``serving`` and ``stopping``. Raises ``InvalidInput`` for a setting that is missing.
    """
    place = namespace or os.environ.get(NAMESPACE_VARIABLE)
    if place is None:
        raise InvalidInput("a job server is of one namespace", where="--namespace", hint="-n NAMESPACE")
    database, secret = settings.jobs_database, settings.jobs_webhook_secret
    if database is None or secret is None:
        where = "HEADWAY_JOBS_DATABASE" if database is None else "HEADWAY_JOBS_WEBHOOK_SECRET"
        raise InvalidInput("the job server of a namespace keeps nothing of its own", where=where, hint=f"set {where}")
    allow_many_files()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(context, place, settings, (database, secret), host, ports, told))


async def _serve(
    context: str | None,
    namespace: str,
    settings: Settings,
    given: tuple[str, str],
    host: str,
    ports: Ports,
    told: Callable[[str], None],
) -> None:
    connection = connect(context)
    clock, stopping = SystemClock(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    database, secret = given
    async with connection.http as http:
        cluster = ClusterJobPolicies(KubernetesCluster(http, namespace), clock)
        store = SqlJobs.open_postgresql(database, files=None)
        installation = Installation(store, cluster.policies, secret, cluster.open, cluster.close)
        doors = JobDoors(JobServer(settings, Precautions(), clock, installation))

        def listen_to_workers() -> socket.socket:
            listener = bind(host, ports[1])
            told("serving")
            return listener

        try:
            await doors.serve(partial(bind, host, ports[0]), listen_to_workers, stopping)
        finally:
            told("stopping")
            await doors.close()
