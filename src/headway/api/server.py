"""The HTTP server of the control listener: uvicorn with settings that bound what a client can do to it.

* h11, not httptools: it bounds the request head (64 KiB), and this listener needs no speed.
* No access log: it would be the only place where a mistyped ``?token=`` could end up on disk.
* ``timeout_graceful_shutdown``: streams end by themselves when ``closing`` is set; a client that has stopped
  reading cannot take the end, and must not keep the server.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Generator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

from headway.domain.errors import AlreadyRunning

MAX_CONNECTIONS = 1_000
GRACE_S = 3


class ControlServer(uvicorn.Server):
    """A server that leaves signals to the process it runs in and sets ``closing`` before it stops."""

    def __init__(self, config: uvicorn.Config, closing: asyncio.Event) -> None:
        super().__init__(config)
        self._closing = closing

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Signals are the affair of whoever runs the control plane."""
        yield

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's own; connections that did not end within the grace period are cut, not left open."""
        await super().shutdown(sockets)
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def stop(self) -> None:
        """Let ``serve`` return soon: no new connections, streams end, requests in flight finish."""
        self._closing.set()
        self.should_exit = True


def bind(host: str, port: int) -> socket.socket:
    """A listening socket for the control API; :class:`AlreadyRunning` when the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it the body of an answer on a connection that
    # is kept waits 40 ms for the acknowledgement of its head.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise AlreadyRunning(
            f"cannot listen on {host}:{port} for the control API: {error.strerror}",
            hint="choose another with --control-port or HEADWAY_CONTROL_PORT",
        ) from None
    return listener


def create_server(app: ASGIApp, *, host: str, port: int, closing: asyncio.Event) -> ControlServer:
    """A server for ``app`` (``closing``: the event given to ``create_app``); run it with ``await serve()``.

    ``serve(sockets=[...])`` takes sockets that are bound already, so that a taken port is known beforehand.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http="h11",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=GRACE_S,
    )
    # uvicorn leaves its access logger on when anybody has put a handler on it.
    logging.getLogger("uvicorn.access").disabled = True
    return ControlServer(config, closing)
