"""Parquet files of records: written with DuckDB, checked by a checksum of their own.

The columns are the fields of :class:`~headway.domain.query_log.QueryRecord` by name, without ``model``; rows stand in
the order of ``(ts_ns, stream, seq)``. The footer's metadata has the file's :class:`~.manifest.Note` under ``headway``,
with a CRC-32 of the whole file (taken with ``00000000`` in its own place): a flipped bit in compressed numbers would
otherwise be a wrong figure, not an error.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from zlib import crc32

import duckdb

from headway.adapters.querylog.manifest import NO_CRC, Note
from headway.domain.errors import StorageFailed

TYPES: Final[Mapping[str, str]] = {
    "ts_ns": "BIGINT",
    "version": "VARCHAR",
    "replica": "VARCHAR",
    "stream": "VARCHAR",
    "seq": "BIGINT",
    "request_id": "VARCHAR",
    "route": "VARCHAR",
    "format": "VARCHAR",
    "status": "INTEGER",
    "rows": "BIGINT",
    "batch": "INTEGER",
    "bytes_in": "BIGINT",
    "bytes_out": "BIGINT",
    "total_ns": "BIGINT",
    "queue_ns": "BIGINT",
    "decode_ns": "BIGINT",
    "predict_ns": "BIGINT",
    "encode_ns": "BIGINT",
    "cold_start": "BOOLEAN",
    "shed": "BOOLEAN",
    "expired": "BOOLEAN",
    "client": "VARCHAR",
    "arm": "VARCHAR",
}
TAIL_BYTES: Final = 128 * 1024
"""Holds the note of most files."""

sync: Final = os.fsync
_END: Final = b"PAR1"
_CRC_KEY: Final = b'{"crc":"'
_CHUNK: Final = 4 * 1024 * 1024
_OPTIONS: Final = "FORMAT parquet, COMPRESSION zstd, PARQUET_VERSION v2, USE_TMP_FILE false"


class Damaged(Exception):
    """A file is not what was written."""


@contextmanager
def duck(spill: Path, *, memory: str = "256MB") -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory, for one piece of housekeeping: one thread, so that predictions keep theirs."""
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "memory_limit": memory,
        "temp_directory": str(spill),
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
    }
    connection = duckdb.connect(":memory:", config=config)
    try:
        yield connection
    except duckdb.Error as error:
        raise StorageFailed(f"the query log's records could not be read or written: {_reason(error)}") from error
    finally:
        connection.close()


def _reason(error: duckdb.Error) -> str:
    text = str(error)
    no_space = os.strerror(errno.ENOSPC)
    return no_space if no_space in text else text.splitlines()[0]


def files_sql(paths: Sequence[Path]) -> str:
    """A table function over files; every one has the same columns."""
    return f"read_parquet([{', '.join(quoted(str(path)) for path in paths)}])"


def quoted(text: str) -> str:
    """As an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def write(
    connection: duckdb.DuckDBPyConnection, select: str, note: Note, path: Path, types: Mapping[str, str] = TYPES
) -> None:
    """Write the rows of ``select`` (any order, with the columns of ``types``) with ``note`` to ``path``, durably.

    Raises ``duckdb.Error`` or ``OSError``.
    """
    columns = ", ".join(f'CAST("{name}" AS {kind}) AS "{name}"' for name, kind in types.items())
    query = f"SELECT {columns} FROM ({select}) ORDER BY ts_ns, stream, seq"  # noqa: S608
    metadata = f"KV_METADATA {{headway: {quoted(note.text())}}}"
    connection.execute(f"COPY ({query}) TO {quoted(str(path))} ({_OPTIONS}, {metadata})")
    with path.open("r+b") as file:
        try:
            place = _crc_place(file)
        except Damaged as error:
            raise OSError(errno.EIO, f"written, but not there: {error}", str(path)) from error
        file.seek(0)
        crc = 0
        while chunk := file.read(_CHUNK):
            crc = crc32(chunk, crc)
        file.seek(place)
        file.write(b"%08x" % crc)
        file.flush()
        sync(file.fileno())


def _crc_place(file: Any) -> int:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - TAIL_BYTES))
    tail = file.read()
    length = _footer_length(tail, size)
    if length + 8 > len(tail):
        file.seek(size - 8 - length)
        tail = file.read()
    found = tail.rfind(_CRC_KEY)
    if found < 0:
        raise Damaged("no note in the footer")
    return int(size - len(tail) + found + len(_CRC_KEY))


def _footer_length(tail: bytes, size: int) -> int:
    if len(tail) < 12 or tail[-4:] != _END:
        raise Damaged("not a whole Parquet file")
    length = int.from_bytes(tail[-8:-4], "little")
    if length + 12 > size:
        raise Damaged("a footer larger than the file")
    return length


def note_in(tail: bytes, size: int) -> tuple[Note | None, int]:
    """The note of a file of ``size`` bytes that ends with ``tail``; None with the bytes of tail that it takes.

    Raises :class:`Damaged`.
    """
    needed = _footer_length(tail, size) + 8
    if needed > len(tail):
        return None, needed
    footer = tail[-needed:]
    found = footer.rfind(_CRC_KEY)
    try:
        value, _ = json.JSONDecoder().raw_decode(footer[found:-8].decode("utf-8", "replace"))
        return Note.of(value), needed
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"no note in the footer: {error}") from error


def verify(path: Path) -> None:
    """Raises :class:`Damaged` or ``OSError`` unless every byte of ``path`` is as it was written."""
    with path.open("rb") as file:
        place = _crc_place(file)
        file.seek(place)
        stated = file.read(len(NO_CRC))
        file.seek(0)
        crc, start = 0, 0
        while chunk := file.read(_CHUNK):
            crc = crc32(_without(chunk, place - start), crc)
            start += len(chunk)
    if stated != b"%08x" % crc:
        raise Damaged("its checksum does not fit")


def _without(chunk: bytes, place: int) -> bytes:
    """``chunk`` with the checksum, which begins at ``place`` of it, blanked."""
    start, end = max(place, 0), min(place + len(NO_CRC), len(chunk))
    if start >= end:
        return chunk
    return chunk[:start] + b"0" * (end - start) + chunk[end:]
