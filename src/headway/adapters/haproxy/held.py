"""How many requests wait for a first replica: HAProxy tells, over a Unix socket, while any do.

A process of HAProxy's connects when a request begins to wait and closes the connection when none does any more. Each
line it writes replaces the one before: ``iris/v1 3 wine/v2 1``. So the count is right again soon after either side
starts anew, and nobody waits for anybody: HAProxy tries to connect twice a second, and holds requests all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

log = logging.getLogger(__name__)

Waiting = Mapping[tuple[str, str], int]
LINE_BYTES = 1024 * 1024


class HeldRequests:
    """The counts, summed over HAProxy's processes; ``on_begin`` is called when a version's rises from nothing."""

    def __init__(self, on_begin: Callable[[], None]) -> None:
        self._on_begin = on_begin
        self._server: asyncio.Server | None = None
        self._told: dict[asyncio.StreamWriter, Waiting] = {}

    async def start(self, socket: Path) -> None:
        """Listen on ``socket``, in place of one that a control plane before us may have left."""
        if self._server is None:
            socket.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._listen, socket, limit=LINE_BYTES)
            socket.chmod(0o600)

    async def stop(self) -> None:
        """Nothing is known of any request from here on."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
            told, self._told = self._told, {}
            for writer in told:
                writer.close()
            await server.wait_closed()

    def counts(self) -> Waiting:
        """By (model, version); those for which nobody waits are left out."""
        total = Counter[tuple[str, str]]()
        for told in self._told.values():
            total.update(told)
        return dict(total)

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._told[writer] = {}
        try:
            with contextlib.suppress(OSError):
                while (line := await reader.readline()) and writer in self._told:
                    before = self.counts()
                    self._told[writer] = parse(line)
                    if self.counts().keys() - before.keys():
                        self._on_begin()
        except ValueError as error:
            log.warning("what HAProxy tells of waiting requests cannot be read: %s", error)
        finally:
            self._told.pop(writer, None)
            writer.close()


def parse(line: bytes) -> Waiting:
    """One line; ``ValueError`` when it is none."""
    words = line.decode("ascii").split()
    found: dict[tuple[str, str], int] = {}
    for key, number in zip(words[::2], words[1::2], strict=True):
        model, _, version = key.partition("/")
        found[model, version] = int(number)
    return found
