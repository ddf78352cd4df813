"""Calls that cost their caller little, so that a benchmark of two cores measures the other side: HTTP/1.1 by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any


class Connection:
    """One keep-alive connection to 127.0.0.1."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._reader: asyncio.StreamReader
        self._writer: asyncio.StreamWriter

    async def open(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=1 << 26)
        return self

    def close(self) -> None:
        self._writer.close()

    async def call(self, method: str, path: str, body: bytes = b"", kind: str = "application/json") -> tuple[int, Any]:
        """Status and JSON of the answer."""
        head = f"{method} {path} HTTP/1.1\r\nhost: h\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        answer = await self._reader.readuntil(b"\r\n\r\n")
        length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        return int(answer[9:12]), json.loads(await self._reader.readexactly(length))


async def many(port: int, connections: int, number: int, one: Callable[[Connection, int], Awaitable[None]]) -> None:
    """``one`` for every number below ``number``, over so many connections at a time."""
    numbers = iter(range(number))

    async def caller() -> None:
        connection = await Connection(port).open()
        try:
            for each in numbers:
                await one(connection, each)
        finally:
            connection.close()

    await asyncio.gather(*(caller() for _ in range(connections)))
