"""JobBroker: tells job servers that there is work for a model. It carries wake-ups, and nothing depends on them.

The database is the truth of a job. A message says "there is work for this model" and names the job that gave rise to
it; whoever gets it claims the best job that is due, and settles the message once the lease is stored. A message that
is lost is mended by the sweep, one that is repeated finds nothing to claim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Wakeup:
    """A message, in the hands of this process until it is settled."""

    model: str
    job_id: str
    ticket: Any = None
    """The adapter's own; not for others."""


class JobBroker(Protocol):
    """Reconnects by itself. What cannot be done while there is no connection raises ``BrokerFailed``."""

    on_wakeup: Callable[[Wakeup], None] | None
    """Called, in the event loop, with each message."""

    async def start(self) -> None:
        """Begin to connect; returns at once, also while the broker cannot be reached. Again: nothing."""
        ...

    async def stop(self) -> None:
        """Let go: what is not settled, another process gets. Again: nothing."""
        ...

    async def announce(self, jobs: Sequence[tuple[str, str]]) -> None:
        """Tell of work: ``(model, job id)`` each. The broker holds the messages when it returns."""
        ...

    def expect(self, model: str, most: int) -> None:
        """From now on at most ``most`` messages of ``model`` are in this process's hands; 0: none are wanted, and
        after a moment what is not settled goes to others."""
        ...

    async def settle(self, wakeups: Sequence[Wakeup], *, again: bool = False) -> None:
        """They are done with; ``again``: somebody else shall have them. One of a connection that broke since is
        handed out again by the broker itself."""
        ...

    @property
    def connected(self) -> bool:
        """As last seen."""
        ...
