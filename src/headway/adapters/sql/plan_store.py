"""Capacity plans in SQL: one row each, of every model the newest ones."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import sqlalchemy as sa

from headway.adapters.sql.database import SqlDatabase
from headway.adapters.sql.documents import check_json
from headway.adapters.sql.tables import plans
from headway.domain.plans import Basis, PlanRecord


class SqlPlanStore:
    """Numbers are never given twice, not even after the newest plan has gone."""

    def __init__(self, database: SqlDatabase) -> None:
        self._database = database

    async def add(self, record: PlanRecord, keep: int = 20) -> PlanRecord:
        """See the port."""
        basis, document = asdict(record.basis), dict(record.document)
        basis["resources"] = dict(record.basis.resources)
        check_json([basis, document], f"the plan of {record.model}")

        def work(connection: sa.Connection) -> int:
            row = {"model": record.model, "at": record.at, "basis": basis, "document": document}
            number = connection.execute(sa.insert(plans).values(**row).returning(plans.c.number)).scalar_one()
            oldest = _newest(record.model).with_only_columns(plans.c.number).limit(max(1, keep))
            stay = set(connection.execute(oldest).scalars())
            connection.execute(sa.delete(plans).where(plans.c.model == record.model, plans.c.number.not_in(stay)))
            return int(number)

        number = await self._database.write(work)
        return replace(record, number=number, document=document)

    async def read(self, model: str, limit: int = 20) -> list[PlanRecord]:
        """See the port."""
        if limit <= 0:
            return []
        rows = await self._database.read(lambda c: c.execute(_newest(model).limit(limit)).all())
        return [PlanRecord(row.model, row.at, Basis(**row.basis), dict(row.document), int(row.number)) for row in rows]


def _newest(model: str) -> sa.Select[Any]:
    return sa.select(plans).where(plans.c.model == model).order_by(plans.c.number.desc())
