"""MemoryReplicaLogs: logs of replicas as tests write them."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator

from headway.domain.errors import ReplicaNotFound


class MemoryReplicaLogs:
    """The ``ReplicaLogs`` port. ``begin``, ``write`` and ``end`` are what a replica does."""

    def __init__(self) -> None:
        self._printed: dict[str, bytearray] = {}
        self._news: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    async def logs(self, replica_id: str, *, tail_lines: int | None, follow: bool) -> AsyncIterator[bytes]:
        """What was written."""
        if replica_id not in self._printed:
            raise ReplicaNotFound(f"no replica {replica_id}")
        lines = bytes(self._printed[replica_id]).splitlines(keepends=True)
        kept = lines if tail_lines is None else lines[max(0, len(lines) - tail_lines) :]
        position = sum(map(len, lines)) - sum(map(len, kept))
        while (printed := self._printed.get(replica_id)) is not None:
            news = self._news[replica_id]
            if chunk := bytes(printed[position:]):
                position += len(chunk)
                yield chunk
            elif not follow:
                return
            else:
                await news.wait()

    def has(self, replica_id: str) -> bool:
        """Whether there is such a replica."""
        return replica_id in self._printed

    def begin(self, replica_id: str) -> None:
        """There is such a replica, which has printed nothing."""
        self._printed.setdefault(replica_id, bytearray())

    def write(self, replica_id: str, text: bytes) -> None:
        """It prints ``text``."""
        self.begin(replica_id)
        self._printed[replica_id] += text
        self._news.pop(replica_id, asyncio.Event()).set()

    def end(self, replica_id: str) -> None:
        """It is gone."""
        self._printed.pop(replica_id, None)
        self._news.pop(replica_id, asyncio.Event()).set()
