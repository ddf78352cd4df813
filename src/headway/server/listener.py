"""Serving: connections, the one-second tick, and the way out: drain on SIGTERM or SIGINT.

Draining, in this order: not ready, and ``Connection: close`` on every answer; after ``drain_delay_s`` no new
connections and idle ones closed; when the last request is answered, done. How long that may take is for
whoever sent the signal to bound.

In a seat of several workers (:class:`~headway.server.worker_board.Seat`) the socket is shared, metrics are summed, and
ready means that all of them are.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Final

import msgspec

from headway.server.acceptor import Acceptor
from headway.server.app import Application
from headway.server.config import ServerConfig
from headway.server.connections import Shared
from headway.server.execution import Execution
from headway.server.http import Renderer
from headway.server.listening import BACKLOG, bound_address, open_socket, remove_socket, socket_inode
from headway.server.protocol import HttpProtocol
from headway.server.query_log import QueryLogWriter, writer_of
from headway.server.shadow import ShadowSender
from headway.server.shared_metrics import SharedMetrics
from headway.server.stats_page import page_of, page_of_worker
from headway.server.worker_board import Phase, Seat

if TYPE_CHECKING:
    from headway.server.job_worker import JobWorker

log = logging.getLogger("headway.server")

TICK_S: Final = 1.0
DRAIN_CHECK_S: Final = 0.02
SWITCH_INTERVAL_S: Final = 0.001

_NOT_READY: Final = {
    Phase.STARTING: "not all workers of this replica serve yet",
    Phase.SERVING: None,
    Phase.DRAINING: "this replica is draining",
}


class ModelServer:
    """Serves one model until it is told to stop; ``seat`` is this process's among several workers."""

    def __init__(
        self,
        config: ServerConfig,
        execution: Execution,
        seat: Seat | None = None,
        listens: Callable[[], None] | None = None,
    ) -> None:
        if config.job_server is not None:
            from headway.server.job_boot import for_jobs  # what only workers need

            config = for_jobs(config)
        self._config = config if seat is None else _share_of(config)
        self._execution = execution
        self._seat = seat
        self._listens = listens
        self._stop = asyncio.Event()
        self._worker: JobWorker | None = None

    def stop(self) -> None:
        """Begin to drain; :meth:`serve` returns when all is answered. Again: a worker gives back what still runs."""
        if self._stop.is_set() and self._worker is not None:
            self._worker.hurry()
        self._stop.set()

    async def serve(self, opened: socket.socket) -> None:
        """Serve on ``opened`` until :meth:`stop`; closes it."""
        loop = asyncio.get_running_loop()
        config = self._config
        shadow = None
        if config.shadow_gateway is not None:
            shadow = ShadowSender(config.shadow_gateway.removeprefix("unix:"), config.model)
            shadow.start()
        query_log = writer_of(config, self._execution.model.columns())
        if query_log is not None:
            query_log.start(loop)
        app = Application(config, self._execution, loop, shadow, query_log)
        renderer = Renderer(version=config.version, replica_id=config.replica_id, now=time.time())
        shared = Shared(app.handle, renderer, max_body_bytes=config.options.max_body_bytes, unhandled=app.unhandled)
        server = await self._listen(loop, shared, opened)
        self._count(app)
        metrics = self._take_seat(app)
        if self._listens is not None:
            self._listens()
        ticking = asyncio.create_task(self._tick(app, shared, server))
        worker = self._worker = self._work(app, query_log)
        try:
            await self._stop.wait()
            app.drain()
            shared.draining = True
            if worker is not None:
                await worker.drain()
            if config.drain_delay_s > 0:
                await asyncio.sleep(config.drain_delay_s)
            server.close()
            for connection in tuple(shared.connections):
                connection.close_if_idle()
            # Polled, so that the hot path need not keep count for it.
            while _accepting(server) or any(connection.busy for connection in shared.connections):  # noqa: ASYNC110
                await asyncio.sleep(DRAIN_CHECK_S)
        finally:
            ticking.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await ticking
            server.close()
            for connection in tuple(shared.connections):
                connection.close_if_idle()
            if shadow is not None:
                await shadow.stop()
            app.predictor.stop()
            app.stats.close()
            if query_log is not None:
                query_log.stop()
            if metrics is not None:
                metrics.publish(app.telemetry.snapshot())

    async def _listen(
        self, loop: asyncio.AbstractEventLoop, shared: Shared, opened: socket.socket
    ) -> asyncio.Server | Acceptor:
        def connection() -> HttpProtocol:
            return HttpProtocol(shared)

        opened.setblocking(False)
        seat = self._seat
        if seat is not None:
            acceptor = Acceptor(opened, connection, seat.board, seat.slot, lambda: len(shared.connections))
            acceptor.start()
            return acceptor
        if opened.family == socket.AF_UNIX:
            return await loop.create_unix_server(connection, sock=opened, backlog=BACKLOG)
        return await loop.create_server(connection, sock=opened, backlog=BACKLOG)

    def _work(self, app: Application, query_log: QueryLogWriter | None) -> JobWorker | None:
        """Begin to take jobs, if this process is a worker."""
        if self._config.job_server is None:
            return None
        from headway.server.job_boot import worker_of
        from headway.server.job_run import JobExecution

        assert isinstance(self._execution, JobExecution)
        worker = worker_of(self._config, app, self._execution, query_log)
        worker.start()
        return worker

    def _count(self, app: Application) -> None:
        """Keep the stats page, or one worker's place of it."""
        if self._seat is None:
            app.count_on(page_of(self._config))
        else:
            app.count_on(page_of_worker(self._config, self._seat), self._seat.slot)

    def _take_seat(self, app: Application) -> SharedMetrics | None:
        """Count with the other workers, be ready when all are, and say that this one listens."""
        seat = self._seat
        if seat is None:
            return None
        metrics = app.telemetry.shared = SharedMetrics(seat.board, seat.slot)
        metrics.beat()
        metrics.publish(app.telemetry.snapshot())
        app.health.obstacle = lambda: _NOT_READY[metrics.phase]
        os.write(seat.report, b"l")
        os.close(seat.report)
        return metrics

    async def _tick(self, app: Application, shared: Shared, server: asyncio.Server | Acceptor) -> None:
        metrics = app.telemetry.shared
        while True:
            await asyncio.sleep(TICK_S)
            shared.tick += 1
            shared.renderer.set_date(time.time())
            for connection in tuple(shared.connections):
                connection.check(shared.tick)
            app.stats.publish()
            if metrics is not None and self._seat is not None:
                if os.getppid() != self._seat.parent:  # where the kernel does not see to it
                    os._exit(0)
                metrics.beat()
                metrics.publish(app.telemetry.snapshot())
                if isinstance(server, Acceptor):
                    server.count()


