"""Runtime: where replicas live."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from headway.domain.replicas import ReplicaSpec, ReplicaStatus, ReplicaTransition


class Runtime(Protocol):
    """Keeps the replicas that it was last told to keep: starts, probes, restarts and stops them.

    Like a kubelet, it owns probes, restart back-off and memory limits; it knows nothing of traffic.
    ``start`` and ``stop`` are idempotent and safe in any order.
    """

    async def start(self) -> None:
        """Adopt what still runs from before (checking identity, not only the pid) and begin to supervise."""
        ...

    async def stop(self, *, stop_replicas: bool) -> None:
        """Stop supervising; with ``stop_replicas`` also stop every replica (gracefully, then by force)."""
        ...

    async def apply(self, desired: Sequence[ReplicaSpec], warm: Sequence[ReplicaSpec] = ()) -> None:
        """The whole desired state. New replicas are started, absent ones stopped gracefully; returns at once.

        ``warm`` are examples of replicas that are to start fast whenever they are asked for, also while none runs:
        one for each version (their names do not matter). The same goes for the versions of ``desired`` replicas that
        say ``warm``. A runtime that cannot, or a version that does not let it, starts them as any other.
        """
        ...

    def observe(self) -> tuple[ReplicaStatus, ...]:
        """Every replica it knows, stopping ones included; those gone are left out."""
        ...

    def transitions(self) -> AsyncIterator[ReplicaTransition]:
        """Every phase change since ``start``, in order, none left out; one consumer. Ends after ``stop``."""
        ...

    def logs(self, replica_id: str, *, tail_lines: int | None, follow: bool) -> AsyncIterator[bytes]:
        """What the replica printed, in chunks, rotated files included; raises ``ReplicaNotFound``."""
        ...
