"""DuckDB over segments and Parquet keeps the contract, wherever the records are at the moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from headway.adapters.querylog import DuckdbQueryLog, PartStore
from headway.domain.query_log import QueryRecord, Retention
from headway.ports.query_log import QueryLog
from tests.contracts.query_log_contract import END_NS, MakeLog, QueryLogContract
from tests.query_records import write_segments
from tests.segment_files import SegmentFile


@pytest.mark.anyio
class DuckdbContract(QueryLogContract):
    segments = 1
    """Per stream."""
    closed = 0
    """Of them."""
    max_live_rows = 1_000_000

    @pytest.fixture
    async def make(self, tmp_path: Path) -> AsyncIterator[MakeLog]:
        logs: list[DuckdbQueryLog] = []
        files: list[SegmentFile] = []

        async def make(records: Sequence[QueryRecord]) -> QueryLog:
            files.extend(write_segments(tmp_path / "segments", records, segments=self.segments, close=self.closed))
            store = PartStore.directory(tmp_path / "records")
            log = DuckdbQueryLog(tmp_path, store, max_live_rows=self.max_live_rows)
            logs.append(log)
            await log.compact(END_NS, Retention())
            return log

        yield make
        for log in logs:
            await log.close()
        for file in files:
            file.die()


class TestAllLive(DuckdbContract):
    pass


class TestAllCompacted(DuckdbContract):
    closed = 1


class TestHalfCompacted(DuckdbContract):
    segments = 4
    closed = 2


class TestNothingKeptInMemory(DuckdbContract):
    segments = 3
    max_live_rows = 0
