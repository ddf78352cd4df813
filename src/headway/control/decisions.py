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
from headway.scaling.explain import summary
from headway.scaling.record import decision_of

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
        found = [await self._newest(model, version, at, changed) for version in versions or (None,)]
        return await self._some(model, found)

    async def now_in_force(self, model: str, versions: Collection[str]) -> list[DecisionRecord]:
        """As :meth:`in_force` at this moment: what the autoscaler decided last, if it was worth a record or not.

        The cursor of one that is not recorded is that of the record before it.
        """
        live = self._live(model)
        found: list[DecisionRecord | None] = []
        for version in versions or (None,):
            recorded = await self._log.latest(model, version)
            document = None if version is None else live.get(version)
            if version is None or document is None:
                found.append(recorded)
            else:
                found.append(_record(model, version, document, 0 if recorded is None else recorded.cursor))
        return await self._some(model, found)

    async def _some(self, model: str, found: list[DecisionRecord | None]) -> list[DecisionRecord]:
        records = [record for record in found if record is not None]
        if not records:
            await self._check_known(model)
        return records

    async def _newest(self, model: str, version: str | None, at: float, changed: bool) -> DecisionRecord | None:
        if not changed:
            return await self._log.latest(model, version, at)
        after = math.nextafter(at, math.inf)  # ``read`` ends before ``until``
        found = await self._log.read(model, version=version, until=after, changed=True, limit=1)
        return found[-1] if found else None

    async def _check_known(self, model: str) -> None:
        if not self._known(model) and await self._log.latest(model) is None:
            raise ModelNotFound(f"there is no model {model!r}, and no decision of one", hint="headway list")


def _record(model: str, version: str, document: Document, cursor: int) -> DecisionRecord:
    decision = decision_of(document)
    return DecisionRecord(
        at=decision.at,
        model=model,
        version=version,
        current=decision.current,
        desired=decision.desired,
        binding=decision.binding,
        summary=summary(decision),
        shadow=decision.shadow,
        document=document,
        cursor=cursor,
    )
