"""The job server's own bootstrap: ``python -m headway.job_server`` is the whole life of one.

It owns the jobs of a home (or shares those in PostgreSQL with others): callers' API and workers' API on two Unix
sockets, and the loops that look after jobs. The control plane starts it and keeps it running; it does not need one.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import uvloop

from headway import __version__
from headway.adapters.local import SystemClock, allow_many_files, run_dir_for
from headway.adapters.local.job_server import log_file
from headway.adapters.local.sockets import job_socket, job_worker_socket
from headway.adapters.sql import SqlDatabase, SqlDeploymentStore, SqlEventLog, SqlJobs
from headway.adapters.webhooks import HttpWebhookCaller
from headway.api.jobs.app import JobsApi
from headway.api.jobs.server import bind_unix, create_job_server
from headway.api.jobs.streams import JobStreams
from headway.api.jobs.views import encode, job_view
from headway.api.jobs.workers import WorkersApi
from headway.control.collector import calm_collector
from headway.control.jobs.announcer import JobAnnouncer
from headway.control.jobs.dispatch import LEASE_S, Dispatch
from headway.control.jobs.news import JobNews
from headway.control.jobs.policies import JobPolicies, stored_policies
from headway.control.jobs.rescuer import JobJanitor, JobRescuer
from headway.control.jobs.service import JobService
from headway.control.jobs.webhooks import WebhookCourier
from headway.domain.errors import AlreadyRunning, HeadwayError
from headway.home import webhook_secret
from headway.ports.clock import Clock
from headway.ports.job_broker import JobBroker
from headway.server.log_file import RotatingLog
from headway.settings import Settings

log = logging.getLogger(__name__)

LOG_BYTES: Final = 10 * 1024 * 1024
LOG_FILES: Final = 3
LOCK_WAIT_S: Final = 15.0


def mark_of(settings: Settings) -> str:
    """Of the version and of all settings that a job server depends on; no secret can be read from it."""
    parts = (
        __version__,
        settings.jobs_database,
        settings.jobs_broker,
        settings.jobs_files,
        settings.jobs_webhook_secret,
    )
    return hashlib.sha256("\0".join(str(part) for part in parts).encode()).hexdigest()[:16]


def job_store_of(settings: Settings, *, owner: bool = True, fenced: bool = True) -> SqlJobs:
    """Where the jobs of the home in ``settings`` are stored; ``owner`` False: for who looks beside the job server."""
    home = settings.home_path
    files = settings.jobs_files or home / "jobs"
    if settings.jobs_database is not None:
        return SqlJobs.open_postgresql(settings.jobs_database, files=files, fenced=fenced)
    return SqlJobs.open_sqlite(home / "jobs.db", files=files, clock=SystemClock(), owner=owner, fenced=fenced)


def job_broker_of(settings: Settings) -> JobBroker | None:
    """The broker of the home in ``settings``, if it has one. Raises ``MissingExtra``."""
    if settings.jobs_broker is None:
        return None
    from headway.adapters.rabbitmq import RabbitmqJobBroker

    return RabbitmqJobBroker(settings.jobs_broker)


@dataclass(frozen=True, slots=True)
class Precautions:
    """What keeps jobs from being lost or run twice. Changed only to show, by experiment, that it is needed."""

    fencing: bool = True
    sweeper: bool = True
    lease_s: float = LEASE_S


@dataclass(frozen=True, slots=True)
class Installation:
    """What a job server works for: where jobs are, and what is said about the models that have them."""

    store: SqlJobs
    policies: JobPolicies
    webhook_secret: str
    open: Callable[[], Awaitable[object]]
    """Makes what ``policies`` are read from ready."""
    close: Callable[[], Awaitable[object]]


def home_installation(settings: Settings, precautions: Precautions, clock: Clock) -> Installation:
    """The home in ``settings``."""
    home = settings.home_path
    database = SqlDatabase(home / "headway.db")
    policies = stored_policies(SqlDeploymentStore(database), SqlEventLog(database), clock)
    store = job_store_of(settings, fenced=precautions.fencing)
    secret = settings.jobs_webhook_secret or webhook_secret(home)
    return Installation(store, policies, secret, database.open, database.close)


class JobServer:
    """Every part of a running job server, started and stopped in the one order that is safe."""

    def __init__(self, settings: Settings, precautions: Precautions, clock: Clock, installation: Installation) -> None:
        self.clock = clock
        self._installation = installation
        self.store = installation.store
        self.broker = job_broker_of(settings)
        self.policies = installation.policies
        self.announcer = JobAnnouncer(self.broker, clock) if self.broker is not None else None
        self.news = JobNews(self.store, clock)
        self.dispatch = Dispatch(self.store, self.policies, clock, self.broker, lease_s=precautions.lease_s)
        self.service = JobService(
            self.store,
            self.policies,
            self.news,
            self.dispatch,
            clock,
            announcer=self.announcer,
            random=os.urandom,
        )
        self.rescuer = JobRescuer(self.store, clock, self._on_due)
        self.sweeps = precautions.sweeper
        self.janitor = JobJanitor(self.store, clock)
        self.caller = HttpWebhookCaller()
        self.courier = WebhookCourier(
            self.store,
            self.caller,
            self.policies,
            clock,
            secret=installation.webhook_secret,
            env=os.environ,
            render=lambda job: encode(job_view(job, clock.now())),
            chance=random.random,
        )

    def _on_due(self, due: Sequence[tuple[str, str]]) -> None:
        self.dispatch.due({model for model, _ in due})
        if self.announcer is not None:
            self.announcer.tell(due)

    async def start(self) -> None:
        """Open what is stored, begin to look after it."""
        await self._installation.open()
        await self.store.start()
        await self.policies.start()
        await self.news.start()
        if self.broker is not None:
            await self.broker.start()
        if self.announcer is not None:
            await self.announcer.start()
        await self.dispatch.start()
        if self.sweeps:
            await self.rescuer.start()
        await self.janitor.start()
        await self.courier.start()

    async def stop(self) -> None:
        """Stop all of it; a step that fails is logged and does not keep the next ones from being taken."""
        steps: list[Callable[[], Awaitable[object]]] = [
            self.courier.stop,
            self.caller.close,
            self.janitor.stop,
            self.rescuer.stop,
            self.dispatch.stop,
            *([self.announcer.stop] if self.announcer is not None else []),
            *([self.broker.stop] if self.broker is not None else []),
            self.news.stop,
            self.policies.stop,
            self.store.close,
            self._installation.close,
        ]
        for step in steps:
            try:
                await step()
            except Exception:
                log.exception("a step of stopping failed; going on with the next")


class JobDoors:
    """Callers' API and workers' API of a job server, each on a socket that ``bind`` makes when jobs can be taken."""

    def __init__(self, server: JobServer) -> None:
        self.quiet = asyncio.Event()
        """Set: calls that wait are answered."""
        self._server = server
        streams = JobStreams(server.service, server.store, server.news, server.clock)
        callers = JobsApi(server.service, streams, server.clock, self.quiet)
        workers = WorkersApi(server.dispatch, server.store)
        self._callers = create_job_server(callers.bounded(), self.quiet)
        self._workers = create_job_server(workers.bounded(), asyncio.Event())

    async def serve(
        self, callers: Callable[[], socket.socket], workers: Callable[[], socket.socket], stopping: asyncio.Event
    ) -> None:
        """Take jobs in and hand them out until ``stopping`` is set; what can be answered by then is."""
        serving: list[asyncio.Task[None]] = []
        doors = ((self._callers, callers), (self._workers, workers))
        waiting = asyncio.create_task(stopping.wait())
        # It takes as long as a database or an API server that does not answer.
        starting = asyncio.create_task(self._server.start(), name="start of the job server")
        try:
            await asyncio.wait({waiting, starting}, return_when=asyncio.FIRST_COMPLETED)
            if stopping.is_set():
                return
            await starting
            calm_collector()
            for door, bind in doors:
                serving.append(asyncio.create_task(door.serve(sockets=[bind()]), name="job server"))
            await asyncio.wait({waiting, *serving}, return_when=asyncio.FIRST_COMPLETED)
            if not stopping.is_set():
                raise HeadwayError("a listener of the job server ended by itself")
        finally:
            for task in (waiting, starting):
                task.cancel()
            await asyncio.gather(waiting, starting, return_exceptions=True)
            await self._server.dispatch.stop()  # workers that wait are told that there is nothing
            for door, _ in doors:
                door.stop()
            await asyncio.gather(*serving, return_exceptions=True)

    async def close(self) -> None:
        """Let go of what is stored."""
        await self._server.stop()


async def _serve(settings: Settings, precautions: Precautions) -> None:
    clock, stopping = SystemClock(), asyncio.Event()
    installation = home_installation(settings, precautions, clock)
    doors = JobDoors(JobServer(settings, precautions, clock, installation))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGUSR1, doors.quiet.set)
    run_dir = run_dir_for(settings.home_path)
    paths = job_socket(run_dir), job_worker_socket(run_dir)
    log.info("job server %s on %s", __version__, settings.home_path)
    try:
        await doors.serve(partial(bind_unix, paths[0]), partial(bind_unix, paths[1]), stopping)
    finally:
        for path in paths:
            path.unlink(missing_ok=True)
        await doors.close()
        log.info("job server is down")


@contextlib.contextmanager
def _alone(home: Path) -> Iterator[None]:
    """One job server for a home at a time: the next one waits for the end of the one before."""
    with (home / "job-server.lock").open("a+") as file:
        deadline = time.monotonic() + LOCK_WAIT_S
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise AlreadyRunning(f"a job server runs on {home} already") from None
                time.sleep(0.05)
        yield


def serve_jobs(settings: Settings, precautions: Precautions) -> int:
    """Run the job server of the home in ``settings`` until SIGTERM or SIGINT."""
    home = settings.home_path
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    output = RotatingLog(log_file(home), max_bytes=LOG_BYTES, files=LOG_FILES)
    output.redirect()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("alembic", "aiormq", "aio_pika", "httpx", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    allow_many_files()
    output.start()
    try:
        with _alone(home), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_serve(settings, precautions))
    except HeadwayError as error:
        log.error("%s", error)
        return error.exit_code
    finally:
        output.stop()
    return 0


def precautions_from(arguments: Sequence[str]) -> Precautions:
    """All of them, without arguments."""
    parser = argparse.ArgumentParser(prog="headway.job_server")
    parser.add_argument("--without", choices=("fencing", "sweeper"))
    parser.add_argument("--lease", type=float, default=LEASE_S, metavar="SECONDS")
    chosen = parser.parse_args(arguments)
    return Precautions(chosen.without != "fencing", chosen.without != "sweeper", chosen.lease)


if __name__ == "__main__":
    sys.exit(serve_jobs(Settings(), precautions_from(sys.argv[1:])))
