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
from headway.domain.names import version_number
from headway.domain.replicas import Role
from headway.ports.clock import Clock
from headway.ports.decision_log import DecisionLog
from headway.scaling.explain import summary, worded
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
        live_workers: Callable[[str], Mapping[str, Document]] | None = None,
    ) -> None:
        """``live``: the latest decisions about a model's replicas, by version; ``live_workers``: about its workers."""
        self._log = log
        self._of: dict[Role, Callable[[str], Mapping[str, Document]]] = {"serve": live}
        if live_workers is not None:
            self._of["work"] = live_workers
        self._clock = clock
        self._known = known

    def now(self) -> float:
        """Seconds since the epoch."""
        return self._clock.now()

    async def standing(self, model: str, versions: Collection[str]) -> dict[str, Document]:
        """Of each of ``versions`` the latest decision, as far as there is one.

        Right after a start of the control plane it is the last one recorded before.
        """
        live = self._live(model, "serve")
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
        role: Role = "serve",
        limit: int,
    ) -> list[DecisionRecord]:
        """The newest ``limit`` with ``since <= at < until``, oldest first; with ``changed`` only such.

        Raises ``ModelNotFound`` for a model that is not deployed and of which nothing was recorded.
        """
        found = await self._log.read(
            model, version=version, since=since, until=until, changed=changed, role=role, limit=limit
        )
        if not found:
            await self._check_known(model)
        return found

    async def in_force(
        self, model: str, versions: Collection[str], at: float, *, changed: bool = False, role: Role = "serve"
    ) -> list[DecisionRecord]:
        """Of each of ``versions`` the newest record not after ``at``; with ``changed`` the newest that changed any.

        Without ``versions``: the newest of all. Raises ``ModelNotFound`` as :meth:`read`.
        """
        found = [await self._newest(model, version, at, changed, role) for version in versions or (None,)]
        return await self._some(model, found)

    async def now_in_force(self, model: str, versions: Collection[str], role: Role = "serve") -> list[DecisionRecord]:
        """As :meth:`in_force` at this moment: what was decided last, if it was worth a record or not.

        The cursor of one that is not recorded is that of the record before it.
        """
        live = self._live(model, role)
        found: list[DecisionRecord | None] = []
        for version in versions or (None,):
            recorded = await self._log.latest(model, version, role=role)
            document = None if version is None else live.get(version)
            if version is None or document is None:
                found.append(recorded)
            else:
                found.append(_record(model, version, document, 0 if recorded is None else recorded.cursor, role))
        return await self._some(model, found)

    async def _some(self, model: str, found: list[DecisionRecord | None]) -> list[DecisionRecord]:
        records = [record for record in found if record is not None]
        if not records:
            await self._check_known(model)
        return records

    def worked(self, model: str) -> list[str]:
        """Versions of ``model`` about whose workers something is decided now."""
        return sorted(self._live(model, "work"), key=version_number)

    def _live(self, model: str, role: Role) -> Mapping[str, Document]:
        return self._of[role](model) if role in self._of else {}

    async def _newest(
        self, model: str, version: str | None, at: float, changed: bool, role: Role
    ) -> DecisionRecord | None:
        if not changed:
            return await self._log.latest(model, version, at, role=role)
        after = math.nextafter(at, math.inf)  # ``read`` ends before ``until``
        found = await self._log.read(model, version=version, until=after, changed=True, role=role, limit=1)
        return found[-1] if found else None

    async def _check_known(self, model: str) -> None:
        if self._known(model):
            return
        if await self._log.latest(model) is None and await self._log.latest(model, role="work") is None:
            raise ModelNotFound(f"there is no model {model!r}, and no decision of one", hint="headway list")


def _record(model: str, version: str, document: Document, cursor: int, role: Role) -> DecisionRecord:
    decision = decision_of(document)
    return DecisionRecord(
        at=decision.at,
        model=model,
        version=version,
        current=decision.current,
        desired=decision.desired,
        binding=worded(decision.binding, role),
        summary=worded(summary(decision), role),
        shadow=decision.shadow,
        document=document,
        cursor=cursor,
        role=role,
    )
