"""DuckDB over segments and Parquet keeps the contract, wherever the records are at the moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from headway.adapters.querylog import DuckdbQueryLog, PartStore
from headway.adapters.querylog import log as log_module
from headway.domain.query_log import QueryRecord, Retention
from headway.ports.query_log import QueryLog
from tests.contracts.query_log_contract import END_NS, MakeLog, QueryLogContract, question
from tests.query_records import some_records, write_segments
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


@pytest.mark.anyio
@pytest.mark.parametrize(("in_all", "in_a_window", "windows", "exact"), [
    (2000, 2000, 1, True), (2000, 1999, 1, False), (2000, 1000, 2, True), (1999, 1000, 2, False),
])  # fmt: skip
async def test_windows_of_many_records_come_from_sketches_unless_asked_otherwise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_all: int, in_a_window: int, windows: int, exact: bool
) -> None:
    monkeypatch.setattr(log_module, "EXACT_WINDOW", in_a_window)
    for file in write_segments(tmp_path / "segments", some_records(2000, seed=3), segments=1, close=1):
        file.die()
    log = DuckdbQueryLog(tmp_path, PartStore.directory(tmp_path / "records"), exact_records=in_all)
    await log.compact(END_NS, Retention())
    whole = question()
    query = replace(whole, window_ns=(whole.until_ns - whole.since_ns) // windows)
    assert (await log.windows(query)).exact is exact
    assert (await log.windows(replace(query, exact=True))).exact
    await log.close()
