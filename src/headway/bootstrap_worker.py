"""The bootstrap of ``headway worker``: one worker of a deployed version, beside those that the control plane runs.

What is to run is read from the home; a control plane need not be there. The worker is looked after as any replica is
(memory limit, probes, started again when its job has ended it), by a runtime of its own in a folder of its own
(``HOME/workers/NAME``), so that no control plane takes it for one of its replicas.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from headway.adapters.local import LocalRuntime, SystemClock, allow_many_files, run_dir_for, stop_strays
from headway.adapters.local.bundles import LocalBundleStore
from headway.adapters.local.sockets import job_worker_socket
from headway.adapters.sql import SqlDatabase, SqlDeploymentStore
from headway.bootstrap_parts import query_log_dir
from headway.control.replica_specs import replica_spec, replica_suffix
from headway.domain.deployments import Deployment
from headway.domain.errors import Conflict, HeadwayError, InvalidInput, ModelNotFound, tree
from headway.domain.lifecycle import ReplicaPhase
from headway.domain.names import check_model_name, replica_name
from headway.domain.replicas import ReplicaSpec, ReplicaStatus
from headway.domain.version_specs import jobs_of
from headway.settings import Settings

_P = ReplicaPhase


@dataclass(frozen=True, slots=True)
class Work:
    """What to run, and where its jobs come from."""

    spec: ReplicaSpec
    job_server: str


def work_of(settings: Settings, model: str, version: str | None, job_server: str | None) -> Work:
    """What ``headway worker`` is asked for; ``version`` None: the one with the largest share of the traffic.

    Raises ``ModelNotFound``, ``VersionNotFound``, ``InvalidInput`` for an address that is none, ``Conflict`` for a
    version that cannot be run.
    """
    home = settings.home_path
    address = job_server or f"unix:{job_worker_socket(run_dir_for(home))}"
    check_address(address)
    check_model_name(model)
    deployment = asyncio.run(_deployment(home, model))
    if version is None:
        if not deployment.live:
            raise Conflict(f"no version of {model} is live", hint="name one: --version V")
        version = max(deployment.live, key=lambda arm: arm.weight).version
    record = deployment.version(version)
    if record.python is None:
        raise Conflict(f"{model} {version} has no environment", hint="headway deploy it first")
    bundle = asyncio.run(LocalBundleStore(home / "bundles").path(record.bundle_digest))
    spec = replica_spec(model, record, replica_name(model, version, replica_suffix()), str(bundle))
    return Work(replace(spec, role="work", termination_grace_s=jobs_of(deployment).grace_s), address)


def check_address(address: str) -> None:
    """Raises ``InvalidInput`` for what is neither ``unix:/path`` nor ``tcp:host:port``."""
    kind, _, place = address.partition(":")
    host, _, port = place.rpartition(":")
    fits = place.startswith("/") if kind == "unix" else kind == "tcp" and bool(host) and port.isdigit()
    if not fits or (kind == "tcp" and not 0 < int(port) < 65536):
        raise InvalidInput(
            f"{address[:80]!r} is no address of a job server",
            where="--job-server",
            hint="unix:/path/of/its/socket or tcp:HOST:PORT",
        )


async def _deployment(home: Path, model: str) -> Deployment:
    path = home / "headway.db"
    found: list[Deployment] = []
    if path.exists():
        database = SqlDatabase(path)
        await database.open()
        try:
            found = [d for d in await SqlDeploymentStore(database).load_all() if d.name == model]
        finally:
            await database.close()
    if not found:
        raise ModelNotFound(f"there is no model {model} in {home}", hint="headway deploy DIR makes one")
    return found[0]


def work(settings: Settings, task: Work, told: Callable[[str, ReplicaStatus], None]) -> None:
    """Run the worker until SIGINT or SIGTERM, which lets its job end; a second one gives the job back at once.

    ``told`` is called with ``ready``, ``ended`` and ``stopping``. What the worker prints goes to standard error.
    Raises what kept it from its first start.
    """
    allow_many_files()
    workers = settings.home_path / "workers"
    folder = workers / task.spec.replica_id
    folder.mkdir(parents=True, mode=0o700)
    with (folder / "lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        asyncio.run(_clear(workers))
        try:
            asyncio.run(_work(settings, task, folder, told))
        finally:
            shutil.rmtree(folder, ignore_errors=True)


async def _clear(workers: Path) -> None:
    """End what is left of workers whose command was killed: nobody else looks after them."""
    for folder in workers.iterdir():
        with contextlib.suppress(OSError), (folder / "lock").open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            await stop_strays(folder)
            shutil.rmtree(folder, ignore_errors=True)


async def _work(settings: Settings, task: Work, folder: Path, told: Callable[[str, ReplicaStatus], None]) -> None:
    name = task.spec.replica_id
    run_dir = run_dir_for(folder)
    runtime = LocalRuntime(
        folder,
        run_dir,
        clock=SystemClock(),
        server_env=os.environ,
        query_log_dir=query_log_dir(settings.home_path) / "segments" if settings.query_log else None,
        job_server=task.job_server,
    )
    stopping = asyncio.Event()
    failed: list[HeadwayError] = []

    def status() -> ReplicaStatus:
        found = next((s for s in runtime.observe() if s.replica_id == name), None)
        return found or ReplicaStatus(name, task.spec.model, task.spec.version, _P.STOPPED, None, role="work")

    def stop() -> None:
        pid = status().pid
        if stopping.is_set() and pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)  # the second one
        elif not stopping.is_set():
            told("stopping", status())
            stopping.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)

    async def watch() -> None:
        ready = False
        async for transition in runtime.transitions():
            seen = transition.status
            if seen.phase is _P.READY:
                ready = True
                told("ready", seen)
            elif seen.phase is _P.BACKOFF and ready:
                told("ended", seen)
            elif seen.phase in (_P.BACKOFF, _P.FAILED):
                failed.append(_error_of(seen))
                stopping.set()

    async def show() -> None:
        async for chunk in runtime.logs(name, tail_lines=None, follow=True):
            sys.stderr.buffer.write(chunk)
            sys.stderr.flush()

    await runtime.start()
    tasks = [asyncio.create_task(watch(), name="watch")]
    try:
        await runtime.apply([task.spec])
        tasks.append(asyncio.create_task(show(), name="log"))
        await stopping.wait()
    finally:
        await runtime.stop(stop_replicas=True)
        await asyncio.gather(*tasks, return_exceptions=True)
        if run_dir != folder / "run":
            shutil.rmtree(run_dir, ignore_errors=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)  # it is over, and more of them change nothing
    if failed:
        raise failed[0]


def _error_of(status: ReplicaStatus) -> HeadwayError:
    failure = status.failure
    if failure is None:
        return HeadwayError(f"the worker could not be started ({status.reason})")
    kind = next((known for known in tree() if known.code == failure.code), HeadwayError)
    return kind(failure.message, where=failure.where, hint=failure.hint, details={"log_tail": failure.log_tail})
