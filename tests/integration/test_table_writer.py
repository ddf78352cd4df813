"""Tables become Parquet files that say what the rows said, and leave nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest

from headway.adapters.querylog import table_writer
from headway.adapters.querylog.table_writer import DuckdbTableWriter
from headway.domain.errors import StorageFailed
from headway.domain.tables import Column, ColumnType, Row

COLUMNS = (
    Column("name", ColumnType.TEXT),
    Column("end", ColumnType.INTEGER),
    Column("it's", ColumnType.NUMBER),
    Column("flag", ColumnType.FLAG),
)


async def batches(*tables: Sequence[Row]) -> AsyncGenerator[Sequence[Row], None]:
    for rows in tables:
        yield rows


def written(folder: Path, *tables: Sequence[Row]) -> duckdb.DuckDBPyRelation:
    async def write() -> bytes:
        writer = DuckdbTableWriter(folder / "scratch")
        return b"".join([chunk async for chunk in writer.parquet(COLUMNS, batches(*tables))])

    path = folder / "table.parquet"
    path.write_bytes(asyncio.run(write()))
    assert list((folder / "scratch").iterdir()) == []
    return duckdb.read_parquet(str(path))


def test_cells_are_what_they_were(tmp_path: Path) -> None:
    rows: list[Row] = [
        ("", 2**63 - 1, 1_750_000_000.123456, True),
        (None, None, None, None),
        ("a 'quoted' \"line\"\nü\0", -1, 0.1, False),
    ]
    found = written(tmp_path, rows[:1], [], rows[1:])
    assert found.columns == ["name", "end", "it's", "flag"]
    assert [str(one) for one in found.types] == ["VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN"]
    assert found.fetchall() == rows


def test_half_a_character_is_replaced(tmp_path: Path) -> None:
    assert written(tmp_path, [("a\ud800b", 1, 1.0, True)]).fetchall() == [("a?b", 1, 1.0, True)]


@pytest.mark.parametrize("tables", [(), ([],)])
def test_a_table_without_rows_has_its_columns(tmp_path: Path, tables: tuple[Sequence[Row], ...]) -> None:
    found = written(tmp_path, *tables)
    assert [str(one) for one in found.types] == ["VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN"]
    assert found.fetchall() == []


def test_a_large_table_comes_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_writer, "CHUNK_BYTES", 1000)
    rows: list[Row] = [(f"{number * 7919 % 10_007:x}", number, number / 3, number % 2 == 0) for number in range(5000)]
    assert written(tmp_path, rows[:2000], rows[2000:]).fetchall() == rows


@pytest.mark.parametrize("error", [ValueError("of the rows"), StorageFailed("of the log")])
def test_what_the_rows_raise_is_raised_and_nothing_is_left(tmp_path: Path, error: Exception) -> None:
    async def failing() -> AsyncGenerator[Sequence[Row], None]:
        yield [("a", 1, 1.0, True)]
        raise error

    async def write() -> Any:
        return await anext(DuckdbTableWriter(tmp_path).parquet(COLUMNS, failing()))

    with pytest.raises(type(error), match="of the"):
        asyncio.run(write())
    assert list(tmp_path.iterdir()) == []


def test_closed_early_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_writer, "CHUNK_BYTES", 4)

    async def write() -> None:
        chunks = DuckdbTableWriter(tmp_path).parquet(COLUMNS, batches([("a", 1, 1.0, True)]))
        assert await anext(chunks) == b"PAR1"
        assert list(tmp_path.iterdir())
        await chunks.aclose()

    asyncio.run(write())
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    async def write() -> Any:
        return await anext(DuckdbTableWriter(tmp_path / "file").parquet(COLUMNS, batches()))

    with pytest.raises(StorageFailed, match="could not be written"):
        asyncio.run(write())
