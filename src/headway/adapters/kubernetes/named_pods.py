"""NamedPodStats: what the pods behind a DNS name use, where nobody may ask the API server which pods there are.

The name is that of a headless Service: its addresses are those of its pods that are ready. A cluster's DNS may be half
a minute late with them.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import Final

from headway.adapters.kubernetes.pod_stats import PodStats
from headway.ports.clock import Clock
from headway.ports.replica_stats import ReplicaStat

AGAIN_S: Final = 1.0
"""Between two questions for the name."""
PATIENCE_S: Final = 0.2
"""How long a reading waits for the name: one that takes longer is there for the next reading."""


class NamedPodStats:
    """The ``RemoteStats`` port. Each address is a replica, and its id."""

    def __init__(self, name: str, port: int, clock: Clock) -> None:
        self._name = name
        self._port = port
        self._clock = clock
        self._addresses: Mapping[str, str] = {}
        self._stats = PodStats(lambda: self._addresses, clock)
        self._asking: asyncio.Task[None] | None = None
        self._asked_at = float("-inf")

    async def read(self) -> tuple[ReplicaStat, ...]:
        """See the port."""
        now = self._clock.monotonic()
        if self._asking is None and now - self._asked_at >= AGAIN_S:
            self._asked_at = now
            self._asking = asyncio.create_task(self._resolve(), name=f"addresses of {self._name}")
        if self._asking is not None:
            await asyncio.wait([self._asking], timeout=PATIENCE_S)
        return await self._stats.read()

    async def close(self) -> None:
        """See the port."""
        asking, self._asking = self._asking, None
        if asking is not None:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        await self._stats.close()

    async def _resolve(self) -> None:
        try:
            found = await asyncio.get_running_loop().getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
                return  # whoever was there is there still, as far as is known
            found = []  # no pod is ready, or nobody knows such names
        finally:
            self._asking = None
        hosts = sorted({str(place[0]) for *_, place in found})
        self._addresses = {host: f"[{host}]:{self._port}" if ":" in host else f"{host}:{self._port}" for host in hosts}
