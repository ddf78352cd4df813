"""An HTTP server that says what a test tells it to, at the level of bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json


class CannedHttp:
    """One answer for whatever is asked; every request is kept."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests: list[str] = []
        self._answer: bytes = b""
        self._complete = True
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def say(self, body: object, status: int = 200, *, head: str = "", stall: bool = False) -> None:
        """``body``: bytes as they are, anything else as JSON. ``stall``: promise one byte more, and never send it."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        length = len(content) + stall
        self._answer = f"HTTP/1.1 {status} Said\r\ncontent-length: {length}\r\n{head}\r\n".encode() + content
        self._complete = not stall

    def say_bytes(self, answer: bytes) -> None:
        """Not even HTTP; the connection ends with it."""
        self._answer, self._complete = answer, False

    async def __aenter__(self) -> CannedHttp:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(asyncio.CancelledError, asyncio.IncompleteReadError, OSError):
                while True:
                    request = await reader.readuntil(b"\r\n\r\n")
                    self.requests.append(request.decode())
                    writer.write(self._answer)
                    await writer.drain()
                    if not self._complete and self._answer.startswith(b"HTTP/1.1 "):
                        await asyncio.Event().wait()
                    if not self._complete:
                        return
        finally:
            self._tasks.discard(task)
            writer.transport.abort()
