"""Records for tests of the query log, as a model server could have written them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from headway.domain.query_log import Arm, QueryRecord
from headway.domain.query_segments import Kind
from tests.segment_files import FORMATS, ROUTES, WALL_NS, SegmentFile, row_of

MINUTE_NS = 60_000_000_000
START_NS = WALL_NS // MINUTE_NS * MINUTE_NS + MINUTE_NS
"""A whole minute; the monotonic clock of tests is at some seconds then."""
STATUSES = (200, 200, 200, 200, 304, 400, 404, 429, 499, 500, 503, 504)
CLIENTS = ("", "ann", "bob", "é")


def record(**changed: object) -> QueryRecord:
    """One that was answered well."""
    plain = QueryRecord(
        ts_ns=START_NS,
        model="iris",
        version="v1",
        replica="iris-v1-bcdfg",
        stream="iris-v1-bcdfg.0",
        seq=0,
        request_id="r",
        route="/predict",
        format="rows",
        status=200,
        rows=1,
        batch=1,
        bytes_in=10,
        bytes_out=20,
        total_ns=10_000_000,
        queue_ns=1_000_000,
        decode_ns=1_000_000,
        predict_ns=7_000_000,
        encode_ns=1_000_000,
        cold_start=False,
        shed=False,
        expired=False,
        client="",
        arm=Arm.SPLIT,
    )
    return replace(plain, **changed)  # type: ignore[arg-type]


def some_records(count: int, *, seed: int = 0, model: str = "iris", span_ns: int = 10 * MINUTE_NS) -> list[QueryRecord]:
    """Of two versions with two replicas each, over ``span_ns``; all kinds of ends, ids of all lengths."""
    draw = random.Random(seed)
    seqs: dict[str, int] = {}
    records = []
    for number in range(count):
        version = draw.choice(["v1", "v2"])
        replica = f"{model}-{version}-{draw.choice(['bcdfg', 'hjklm'])}"
        stream = f"{replica}.0"
        seq = seqs.get(stream, 0)
        seqs[stream] = seq + 1
        status = draw.choice(STATUSES)
        got_to = 3 if status in (200, 500) else draw.randint(0, 2)
        phases = [int(draw.lognormvariate(14, 1.5)) for _ in range(4)]
        reached = [phase if place < got_to else None for place, phase in enumerate(phases[:3])]
        encode = phases[3] if got_to == 3 else None
        total = sum(phase for phase in [*reached, encode] if phase is not None) if encode is not None else sum(phases)
        records.append(
            record(
                ts_ns=START_NS + draw.randrange(span_ns),
                model=model,
                version=version,
                replica=replica,
                stream=stream,
                seq=seq,
                request_id=f"{number:x}" * draw.choice([1, 1, 1, 9, 12]),
                route=draw.choice(ROUTES),
                format=draw.choice(FORMATS),
                status=status,
                rows=draw.randrange(100),
                batch=draw.randrange(64),
                bytes_in=draw.randrange(2**32),
                bytes_out=draw.randrange(1000),
                total_ns=total,
                decode_ns=reached[0],
                queue_ns=reached[1],
                predict_ns=reached[2],
                encode_ns=encode,
                cold_start=draw.random() < 0.05,
                shed=status == 429,
                expired=status == 504,
                client=draw.choice(CLIENTS),
                arm=draw.choice(list(Arm)),
            )
        )
    return records


def write_segments(
    root: Path, records: Sequence[QueryRecord], *, segments: int = 1, close: int = 0, block_rows: int = 5
) -> list[SegmentFile]:
    """Write ``records`` as their replicas would: ``segments`` per stream, of which the first ``close`` are ended."""
    streams: dict[str, list[QueryRecord]] = {}
    for one in records:
        streams.setdefault(one.stream, []).append(one)
    written = []
    for stream, rows in streams.items():
        rows.sort(key=lambda row: row.seq)
        size = -(-len(rows) // segments)
        for number in range(segments):
            part = rows[number * size : (number + 1) * size]
            if not part:
                continue
            first = part[0]
            file = SegmentFile(
                root / first.model,
                stream=stream,
                number=number,
                model=first.model,
                version=first.version,
                replica=first.replica,
                seq=first.seq,
                clients=list(CLIENTS),
            )
            for start in range(0, len(part), block_rows):
                block = part[start : start + block_rows]
                file.rows([row_of(row, CLIENTS) for row in block])
                long = {str(row.seq): row.request_id for row in block if len(row.request_id) > 36}
                if long:
                    file.note(Kind.LONG_ID, long)
            if number < close:
                file.close()
            written.append(file)
    return written
