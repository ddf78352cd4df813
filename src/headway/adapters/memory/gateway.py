"""A gateway in memory: it routes nothing, but takes tables and tells of drains as a real one does.

:class:`MemoryProxy` stands for the proxy's process. It outlives the :class:`MemoryGateway` that looks after
it, as HAProxy outlives the control plane.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from headway.domain.errors import GatewayFailed
from headway.domain.routing_table import RoutingTable
from headway.ports.gateway import GatewayStatus

_pids = itertools.count(1)


@dataclass
class MemoryProxy:
    """The proxy's process. A test says which replicas it is ``busy`` with, and makes it ``refuse`` tables."""

    url: str = "http://127.0.0.1:8420"
    pid: int | None = None
    """None while it does not run."""
    table: RoutingTable | None = None
    applied: list[RoutingTable] = field(default_factory=list)
    """Every table that changed something, in order."""
    busy: set[str] = field(default_factory=set)
    """Replicas with a request on its way to them."""
    refuse: str | None = None
    """Why the next tables are refused; None: they are taken."""
    held: dict[tuple[str, str], int] = field(default_factory=dict)
    """Requests that wait for a first replica, by (model, version)."""

    def replicas(self) -> frozenset[str]:
        """Every replica in the table in force."""
        models = self.table.models if self.table is not None else ()
        return frozenset(e.replica_id for m in models for v in m.versions for e in v.endpoints)


class MemoryGateway:
    """Keeps the contract of the port on a :class:`MemoryProxy`, by default one of its own."""

    def __init__(self, proxy: MemoryProxy | None = None) -> None:
        self.proxy = proxy if proxy is not None else MemoryProxy()
        self._started = False
        self._adopted = False

    async def start(self) -> None:
        if self._started:
            return
        self._started = True
        self._adopted = self.proxy.pid is not None
        if not self._adopted:
            self.proxy.pid = next(_pids)
            self.proxy.table = None

    async def stop(self, *, stop_gateway: bool) -> None:
        self._started = False
        if stop_gateway:
            self.proxy.pid = None
            self.proxy.table = None
            self.proxy.busy.clear()

    async def apply(self, table: RoutingTable) -> bool:
        proxy = self.proxy
        if not self._started or proxy.pid is None:
            raise GatewayFailed("the gateway does not run")
        if table == proxy.table:
            return False
        if proxy.refuse is not None:
            raise GatewayFailed(proxy.refuse)
        proxy.table = table
        proxy.applied.append(table)
        return True

    async def drained(self, replica_ids: Collection[str]) -> frozenset[str]:
        return frozenset(replica_ids) - self.proxy.replicas() - self.proxy.busy

    def held(self) -> Mapping[tuple[str, str], int]:
        """See the port."""
        return {key: count for key, count in self.proxy.held.items() if count}

    def status(self) -> GatewayStatus:
        running = self._started and self.proxy.pid is not None
        return GatewayStatus(
            running=running,
            url=self.proxy.url,
            pid=self.proxy.pid if running else None,
            adopted=self._adopted,
            version="memory",
        )
