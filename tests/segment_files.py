"""Segment files for tests, written block by block as ``headway.domain.query_segments`` describes them."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any
from zlib import crc32

import msgspec

from headway.domain.query_log import QueryRecord
from headway.domain.query_segments import (
    ARM_SHIFT,
    ARMS,
    BLOCK,
    CALL_FIELDS,
    ID_BYTES,
    MAGIC,
    ROW,
    SUFFIX,
    VERSION,
    Flag,
    Kind,
)

WALL_NS = 1_700_000_000_000_000_000
"""The wall clock when the monotonic clock was at 0, unless a test says otherwise."""
ROUTES = ("", "/predict", "/invocations", "/v2/models/infer")
FORMATS = ("", "rows", "mlflow", "open_inference", "seldon")


@dataclass(frozen=True)
class Row:
    """One request, as instants of the monotonic clock (0: did not get there)."""

    received: int
    answered: int
    queued: int = 0
    started: int = 0
    predicted: int = 0
    status: int = 200
    rows: int = 1
    batch: int = 0
    bytes_in: int = 10
    bytes_out: int = 20
    flags: int = 0
    arm: str = "direct"
    route: str = "/predict"
    format: str = "rows"
    client: int = 0
    request_id: str = "r"

    def packed(self) -> bytes:
        return ROW.pack(
            self.received,
            self.queued,
            self.started,
            self.predicted,
            self.answered,
            self.bytes_in,
            self.bytes_out,
            self.rows,
            self.batch,
            self.status,
            self.flags | ARMS.index(self.arm) << ARM_SHIFT,
            ROUTES.index(self.route),
            FORMATS.index(self.format),
            self.client,
            self.request_id.encode()[:ID_BYTES],
        )


def block(
    kind: int, payload: bytes, *, count: int = 1, first: int = 0, wall_ns: int = WALL_NS, mono_ns: int = 0
) -> bytes:
    """One block with its checksum."""
    head = BLOCK.pack(MAGIC, kind, count, len(payload), 0, first, wall_ns, mono_ns)
    return BLOCK.pack(MAGIC, kind, count, len(payload), crc32(payload, crc32(head)), first, wall_ns, mono_ns) + payload


@dataclass
class SegmentFile:
    """A segment under construction; its clocks run together unless ``wall_ns`` is changed."""

    folder: Path
    stream: str = "iris-v1-bcdfg.0"
    number: int = 0
    model: str = "iris"
    version: str = "v1"
    replica: str = "iris-v1-bcdfg"
    seq: int = 0
    wall_ns: int = WALL_NS
    clients: list[str] = field(default_factory=lambda: [""])
    headed: bool = True

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / f"{self.stream}-{self.number}{SUFFIX}"
        self._fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        if self.headed:
            self.head()

    def write(self, data: bytes) -> None:
        assert os.write(self._fd, data) == len(data)

    def head(self, **changed: Any) -> None:
        head = {
            "format": VERSION,
            "model": self.model,
            "version": self.version,
            "replica": self.replica,
            "stream": self.stream,
            "segment": self.number,
            "pid": os.getpid(),
            "routes": list(ROUTES),
            "formats": list(FORMATS),
            "clients": self.clients,
        }
        self.note(Kind.HEAD, {**head, **changed})

    def rows(self, rows: Sequence[Row]) -> bytes:
        """Append ``rows`` as one block; its bytes."""
        mono_ns = max(row.answered for row in rows)
        payload = b"".join(row.packed() for row in rows)
        data = block(
            Kind.ROWS, payload, count=len(rows), first=self.seq, wall_ns=self.wall_ns + mono_ns, mono_ns=mono_ns
        )
        self.write(data)
        self.seq += len(rows)
        return data

    def call(self, rows: Sequence[Row], **changed: Any) -> bytes:
        """Append ``rows`` as the block of one call, in which all were predicted together; its bytes.

        ``changed`` fields replace those that would be right.
        """
        first = rows[0]
        answers = [first.predicted, *(row.answered for row in rows)]
        fields = {
            "started": first.started,
            "predicted": first.predicted,
            "batch": first.batch,
            "flags": first.flags,
            "route": ROUTES.index(first.route),
            "format": FORMATS.index(first.format),
            "decode_ns": [row.queued - row.received for row in rows],
            "queue_ns": [row.started - row.queued for row in rows],
            "encode_ns": [after - before for before, after in pairwise(answers)],
            "bytes_in": [row.bytes_in for row in rows],
            "bytes_out": [row.bytes_out for row in rows],
            "rows": [row.rows for row in rows],
            "status": [row.status for row in rows],
            "request_ids": [row.request_id.encode() for row in rows],
            "arms": [ARMS.index(row.arm) for row in rows] if any(row.arm != ARMS[0] for row in rows) else [],
            "clients": [row.client for row in rows] if any(row.client for row in rows) else [],
        } | changed
        payload = msgspec.msgpack.encode([fields[name] for name in CALL_FIELDS])
        mono_ns = max(answers)
        data = block(
            Kind.CALL, payload, count=len(rows), first=self.seq, wall_ns=self.wall_ns + mono_ns, mono_ns=mono_ns
        )
        self.write(data)
        self.seq += len(rows)
        return data

    def note(self, kind: int, value: Any) -> bytes:
        """Append a JSON object; its bytes."""
        data = block(kind, json.dumps(value).encode(), first=self.seq, wall_ns=self.wall_ns)
        self.write(data)
        return data

    def drop(self, records: int) -> None:
        """Lose some, and tell."""
        self.seq += records
        self.note(Kind.DROPPED, {"records": records, "reason": "No space left on device"})

    def close(self) -> None:
        """End the segment as a writer does that stops."""
        self.note(Kind.CLOSED, {})
        self.die()

    def die(self) -> None:
        """End as a killed writer does: without a word."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def row_of(record: QueryRecord, clients: Sequence[str], wall_ns: int = WALL_NS) -> Row:
    """The row from which a reader makes ``record``; its ``queue_ns`` … must be there up to some phase, then not."""
    received = record.ts_ns - wall_ns
    instants = [received]
    for phase in (record.decode_ns, record.queue_ns, record.predict_ns):
        if phase is None:
            break
        instants.append(instants[-1] + phase)
    queued, started, predicted = [*instants[1:], 0, 0, 0][:3]
    return Row(
        received=received,
        queued=queued,
        started=started,
        predicted=predicted,
        answered=received + record.total_ns,
        status=record.status,
        rows=record.rows,
        batch=record.batch,
        bytes_in=record.bytes_in,
        bytes_out=record.bytes_out,
        flags=Flag.COLD_START * record.cold_start | Flag.SHED * record.shed | Flag.EXPIRED * record.expired,
        arm=str(record.arm),
        route=record.route,
        format=record.format,
        client=clients.index(record.client),
        request_id=record.request_id,
    )
