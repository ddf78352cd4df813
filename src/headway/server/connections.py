"""What all connections of one server share: where requests go, limits, and the tick that is their clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from headway.domain.errors import Overloaded
from headway.server.http import Renderer, Request, Response
from headway.server.limits import MAX_CONNECTIONS


class Connection(Protocol):
    """One open connection, as the server looks after it."""

    @property
    def busy(self) -> bool:
        """Whether a request has begun to arrive or waits for its answer."""
        ...

    def close_if_idle(self) -> None:
        """Close unless :attr:`busy`."""
        ...

    def check(self, tick: int) -> None:
        """End what takes too long; called once a second."""
        ...


class Shared:
    """What all connections of a server share."""

    def __init__(
        self,
        handle: Callable[[Request], Response | None],
        renderer: Renderer,
        *,
        max_body_bytes: int,
        unhandled: Callable[[Request, int, int], None] = lambda request, status, bytes_out: None,
    ) -> None:
        self.handle = handle
        self.unhandled = unhandled
        """Told of a request that never reached ``handle``: its status, the size of its answer's body."""
        self.renderer = renderer
        self.max_body_bytes = max_body_bytes
        self.body_budget = max(256 * 1024 * 1024, 2 * max_body_bytes)
        """Bytes that bodies above 64 KiB may still take, all connections together."""
        self.max_connections = MAX_CONNECTIONS
        self.connections: set[Connection] = set()
        self.draining = False
        self.tick = 0

    def reserve(self, size: int, held: int) -> int:
        """Take what lacks to ``size`` bytes from the budget of bodies, beyond those ``held``. Raises ``Overloaded``."""
        if size - held > self.body_budget:
            raise Overloaded("too many large bodies at once", details={"retry_after_s": 1})
        self.body_budget -= size - held
        return size
