"""ReplicaLogs: what replicas print. A runtime of this machine has them too; on a cluster they are all that is asked of
pods themselves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol


class ReplicaLogs(Protocol):
    """Also of replicas that are about to end."""

    def logs(self, replica_id: str, *, tail_lines: int | None, follow: bool) -> AsyncIterator[bytes]:
        """What the replica printed, in chunks; raises ``ReplicaNotFound``.

        ``tail_lines``: no more than so many last lines. ``follow``: go on until it ends. One that has not begun has
        printed nothing.
        """
        ...
