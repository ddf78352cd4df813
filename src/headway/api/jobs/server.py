"""The HTTP servers of a job server: uvicorn on two Unix sockets, for this user alone.

The sockets are bound under another name first and moved into place, so a caller meets the old one or the new one, never
none while there is one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from pathlib import Path
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from headway.api.server import ControlServer

MOST_CONNECTIONS: Final = 4_000
GRACE_S: Final = 5
BACKLOG: Final = 1_024


def bind_unix(path: Path) -> socket.socket:
    """A listening socket at ``path``, in place of whatever was there. Raises ``OSError``."""
    draft = path.with_name(f"{path.name}.{os.getpid() % 1_000_000}")
    draft.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(draft))
        draft.chmod(0o600)
        listener.listen(BACKLOG)
        draft.replace(path)
    except BaseException:
        listener.close()
        draft.unlink(missing_ok=True)
        raise
    return listener


def create_job_server(app: ASGIApp, closing: asyncio.Event) -> ControlServer:
    """A server for ``app``; run it with ``await serve(sockets=[…])``. Waits and streams end when ``closing`` is set."""
    config = uvicorn.Config(
        app,
        http="httptools",
        loop="none",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=GRACE_S,
        backlog=BACKLOG,
    )
    logging.getLogger("uvicorn.access").disabled = True
    return ControlServer(config, closing)
