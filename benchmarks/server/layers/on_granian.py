"""An RSGI application on Granian. ``python -m benchmarks.server.layers.on_granian CONFIG``.

Granian loads the application in a process of its own that it starts; the config's path goes there by environment.
"""
# mypy: ignore-errors

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings

from headway.domain.errors import HeadwayError, RequestTimeout
from headway.server.config import read_config
from headway.server.limits import BODY_TIMEOUT_TICKS, HEADER_TIMEOUT_TICKS

from .hosting import Host, load_model

VARIABLE = "HEADWAY_BENCH_CONFIG"


class App:
    """RSGI in, :class:`Host` behind it."""

    def __init__(self, config_file: Path) -> None:
        self._config, self._execution = load_model(config_file)
        self._host: Host | None = None

    def __rsgi_init__(self, loop) -> None:
        self._host = Host(self._config, self._execution, loop)

    def __rsgi_del__(self, loop) -> None:
        self._host.stop()

    async def __rsgi__(self, scope, protocol) -> None:
        host = self._host
        request, reserved = None, 0
        try:
            path, query = scope.path.encode(), scope.query_string.encode()
            fields = ((name.encode(), value.encode("latin-1")) for name, value in scope.headers.items())
            headers = host.headers(len(path) + len(query), fields)
            length = headers.get(b"content-length")
            if length is not None:
                reserved = host.reserve(int(length))
                body = await self._whole(protocol)
            elif b"transfer-encoding" in headers:
                body, reserved = await self._chunks(protocol)
            else:
                body = b""
            method = scope.method.encode()
            request, response = await host.answer(method, path, query, headers, body, protocol.client_disconnect)
        except TimeoutError:
            response = host.refuse(RequestTimeout("the body comes too slowly"))
        except HeadwayError as error:
            response = host.refuse(error)
        finally:
            host.release(reserved)
        if response is None:
            return
        answer = [(name.decode(), value.decode()) for name, value in host.fields(request, response)]
        protocol.response_bytes(response.status, answer, response.body)

    async def _whole(self, protocol) -> bytes:
        # Always with a timer: Granian has none for bodies, and whether this one is here already it does not tell.
        async with asyncio.timeout(BODY_TIMEOUT_TICKS):
            return await protocol()

    async def _chunks(self, protocol) -> tuple[bytes, int]:
        host, body, reserved = self._host, bytearray(), 0
        async with asyncio.timeout(BODY_TIMEOUT_TICKS):
            async for chunk in protocol:
                body += chunk
                host.check_size(len(body))
                host.release(reserved)
                reserved = host.reserve(len(body))
        return bytes(body), reserved


def load(target: str) -> App:
    """The application, in the worker's process."""
    return App(Path(os.environ[VARIABLE]))


def main() -> None:
    os.environ[VARIABLE] = sys.argv[1]
    address, _, port = read_config(Path(sys.argv[1])).listen.removeprefix("tcp:").rpartition(":")
    Granian(
        "headway",
        address=address,
        port=int(port),
        interface=Interfaces.RSGI,
        workers=1,
        runtime_threads=1,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=False,
        backlog=4096,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT_TICKS * 1000),
        log_access=False,
        log_level="warning",
    ).serve(target_loader=load)


if __name__ == "__main__":
    main()
