"""An HTTP server in this process that answers every POST as it is told to: what load generators are tried on."""

from __future__ import annotations

import asyncio
import re
import socket

_HEAD = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class ScriptedModel:
    """Listens on loopback from :meth:`start` to :meth:`stop`."""

    def __init__(self) -> None:
        self.status = 200
        self.refuses = b"\0"
        """Bodies that begin so are refused, as Headway does."""
        self.hangs = False
        self.closes = False
        """After each answer, without saying so beforehand."""
        self.bodies: list[bytes] = []
        self.heads: list[bytes] = []
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port: int = found.getsockname()[1]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/models/iris"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            for writer in tuple(self._open):
                writer.transport.abort()
            await self._server.wait_closed()
            self._server = None

    def _stats(self) -> bytes:
        """Of a model server that keeps half a core busy."""
        at = asyncio.get_running_loop().time()
        body = b'{"epoch": "1", "at": %f, "cpu_s": %f, "memory_bytes": 1048576}' % (at, at / 2)
        return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET /stats "):
                    writer.write(self._stats())
                    continue
                found = _HEAD.search(head)
                self.bodies.append(await reader.readexactly(int(found[1]) if found else 0))
                self.heads.append(head)
                if self.hangs:
                    await reader.read()
                    return
                status, body = self.status, b"[]"
                if self.bodies[-1].startswith(self.refuses):
                    status, body = 400, b'{"error": {"code": "invalid_input", "message": "not such a body"}}'
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))
                await writer.drain()
                if self.closes:
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._open.discard(writer)
            writer.close()
