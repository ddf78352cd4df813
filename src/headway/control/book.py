"""DeploymentBook: the deployments in memory, written through to the store.

There is one control plane per home (it holds a lock on it), so the book is the only writer; every change
goes through :meth:`DeploymentBook.change` with a pure function, one at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from headway.domain.deployments import Deployment
from headway.domain.errors import ModelNotFound
from headway.domain.events import NewEvent
from headway.ports.deployment_store import DeploymentStore


@dataclass(frozen=True, slots=True)
class Changed:
    """The next state of a deployment and the events that tell how it came about."""

    deployment: Deployment
    events: tuple[NewEvent, ...] = ()


class DeploymentBook:
    """Reads are plain dictionary reads; writes are serialised and durable before they are visible."""

    def __init__(self, store: DeploymentStore) -> None:
        self._store = store
        self._deployments: dict[str, Deployment] = {}
        self._lock = asyncio.Lock()
        self._listeners: list[Callable[[], None]] = []

    async def load(self) -> None:
        """Read everything from the store."""
        self._deployments = {d.name: d for d in await self._store.load_all()}

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after every change."""
        self._listeners.append(listener)

    def find(self, name: str) -> Deployment | None:
        """The deployment, or None."""
        return self._deployments.get(name)

    def get(self, name: str) -> Deployment:
        """The deployment, or :class:`ModelNotFound`."""
        found = self._deployments.get(name)
        if found is None:
            known = ", ".join(sorted(self._deployments)[:10]) or "none yet"
            raise ModelNotFound(f"there is no model {name!r}", hint=f"deployed models: {known}")
        return found

    def all(self) -> list[Deployment]:
        """Every deployment, by name."""
        return [self._deployments[name] for name in sorted(self._deployments)]

    async def change(
        self, name: str, step: Callable[[Deployment | None], Changed | None]
    ) -> tuple[Deployment | None, bool]:
        """Apply the pure ``step`` to the newest state of ``name`` and save what it gives.

        ``step`` returns None for "nothing to do". Returns the state after it and whether it was written.
        """
        async with self._lock:
            before = self._deployments.get(name)
            changed = step(before)
            if changed is None or (changed.deployment == before and not changed.events):
                return before, False
            saved = await self._store.save(changed.deployment, changed.events)
            self._deployments[name] = saved
        self._notify()
        return saved, True

    async def delete(self, name: str, events: Sequence[NewEvent]) -> None:
        """Forget ``name`` for good."""
        async with self._lock:
            await self._store.delete(name, events)
            self._deployments.pop(name, None)
        self._notify()

    def _notify(self) -> None:
        for listener in self._listeners:
            listener()
