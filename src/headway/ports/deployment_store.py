"""DeploymentStore: deployments and their versions, saved together with the events that tell of the change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headway.domain.deployments import Deployment
from headway.domain.events import NewEvent


class DeploymentStore(Protocol):
    """State and events are written in one transaction: neither is ever there without the other."""

    async def load_all(self) -> list[Deployment]:
        """Every deployment, by name."""
        ...

    async def save(self, deployment: Deployment, events: Sequence[NewEvent] = ()) -> Deployment:
        """Insert (``resource_version`` 0) or update; the saved one with its new ``resource_version``.

        Raises ``StaleWrite`` when the stored ``resource_version`` is not the given one.
        """
        ...

    async def delete(self, name: str, events: Sequence[NewEvent] = ()) -> None:
        """Remove it for good. Raises ``ModelNotFound``. Its events stay."""
        ...
