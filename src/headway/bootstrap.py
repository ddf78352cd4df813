"""Bootstrap of what runs as a control plane: its whole life as a process.

:func:`serve`: take the home's lock, adopt what runs, serve until told to stop, stop everything. A crash skips the last
part on purpose: replicas and gateway go on, and the next :func:`serve` adopts them.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import platform
import signal
import socket
from pathlib import Path

import uvloop

from headway import __version__
from headway.adapters.local import allow_many_files, stop_strays
from headway.adapters.local.job_server import end_job_servers, quiesce_job_servers
from headway.adapters.querylog.table_writer import DuckdbTableWriter
from headway.api.app import create_app
from headway.api.schemas import InfoView, RelayView
from headway.api.server import bind, create_server
from headway.bootstrap_parts import plan_service, query_log_dir
from headway.bootstrap_plane import ControlPlane, Safeguards, gateway_of
from headway.control.collector import calm_collector
from headway.domain.errors import HeadwayError
from headway.domain.replicas import serving
from headway.home import control_file, home_lock
from headway.settings import Settings

log = logging.getLogger(__name__)


async def _serve(settings: Settings, safeguards: Safeguards, listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup
            loop.add_signal_handler(number, stopping.set)
    plane = ControlPlane(settings, safeguards)
    started_at = plane.clock.now()
    closing = asyncio.Event()
    app = create_app(
        service=plane.service,
        event_log=plane.events,
        bundles=plane.bundles,
        runtime=plane.runtime,
        tokens=plane.tokens,
        gateway=plane.gateway,
        decisions=plane.decision_service,
        comparisons=plane.comparisons,
        info=lambda: _info(plane, started_at),
        shutdown=stopping.set,
        clock=plane.clock,
        hosts=(settings.control_host,),
        closing=closing,
        query_log=plane.query_log_service,
        payloads=plane.payload_service,
        replica_stats=plane.stats,
        plans=plan_service(plane.database, plane.book, plane.clock),
        table_writer=DuckdbTableWriter(query_log_dir(plane.home) / "scratch"),
    )
    server = create_server(app, host=settings.control_host, port=settings.control_port, closing=closing)
    announced = control_file(plane.home)
    serving: asyncio.Task[None] | None = None
    asked_to_stop = False
    try:
        await plane.start()
        calm_collector()
        if stopping.is_set() and plane.adopted:
            raise HeadwayError("interrupted while starting; what ran already goes on", hint="headway down stops it")
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="control API")
        _announce(announced, settings, plane)
        log.info("control API on %s, models on %s", settings.control_url, plane.gateway.status().url)
        waiting = asyncio.create_task(stopping.wait())
        await asyncio.wait({waiting, serving}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if serving.done():
            serving.result()
            raise HeadwayError("the control API ended by itself; models and gateway go on", hint="headway up")
        asked_to_stop = True
    finally:
        announced.unlink(missing_ok=True)
        server.stop()
        if serving is not None:
            await asyncio.gather(serving, return_exceptions=True)
        if asked_to_stop:
            log.info("stopping gateway and replicas")
            await plane.stop()
        else:
            await plane.abandon()


def _announce(path: Path, settings: Settings, plane: ControlPlane) -> None:
    content = {
        "pid": os.getpid(),
        "control_url": settings.control_url,
        "gateway_url": plane.gateway.status().url,
        "version": __version__,
    }
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(content) + "\n")
    partial.replace(path)


def _info(plane: ControlPlane, started_at: float) -> InfoView:
    gateway = plane.gateway.status()
    return InfoView(
        version=__version__,
        pid=os.getpid(),
        started_at=started_at,
        home=str(plane.home),
        control_url=plane.settings.control_url,
        gateway_url=gateway.url,
        gateway_running=gateway.running,
        gateway_pid=gateway.pid,
        gateway_version=gateway.version,
        gateway_adopted=gateway.adopted,
        models=len(plane.book.all()),
        replicas=len(serving(plane.runtime.observe())),
        require_token=plane.require_token,
        relay=_relay(plane),
        python=platform.python_version(),
    )


def _relay(plane: ControlPlane) -> RelayView | None:
    if plane.relay is None:
        return None
    status = plane.relay.status
    lag_s = 0.0 if status.oldest_at is None else max(0.0, plane.clock.now() - status.oldest_at)
    return RelayView(
        exchange=plane.settings.events_exchange,
        connected=status.connected,
        relayed=status.relayed,
        waiting=status.waiting,
        lag_s=round(lag_s, 3),
        problem=status.problem,
    )


def serve(settings: Settings, *, safeguards: Safeguards | None = None) -> int:
    """Run the control plane until SIGINT, SIGTERM or a shutdown request; then stop all it started.

    Raises ``AlreadyRunning`` (home or port taken), ``InsecureListener``, ``MissingBinary``, ``GatewayFailed``.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    allow_many_files()
    home = settings.home_path
    with (
        home_lock(home),
        contextlib.closing(bind(settings.control_host, settings.control_port)) as listener,
        # uvloop: fifty idle replicas are probed for half of what the standard loop needs.
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(_serve(settings, safeguards or Safeguards(), listener))
    return 0


def clean_up(settings: Settings) -> list[str]:
    """Stop what a crashed control plane left running; what was stopped, a line each.

    Raises ``AlreadyRunning`` while a control plane lives: it has to be asked instead.
    """
    home = settings.home_path
    if not home.exists():
        return []
    with home_lock(home):
        stopped = asyncio.run(_clean_up(settings))
        control_file(home).unlink(missing_ok=True)
    return stopped


async def _clean_up(settings: Settings) -> list[str]:
    # The gateway first, so that requests in flight are still answered by their replicas.
    gateway = gateway_of(settings, Safeguards())
    ran = Path(gateway.internal_address.removeprefix("unix:")).exists()
    quiesce_job_servers(settings.home_path)
    await gateway.stop(stop_gateway=True)
    stopped = [*(["gateway"] if ran else []), *await stop_strays(settings.home_path)]
    return [*stopped, *(["job server"] if await end_job_servers(settings.home_path) else [])]
