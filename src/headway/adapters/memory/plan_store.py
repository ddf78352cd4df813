"""Capacity plans in memory. Nothing survives the process."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import replace

from headway.domain.errors import HeadwayError
from headway.domain.plans import PlanRecord


class MemoryPlanStore:
    """Documents are copied: nobody can change a plan through what they hold."""

    def __init__(self) -> None:
        self._plans: dict[str, list[PlanRecord]] = defaultdict(list)
        self._number = 0

    async def add(self, record: PlanRecord, keep: int = 20) -> PlanRecord:
        """See the port."""
        copied = _copy(record)
        self._number += 1
        stored = replace(copied, number=self._number)
        plans = self._plans[record.model]
        plans.insert(0, stored)
        del plans[max(1, keep) :]
        return _copy(stored)

    async def read(self, model: str, limit: int = 20) -> list[PlanRecord]:
        """See the port."""
        return [_copy(plan) for plan in self._plans.get(model, [])[: max(0, limit)]]


def _copy(record: PlanRecord) -> PlanRecord:
    try:
        document = json.loads(json.dumps(dict(record.document), allow_nan=False))
        resources = json.loads(json.dumps(dict(record.basis.resources), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise HeadwayError(f"the plan of {record.model} is not JSON: {error}") from error
    return replace(record, document=document, basis=replace(record.basis, resources=resources))
