"""Gateway: the proxy in front of the replicas."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

from headway.domain.routing_table import RoutingTable


@dataclass(frozen=True, slots=True)
class GatewayStatus:
    """``url`` is where clients call; ``adopted`` tells that it outlived an earlier control plane."""

    running: bool
    url: str
    pid: int | None = None
    adopted: bool = False
    version: str = ""


class Gateway(Protocol):
    """Takes the whole routing table, compares, and changes only what differs, dropping no request."""

    on_held: Callable[[], None] | None
    """Called, in the event loop, as soon as a request begins to wait for a version for which none waited."""

    async def start(self) -> None:
        """Adopt the running gateway or start one; it stays up by itself from then on."""
        ...

    async def stop(self, *, stop_gateway: bool) -> None:
        """Stop looking after it; with ``stop_gateway`` also stop it, letting requests in flight finish."""
        ...

    async def apply(self, table: RoutingTable) -> bool:
        """Make ``table`` the routing. True when anything changed. ``GatewayFailed``: the old one stays."""
        ...

    async def drained(self, replica_ids: Collection[str]) -> frozenset[str]:
        """Those of ``replica_ids`` to which no request is, or can any longer be, on its way."""
        ...

    def held(self) -> Mapping[tuple[str, str], int]:
        """How many requests wait for a first replica now, by (model, version); those with none are left out.

        A request is held when its version's route says so (``VersionRoute.hold_s``) and no replica can be reached.
        """
        ...

    def status(self) -> GatewayStatus:
        """As last seen."""
        ...
