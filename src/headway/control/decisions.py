"""Questions about scaling decisions: how each version stands now, what was decided when, and why.

The autoscaler decides every second and records what is worth it, so there are two sources. The newest decision of a
version that is being scaled comes from the autoscaler; what was, and everything of models that are gone, from the log.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from typing import Any

from headway.domain.decisions import DecisionRecord
from headway.domain.errors import ModelNotFound
from headway.ports.clock import Clock
from headway.ports.decision_log import DecisionLog

Document = Mapping[str, Any]
"""A decision as ``headway.scaling.record`` writes it."""


class DecisionService:
    """Decisions of models, deployed or not: a deleted one's stay until they are too old."""

    def __init__(
        self,
        log: DecisionLog,
        live: Callable[[str], Mapping[str, Document]],
        clock: Clock,
        known: Callable[[str], bool],
    ) -> None:
        """``live``: the autoscaler's latest decisions about a model, by version."""
        self._log = log
        self._live = live
        self._clock = clock
        self._known = known

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock.now()

    async def standing(self, model: str, versions: Collection[str]) -> dict[str, Document]:
        """Of each of ``versions`` the latest decision, as far as there is one.

        Right after a start of the control plane it is the last one recorded before.
        """
        live = self._live(model)
        found: dict[str, Document] = {}
        for version in versions:
            if version in live:
                found[version] = live[version]
            elif (record := await self._log.latest(model, version)) is not None:
                found[version] = record.document
        return found

    async def read(
        self,
        model: str,
        *,
        version: str | None = None,
        since: float | None = None,
        until: float | None = None,
        changed: bool = False,
        limit: int,
    ) -> list[DecisionRecord]:
        """The newest ``limit`` with ``since <= at < until``, oldest first; with ``changed`` only such.

        Raises ``ModelNotFound`` for a model that is not deployed and of which nothing was recorded.
        """
        found = await self._log.read(model, version=version, since=since, until=until, changed=changed, limit=limit)
        if not found:
            await self._check_known(model)
        return found

    async def in_force(
        self, model: str, versions: Collection[str], at: float, *, changed: bool = False
    ) -> list[DecisionRecord]:
        """Of each of ``versions`` the newest record not after ``at``; with ``changed`` the newest that changed any.

        Without ``versions``: the newest of all. Raises ``ModelNotFound`` as :meth:`read`.
        """
        found = []
        for version in versions or (None,):
            record = await self._newest(model, version, at, changed)
            if record is not None:
                found.append(record)
        if not found:
            await self._check_known(model)
        return found

    async def _newest(self, model: str, version: str | None, at: float, changed: bool) -> DecisionRecord | None:
        if not changed:
            return await self._log.latest(model, version, at)
        after = math.nextafter(at, math.inf)  # ``read`` ends before ``until``
        found = await self._log.read(model, version=version, until=after, changed=True, limit=1)
        return found[-1] if found else None

    async def _check_known(self, model: str) -> None:
        if not self._known(model) and await self._log.latest(model) is None:
            raise ModelNotFound(f"there is no model {model!r}, and no decision of one", hint="headway list")
