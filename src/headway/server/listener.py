"""The listening socket, the one-second tick, and the way out: drain on SIGTERM or SIGINT.

Draining, in this order: not ready, and ``Connection: close`` on every answer; after ``drain_delay_s`` no new
connections and idle ones closed; when the last request is answered, done. How long that may take is for
whoever sent the signal to bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import stat
import time
from pathlib import Path

from headway.domain.errors import InvalidSpec
from headway.server.app import Application
from headway.server.config import ServerConfig
from headway.server.connections import Shared
from headway.server.execution import Execution
from headway.server.http import Renderer
from headway.server.protocol import HttpProtocol
from headway.server.query_log import writer_of
from headway.server.shadow import ShadowSender

log = logging.getLogger("headway.server")

BACKLOG = 4096
TICK_S = 1.0
DRAIN_CHECK_S = 0.02


def open_socket(listen: str) -> socket.socket:
    """A bound, listening socket for ``unix:/path`` or ``tcp:host:port``.

    A socket file left behind by an earlier process is replaced; any other file at the path is not.
    """
    scheme, _, address = listen.partition(":")
    if scheme == "unix" and address:
        return _open_unix(address)
    host, _, port = address.rpartition(":")
    if scheme != "tcp" or not host or not port.isdigit() or int(port) > 65535:
        raise InvalidSpec(f"listen address {listen!r}", hint="unix:/path or tcp:host:port")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, int(port)), family=family, backlog=BACKLOG)


def _open_unix(path: str) -> socket.socket:
    """Bound under another name and moved into place: at no moment is there no socket at ``path``."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EADDRINUSE, f"a file that is no socket is in the way ({path})")
    fresh = f"{path}.n"
    Path(fresh).unlink(missing_ok=True)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            opened.bind(fresh)
        finally:
            os.umask(before)
        opened.listen(BACKLOG)
        os.replace(fresh, path)
    except OSError as error:
        opened.close()
        raise OSError(error.errno, f"{error.strerror} ({path})") from None
    return opened


def bound_address(opened: socket.socket, listen: str) -> str:
    """``listen`` with the port that was chosen."""
    if opened.family == socket.AF_UNIX:
        return listen
    host, port = opened.getsockname()[:2]
    return f"tcp:[{host}]:{port}" if opened.family == socket.AF_INET6 else f"tcp:{host}:{port}"


class ModelServer:
    """Serves one model until it is told to stop."""

    def __init__(self, config: ServerConfig, execution: Execution) -> None:
        self._config = config
        self._execution = execution
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Begin to drain; :meth:`serve` returns when all is answered. Idempotent."""
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
        ticking = asyncio.create_task(self._tick(shared))
        try:
            await self._stop.wait()
            app.drain()
            shared.draining = True
            if config.drain_delay_s > 0:
                await asyncio.sleep(config.drain_delay_s)
            server.close()
            for connection in tuple(shared.connections):
                connection.close_if_idle()
            # Polled, so that the hot path need not keep count for it.
            while any(connection.busy for connection in shared.connections):  # noqa: ASYNC110
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
            if query_log is not None:
                query_log.stop()

    async def _listen(self, loop: asyncio.AbstractEventLoop, shared: Shared, opened: socket.socket) -> asyncio.Server:
        def connection() -> HttpProtocol:
            return HttpProtocol(shared)

        opened.setblocking(False)
        if opened.family == socket.AF_UNIX:
            return await loop.create_unix_server(connection, sock=opened, backlog=BACKLOG)
        return await loop.create_server(connection, sock=opened, backlog=BACKLOG)

    async def _tick(self, shared: Shared) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            shared.tick += 1
            shared.renderer.set_date(time.time())
            for connection in tuple(shared.connections):
                connection.check(shared.tick)


def serve(config: ServerConfig, execution: Execution, opened: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, then drain and return; the socket file is removed."""
    address = bound_address(opened, config.listen)
    inode = _inode(address)

    async def main() -> None:
        server = ModelServer(config, execution)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        log.info("listening on %s", address)
        await server.serve(opened)

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(main())
    finally:
        # Not the file of a successor that took over the path.
        if inode is not None and _inode(address) == inode:
            Path(address.removeprefix("unix:")).unlink(missing_ok=True)


def _inode(address: str) -> tuple[int, int] | None:
    if not address.startswith("unix:"):
        return None
    try:
        found = os.stat(address.removeprefix("unix:"))
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.Loop
