"""A query log's folders for tests: segments written byte by byte, gateway lines, and all that can be read of them."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar
from zlib import crc32

import duckdb

from headway.adapters.querylog.compaction import Compaction
from headway.adapters.querylog.gateway_mark import current_mark
from headway.adapters.querylog.manifest import HOUR_NS
from headway.adapters.querylog.segments import read_segment
from headway.adapters.querylog.store import PartStore
from headway.domain.query_log import Arm, CompactionReport, QueryRecord, Retention
from headway.domain.query_segments import BLOCK, CRC_OFFSET, MAGIC, ROW, SUFFIX, Kind

T = TypeVar("T")
MODEL = "iris"
HOUR0 = 500_000
"""Of most records."""
START = HOUR0 * HOUR_NS
SECOND = 1_000_000_000
MINUTE = 60 * SECOND
LATER = START + 2 * HOUR_NS
"""When that hour is past and everything in it settled."""
KEEP = Retention()


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def block(kind: Kind, count: int, payload: bytes, first: int, wall_ns: int, mono_ns: int = 10**12) -> bytes:
    head = BLOCK.pack(MAGIC, kind, count, len(payload), 0, first, wall_ns, mono_ns)
    crc = crc32(payload, crc32(head))
    return head[:CRC_OFFSET] + crc.to_bytes(4, "little") + head[CRC_OFFSET + 4 :] + payload


def head_block(stream: str, number: int, first: int, wall_ns: int) -> bytes:
    head = {
        "format": 1,
        "model": MODEL,
        "version": "v1",
        "replica": stream.partition(".")[0],
        "stream": stream,
        "segment": number,
        "pid": 1,
        "routes": ["", "/predict"],
        "formats": ["", "rows"],
        "clients": [""],
    }
    return block(Kind.HEAD, 1, json.dumps(head).encode(), first, wall_ns)


def row(ts_ns: int, request_id: str, wall_ns: int, mono_ns: int = 10**12) -> bytes:
    received = mono_ns - (wall_ns - ts_ns)
    times = (received, received + 10, received + 30, received + 70, received + 100)
    return ROW.pack(*times, 11, 22, 1, 1, 200, 1 << 4, 1, 1, 0, request_id.encode())


def rows_block(times_ns: Sequence[int], first: int, request_ids: Sequence[str] = ()) -> bytes:
    wall_ns = times_ns[0]
    ids = request_ids or [f"id-{first + place}" for place in range(len(times_ns))]
    rows = [row(ts_ns, request_id, wall_ns) for ts_ns, request_id in zip(times_ns, ids, strict=True)]
    return block(Kind.ROWS, len(rows), b"".join(rows), first, wall_ns)


def closed_block(first: int, wall_ns: int) -> bytes:
    return block(Kind.CLOSED, 1, b"{}", first, wall_ns)


class Home:
    """Folders of one home; ``store`` may be replaced before use."""

    def __init__(self, root: Path, store: PartStore | None = None) -> None:
        self.root = root
        self.segments = root / "segments"
        self.gateway = root / "gateway"
        self.records = root / "records"
        self.store = store or PartStore.directory(self.records)

    def compaction(self) -> Compaction:
        return Compaction(self.segments, self.gateway, self.store)

    def compact(self, now_ns: int, retention: Retention = KEEP) -> CompactionReport:
        return run(self.compaction().run(now_ns, retention))

    def segment(
        self,
        stream: str,
        number: int,
        times_ns: Sequence[int],
        *,
        first: int = 0,
        closed: bool = True,
        request_ids: Sequence[str] = (),
        before_rows: bytes = b"",
        model: str = MODEL,
    ) -> Path:
        """A segment with a block of one row for each time."""
        start = times_ns[0] if times_ns else START
        data = head_block(stream, number, first, start) + before_rows
        for place, ts_ns in enumerate(times_ns):
            data += rows_block([ts_ns], first + place, request_ids[place : place + 1])
        if closed:
            data += closed_block(first + len(times_ns), times_ns[-1] if times_ns else start)
        return self.write(stream, number, data, mtime_ns=times_ns[-1] if times_ns else start, model=model)

    def write(self, stream: str, number: int, data: bytes, *, mtime_ns: int = START, model: str = MODEL) -> Path:
        path = self.segments / model / f"{stream}-{number}{SUFFIX}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        os.utime(path, ns=(mtime_ns, mtime_ns))
        return path

    def live(self) -> frozenset[str]:
        names = {path.name for path in self.segments.glob(f"*/*{SUFFIX}")}
        return frozenset({*names, current_mark(self.gateway).live_name})

    def parts(self, live: frozenset[str] = frozenset(), model: str = MODEL) -> list[tuple[str, int]]:
        """``(stream, seq)`` of all records in parts."""
        return sorted((record.stream, record.seq) for record in self.part_records(live, model))

    def part_records(self, live: frozenset[str] = frozenset(), model: str = MODEL) -> list[QueryRecord]:
        parts = run(self.store.parts(model, 0, 2**62, live=live))
        if not parts:
            return []
        with duckdb.connect() as connection:
            found = connection.read_parquet([str(part.path) for part in parts])
            names = found.columns
            rows = found.order("ts_ns, stream, seq").fetchall()
        records = [QueryRecord(model=model, **dict(zip(names, values, strict=True))) for values in rows]
        assert all(record.arm in set(Arm) for record in records)
        return records

    def seen(self) -> list[tuple[str, int]]:
        """``(stream, seq)`` of every record there is, as a reader finds them: what is live first, then parts."""
        while True:
            live = self.live()
            found = self.parts(live)
            try:
                for name in sorted(live):
                    if name.endswith(SUFFIX):
                        _, columns = read_segment(next(self.segments.glob(f"*/{name}"), self.segments / name))
                        found += [(record.stream, record.seq) for record in columns.records(MODEL)]
            except FileNotFoundError:
                continue
            return sorted(found)

    def names(self, hour: int = HOUR0, model: str = MODEL) -> list[str]:
        """Of the hour's files, in a directory."""
        files = self.store.place.files(model, hour, hour)
        return sorted(stored.name for stored in files)

    # -- the gateway ---------------------------------------------------------------------------------

    def line(
        self,
        number: int,
        at_ns: int,
        *,
        status: int = 503,
        server: str = "<NOSRV>",
        retries: int = 0,
        ends: str = "SC",
        request_id: str = "id",
        model: str = MODEL,
        pid: int = 7,
    ) -> int:
        """Append a line; where it begins."""
        values = [pid, number, at_ns // 1_000_000, 5, status, 10, 20, retries, server, ends, request_id, model, "v1"]
        path = self.gateway / "gateway.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            start = file.tell()
            file.write(json.dumps([*values, "", "split", f"/models/{model}/predict"]).encode() + b"\n")
        return start


class Held:
    """A living writer, as far as anybody can tell: it holds the lock of ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None:
        self._file = self.path.open("rb")
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def __exit__(self, *_: object) -> None:
        self._file.close()


def spread(count: int, step_ns: int = SECOND, start_ns: int = START) -> list[int]:
    return [start_ns + place * step_ns for place in range(count)]


def expected(stream: str, count: int, first: int = 0) -> list[tuple[str, int]]:
    return [(stream, first + place) for place in range(count)]


def each_byte(path: Path, places: Sequence[int], check: Callable[[int], None]) -> None:
    """Flip one byte of ``path`` at a time and call ``check``; the file is whole again afterwards."""
    data = path.read_bytes()
    for place in places:
        flipped = bytearray(data)
        flipped[place] ^= 0x10
        path.write_bytes(bytes(flipped))
        check(place)
    path.write_bytes(data)
