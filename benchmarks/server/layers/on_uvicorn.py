"""A bare ASGI application on uvicorn (uvloop, httptools). ``python -m benchmarks.server.layers.on_uvicorn CONFIG``."""
# mypy: ignore-errors

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import uvicorn
import uvloop

from headway.domain.errors import HeadwayError, RequestTimeout
from headway.server.limits import BODY_TIMEOUT_TICKS, KEEP_ALIVE_TICKS
from headway.server.listening import open_socket

from .hosting import Host, load_model


class App:
    """ASGI in, :class:`Host` behind it."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def __call__(self, scope, receive, send) -> None:
        host = self._host
        request, reserved = None, 0
        try:
            path, query = scope["raw_path"], scope["query_string"]
            headers = host.headers(len(path) + len(query), scope["headers"])
            message = await receive()
            body = message.get("body", b"")
            if message.get("more_body"):
                try:
                    async with asyncio.timeout(BODY_TIMEOUT_TICKS):
                        body, reserved = await self._rest(body, receive)
                    if body is None:
                        host.lost(headers)
                        return
                except TimeoutError:
                    raise RequestTimeout("the body comes too slowly") from None
            elif message["type"] == "http.disconnect":
                host.lost(headers)
                return

            async def gone() -> None:
                while (await receive())["type"] != "http.disconnect":
                    pass

            method = scope["method"].encode()
            request, response = await host.answer(method, path, query, headers, body, gone)
        except HeadwayError as error:
            response = host.refuse(error)
        finally:
            host.release(reserved)
        if response is None:
            return
        fields = host.fields(request, response)
        await send({"type": "http.response.start", "status": response.status, "headers": fields})
        await send({"type": "http.response.body", "body": response.body})

    async def _rest(self, first: bytes, receive) -> tuple[bytes | None, int]:
        host, body, more, reserved = self._host, bytearray(first), True, 0
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return None, reserved
            body += message.get("body", b"")
            more = message.get("more_body", False)
            host.check_size(len(body))
            host.release(reserved)
            reserved = host.reserve(len(body))
        return bytes(body), reserved


class Server(uvicorn.Server):
    """uvicorn's, which tells the application of SIGTERM before it stops listening."""

    def __init__(self, config, host: Host) -> None:
        super().__init__(config)
        self._host = host

    def handle_exit(self, sig, frame) -> None:
        self._host.drain()
        super().handle_exit(sig, frame)


async def main() -> None:
    config, execution = load_model(Path(sys.argv[1]))
    host = Host(config, execution, asyncio.get_running_loop())
    settings = uvicorn.Config(
        App(host),
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        server_header=False,
        log_level="warning",
        timeout_keep_alive=KEEP_ALIVE_TICKS,
    )
    await Server(settings, host).serve(sockets=[open_socket(config.listen)])
    host.stop()


if __name__ == "__main__":
    uvloop.run(main())