def serve(config: ServerConfig, execution: Execution, listens: Callable[[], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return; the socket file is removed.

    ``listens`` is called once requests are answered.
    """

    async def main(server: ModelServer) -> None:
        opened = open_socket(config.listen)
        address = bound_address(opened, config.listen)
        inode = socket_inode(address)
        log.info("listening on %s", address)
        try:
            await server.serve(opened)
        finally:
            remove_socket(address, inode)

    _run(ModelServer(config, execution, listens=listens), main)


def serve_seat(config: ServerConfig, execution: Execution, opened: socket.socket, seat: Seat) -> None:
    """Serve as one worker of several, on the socket of all, until SIGTERM or SIGINT; then drain and return."""
    _run(ModelServer(config, execution, seat), lambda server: server.serve(opened))


def _run(server: ModelServer, main: Callable[[ModelServer], Coroutine[None, None, None]]) -> None:
    # Python code that predicts on its thread hands over the interpreter this often (default: 5 ms), so that health
    # checks and refusals are answered in time: each takes the interpreter a few times.
    sys.setswitchinterval(SWITCH_INTERVAL_S)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        # Before anybody can find the socket: from then on being told to stop means to drain.
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        await main(server)

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run())


def _accepting(server: asyncio.Server | Acceptor) -> bool:
    return isinstance(server, Acceptor) and server.opening


def _share_of(config: ServerConfig) -> ServerConfig:
    """One worker's part of what the replica may hold, rounded up."""
    options = config.options
    share = -(-options.max_queue // options.workers)
    return msgspec.structs.replace(config, options=msgspec.structs.replace(options, max_queue=share))


def loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed; None: asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop
