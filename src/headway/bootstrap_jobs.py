"""Bootstrap of the control plane's part in jobs: who looks after the job server, and what decides about workers.

Where jobs are switched off, there is none of it. A database of jobs that cannot be opened keeps nobody's model from
being served: it is tried again, and workers stay as many as they are until it answers.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from headway.adapters.local.job_server import LocalJobServer, end_job_servers
from headway.adapters.local.sockets import job_socket, job_worker_socket
from headway.adapters.signals import JobsSource
from headway.control.book import DeploymentBook
from headway.control.builds import EnvironmentBuilds
from headway.control.replica_specs import replica_suffix
from headway.control.worker_service import WorkerService, worker_service
from headway.domain.replicas import ReplicaTransition
from headway.job_server import job_store_of, mark_of
from headway.ports.bundle_store import BundleStore
from headway.ports.clock import Clock
from headway.ports.decision_log import DecisionLog
from headway.ports.event_log import EventLog
from headway.ports.metric_source import MetricSource
from headway.ports.runtime import Runtime
from headway.settings import Settings

log = logging.getLogger(__name__)

RETRY_S: Final = 2.0


class JobsPart:
    """Started and stopped in steps, since other parts come in between."""

    def __init__(self, settings: Settings, run_dir: Path, clock: Clock, arguments: Sequence[str] = ()) -> None:
        """``arguments``: of the job server."""
        on = settings.jobs
        self._home = home = settings.home_path
        self._clock = clock
        self._most = settings.most_workers
        mark = mark_of(settings)
        self._server = LocalJobServer(home, run_dir, clock, os.environ, mark, tuple(arguments)) if on else None
        self._store = job_store_of(settings, owner=False) if on else None
        self._opening: asyncio.Task[None] | None = None
        self.callers = f"unix:{job_socket(run_dir)}" if on else None
        """Where the gateway sends calls for jobs."""
        self.workers = f"unix:{job_worker_socket(run_dir)}" if on else None
        """Where workers get their jobs."""
        self.work: WorkerService | None = None

    def assemble(
        self,
        *,
        book: DeploymentBook,
        runtime: Runtime,
        bundles: BundleStore,
        builds: EnvironmentBuilds,
        decisions: DecisionLog,
        events: EventLog,
    ) -> WorkerService | None:
        """What decides about workers, on these ports; None: nothing does."""
        if self._store is not None:
            self.work = worker_service(
                jobs=self._store,
                book=book,
                runtime=runtime,
                bundles=bundles,
                builds=builds,
                decisions=decisions,
                events=events,
                clock=self._clock,
                suffix=replica_suffix,
                most=self._most,
            )
        return self.work

    def look(self, transition: ReplicaTransition) -> None:
        """For the recorder of transitions."""
        if self.work is not None:
            self.work.verdicts.look(transition)

    def sources(self, known: Callable[[str], bool]) -> dict[str, MetricSource]:
        """What triggers of type ``jobs`` are read with."""
        return {} if self._store is None else {"jobs": JobsSource(self._store, known)}

    async def open(self) -> None:
        """Reach the database, or go on trying. Before the recorder of transitions."""
        if self._store is None or self.work is None:
            return
        await self.work.verdicts.start()
        try:
            await self._store.start()
        except Exception as error:
            log.error("the database of jobs cannot be opened, trying again: %s", error)
            self._opening = asyncio.create_task(self._open_later(), name="database of jobs")

    async def start_server(self) -> None:
        """Before the gateway."""
        if self._server is not None:
            await self._server.start()
        else:
            await end_job_servers(self._home)  # of a time when jobs were on

    async def start_workers(self) -> None:
        """Before the reconciler."""
        if self.work is not None:
            await self.work.workers.start()

    async def stop_workers(self) -> None:
        """Decide no more. Workers stay."""
        if self.work is not None:
            await self.work.workers.stop()

    async def quiesce(self) -> None:
        """Calls that wait for jobs are answered, else the gateway would wait for them."""
        if self._server is not None:
            await self._server.quiesce()

    async def stop_server(self, *, stop_server: bool) -> None:
        """When no worker has anything left to tell; False: only look after it no more."""
        if self._server is not None:
            await self._server.stop(stop_server=stop_server)

    async def close(self) -> None:
        """After the recorder of transitions."""
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self.work is not None:
            await self.work.verdicts.stop()
        if self._store is not None:
            await self._store.close()

    async def _open_later(self) -> None:
        while self._store is not None:
            await self._clock.sleep(RETRY_S)
            try:
                await self._store.start()
            except Exception as error:
                log.debug("the database of jobs still cannot be opened: %s", error)
            else:
                log.info("the database of jobs is open")
                return
