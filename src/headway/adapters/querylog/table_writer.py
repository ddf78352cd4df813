"""Parquet by DuckDB: rows go to a file of JSON lines, which one ``COPY`` turns around.

JSON and not CSV, because it tells an empty text from none.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import duckdb

from headway.domain.errors import StorageFailed
from headway.domain.tables import Column, ColumnType, Row

CHUNK_BYTES: Final = 256 * 1024
TYPES: Final[Mapping[ColumnType, str]] = {
    ColumnType.TEXT: "VARCHAR",
    ColumnType.INTEGER: "BIGINT",
    ColumnType.NUMBER: "DOUBLE",
    ColumnType.FLAG: "BOOLEAN",
}


class DuckdbTableWriter:
    """The ``TableWriter`` port; ``scratch`` (made when it is needed) has room for the largest table."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch

    async def parquet(
        self, columns: Sequence[Column], batches: AsyncIterator[Sequence[Row]]
    ) -> AsyncGenerator[bytes, None]:
        """See the port."""
        try:
            self._scratch.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryDirectory(dir=self._scratch, prefix="table-") as folder:
                rows, table = Path(folder, "rows.json"), Path(folder, "table.parquet")
                rows.touch()
                async for batch in batches:
                    await asyncio.to_thread(_append, rows, columns, batch)
                await asyncio.to_thread(_copy, columns, rows, table)
                place, size = 0, table.stat().st_size
                while place < size:
                    yield await asyncio.to_thread(_piece, table, place)
                    place += CHUNK_BYTES
        except (OSError, duckdb.IOException) as error:
            raise StorageFailed(f"a table could not be written: {error}", where=str(self._scratch)) from error


def _append(path: Path, columns: Sequence[Column], batch: Sequence[Row]) -> None:
    names = [column.name for column in columns]
    dump = partial(json.dumps, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    # Halves of surrogate pairs, which no file can hold, become question marks.
    with path.open("a", encoding="utf-8", errors="replace") as file:
        file.writelines(dump(dict(zip(names, row, strict=True))) + "\n" for row in batch)


def _piece(path: Path, place: int) -> bytes:
    with path.open("rb") as file:
        file.seek(place)
        return file.read(CHUNK_BYTES)


def _copy(columns: Sequence[Column], rows: Path, table: Path) -> None:
    with duckdb.connect(config={"threads": 1, "memory_limit": "256MB", "temp_directory": str(table.parent)}) as session:
        if rows.stat().st_size:
            types = ", ".join(f"{_quoted(column.name)}: '{TYPES[column.type]}'" for column in columns)
            source = f"read_json($rows, format = 'newline_delimited', columns = {{{types}}})"
            given = {"rows": str(rows), "table": str(table)}
        else:
            types = ", ".join(f'NULL::{TYPES[column.type]} AS "{column.name}"' for column in columns)
            source = f"(SELECT {types} LIMIT 0)"
            given = {"table": str(table)}
        session.execute(f"COPY (FROM {source}) TO $table (FORMAT parquet, COMPRESSION zstd)", given)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
