"""The log of scaling decisions in memory. Nothing survives the process."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from headway.domain.decisions import DecisionRecord
from headway.domain.errors import HeadwayError
from headway.domain.replicas import Role


class MemoryDecisionLog:
    """In order of time, and for the same time of cursor. Documents are copied: nobody can change the past."""

    def __init__(self) -> None:
        self._records: list[DecisionRecord] = []
        self._cursor = 0

    async def append(self, records: Sequence[DecisionRecord]) -> int:
        """See the port."""
        checked = [_copy(record) for record in records]
        for record in checked:
            self._cursor += 1
            self._records.append(replace(record, cursor=self._cursor))
        self._records.sort(key=lambda record: (record.at, record.cursor))
        return self._cursor

    async def read(
        self,
        model: str,
        *,
        version: str | None = None,
        since: float | None = None,
        until: float | None = None,
        changed: bool = False,
        role: Role = "serve",
        limit: int = 100,
    ) -> list[DecisionRecord]:
        """See the port."""
        found = [
            record
            for record in self._records
            if (record.model, record.role) == (model, role)
            and version in (None, record.version)
            and (since is None or record.at >= since)
            and (until is None or record.at < until)
            and (record.changed or not changed)
        ]
        return [_copy(record) for record in found[max(len(found) - max(limit, 0), 0) :]]

    async def latest(
        self, model: str, version: str | None = None, at: float | None = None, *, role: Role = "serve"
    ) -> DecisionRecord | None:
        """See the port."""
        for record in reversed(self._records):
            own = (record.model, record.role) == (model, role)
            if own and version in (None, record.version) and (at is None or record.at <= at):
                return _copy(record)
        return None

    async def expire(self, before: float, keep: int) -> int:
        """See the port."""
        newer: Counter[tuple[str, str, Role]] = Counter()
        staying = []
        for record in reversed(self._records):
            own = (record.model, record.version, record.role)
            newer[own] += 1
            if record.at >= before or newer[own] <= keep:
                staying.append(record)
        gone = len(self._records) - len(staying)
        self._records = staying[::-1]
        return gone


def _copy(record: DecisionRecord) -> DecisionRecord:
    """With the document as JSON gives it back, so that this log hides no fault that a database would show."""
    try:
        document = json.loads(json.dumps(dict(record.document), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise HeadwayError(f"the decision of {record.model} {record.version} is not JSON: {error}") from error
    return replace(record, document=document)
