"""A gateway in memory: it routes nothing, but takes tables and tells of drains as a real one does.

:class:`MemoryProxy` stands for the proxy's process. It outlives the :class:`MemoryGateway` that looks after
it, as HAProxy outlives the control plane.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping
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
        self.on_held: Callable[[], None] | None = None
        """See the port."""

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
            self.proxy.held.clear()

    async def apply(self, table: RoutingTable) -> bool:
        proxy = self.proxy
        if not self._started or proxy.pid is None:
            raise GatewayFailed("the gateway does not run")
        if table == proxy.table:
            return False
        if proxy.refuse is not None:
            raise GatewayFailed(proxy.refuse)
        proxy.table = table
        for key in proxy.held.keys() - _holding(table):
            del proxy.held[key]
        proxy.applied.append(table)
        return True

    async def drained(self, replica_ids: Collection[str]) -> frozenset[str]:
        return frozenset(replica_ids) - self.proxy.replicas() - self.proxy.busy

    def held(self) -> Mapping[tuple[str, str], int]:
        """See the port."""
        return {key: count for key, count in self.proxy.held.items() if count} if self._started else {}

    def hold(self, model: str, version: str, requests: int = 1) -> None:
        """As if ``requests`` more came. Those that need not, or must not, wait for a first replica are not held."""
        key = (model, version)
        if self.proxy.table is None or key not in _holding(self.proxy.table):
            return
        begins = key not in self.held()
        self.proxy.held[key] = self.proxy.held.get(key, 0) + requests
        if begins and self._started and self.on_held is not None:
            self.on_held()

    def status(self) -> GatewayStatus:
        running = self._started and self.proxy.pid is not None
        return GatewayStatus(
            running=running,
            url=self.proxy.url,
            pid=self.proxy.pid if running else None,
            adopted=self._adopted,
            version="memory",
        )


def _holding(table: RoutingTable) -> set[tuple[str, str]]:
    return {(m.model, v.version) for m in table.models for v in m.versions if v.hold_s > 0 and not v.endpoints}
