"""Records for measurements of the query log: parts as compaction leaves them, segments as model servers write them."""

from __future__ import annotations

import fcntl
import json
import os
import random
import select
import shutil
import sys
import time
from pathlib import Path
from typing import Final
from zlib import crc32

from headway.adapters.querylog import PartStore
from headway.adapters.querylog.manifest import Holding
from headway.adapters.querylog.part_files import TYPES, duck
from headway.domain.query_segments import ARM_SHIFT, BLOCK, CRC_OFFSET, MAGIC, ROW, Kind

MODELS: Final = 50
HOURS: Final = 24
HOUR_NS: Final = 3_600_000_000_000
START_NS: Final = 1_767_225_600_000_000_000
"""2026-01-01T00:00Z."""
RATE: Final = 1000
"""Requests per second to the model ``live``."""
LIVE_S: Final = 1800
OPEN_S: Final = 300
"""The latest of those are in segments."""
REPLICAS: Final = 4
FORMAT: Final = 1
"""Of the made records: raise it when they change."""


def made_records(model: int, hour: int, count: int) -> str:
    """SQL for the records of one model and hour: log-normal latencies (Box and Muller, 1958) with a tail."""
    seed = f"{model}::BIGINT * 1000000007 + {hour}::BIGINT * 10000019 + i"
    uniform = "((hash({seed} + {more}) >> 11) + 1) / 9007199254740994.0"
    one, other = uniform.format(seed=seed, more=500_000_000_000), uniform.format(seed=seed, more=900_000_000_000)
    return f"""
        SELECT {START_NS + hour * HOUR_NS} + i * {HOUR_NS // count} + (h % 1000000)::BIGINT AS ts_ns,
          CASE WHEN h % 10 = 0 THEN 'v2' ELSE 'v1' END AS version,
          version || '-' || (h // 16 % 4) AS replica, replica || '.4f3a2b1c' AS stream, i AS seq,
          format('{{:032x}}', hash(i + h)) AS request_id, '/predict' AS route, 'rows' AS format,
          CASE WHEN h % 97 = 0 THEN 429 WHEN h % 101 = 0 THEN 500 WHEN h % 103 = 0 THEN 504 ELSE 200 END AS status,
          1 + h % 8 AS rows, 1 + h // 8 % 32 AS batch, 100 + h % 900 AS bytes_in, 40 + h % 60 AS bytes_out,
          exp(15.5 + 0.8 * sqrt(-2 * ln({one})) * cos(2 * pi() * {other}))::BIGINT AS total_ns,
          CASE WHEN status <> 429 THEN total_ns // 5 END AS queue_ns,
          CASE WHEN status <> 429 THEN total_ns // 20 END AS decode_ns,
          CASE WHEN status <> 429 THEN total_ns // 2 END AS predict_ns,
          CASE WHEN status <> 429 THEN total_ns // 4 END AS encode_ns,
          false AS cold_start, status = 429 AS shed, status = 504 AS expired, '' AS client, 'split' AS arm
        FROM (SELECT i, hash({seed}) AS h FROM range({count}) AS made(i))"""


def make_parts(folder: Path, records: int) -> PartStore:
    """A day of every model, unless it is there already."""
    store = PartStore.directory(folder / "records")
    done = folder / "made.json"
    wanted = {"format": FORMAT, "records": records}
    if done.exists() and json.loads(done.read_text()) == wanted:
        return store
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    count = records // MODELS // HOURS
    for model in range(MODELS):
        with duck(folder) as connection:
            for hour in range(HOURS):
                hold = Holding(source=f"made.{hour}-0", rows=count, spans=(("made", 0, 0),))
                made = made_records(model, hour, count)
                store.add(name(model), START_NS // HOUR_NS + hour, made, hold, connection, START_NS)
        if (model + 1) % 10 == 0:
            print(f"    making records: {model + 1} of {MODELS} models", flush=True)
    done.write_text(json.dumps(wanted))
    size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
    print(f"    made {records:,} records, {size / 1e9:.1f} GB, in {time.perf_counter() - began:.0f} s")
    return store


def name(model: int) -> str:
    return f"model-{model:02d}"


def make_live_parts(folder: Path, now_ns: int) -> PartStore:
    """The model ``live`` up to five minutes ago."""
    store = PartStore.directory(folder / "records")
    count = (LIVE_S - OPEN_S) * RATE
    shift = now_ns - LIVE_S * 10**9 - START_NS
    moved = ", ".join(f"ts_ns + {shift} AS ts_ns" if column == "ts_ns" else column for column in TYPES)
    with duck(folder) as connection:
        made = made_records(0, 0, HOUR_NS // 10**9 * RATE)
        connection.execute(f"CREATE TABLE made AS SELECT {moved} FROM ({made}) WHERE seq < {count}")
        hours = connection.execute(f"SELECT ts_ns // {HOUR_NS}, count(*) FROM made GROUP BY 1").fetchall()
        for hour, rows in hours:
            hold = Holding(source=f"made.{hour}-0", rows=rows, spans=(("made", 0, 0),))
            wanted = f"SELECT * FROM made WHERE ts_ns // {HOUR_NS} = {hour}"
            store.add("live", hour, wanted, hold, connection, now_ns)
    return store


class Writer:
    """Segments of replicas, one block for each row, as a model server writes them."""

    def __init__(self, folder: Path, stream: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._fd = os.open(folder / f"{stream}-0.hwq", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self._seq = 0
        head = {"format": 1, "model": "live", "version": "v1", "replica": stream, "stream": stream, "segment": 0}
        names = {"routes": ["", "/predict"], "formats": ["", "rows"], "clients": [""], "pid": os.getpid()}
        os.write(self._fd, self._block(Kind.HEAD, json.dumps({**head, **names}).encode(), time.time_ns()))

    def write(self, times_ns: list[int], draw: random.Random) -> None:
        """Rows that arrived at these times."""
        blocks = []
        for at in times_ns:
            took = int(draw.lognormvariate(15.5, 0.8))
            instants = (at, at + took // 20, at + took // 4, at + took * 3 // 4, at + took)
            request_id = b"%032x" % draw.getrandbits(128)
            row = ROW.pack(*instants, 300, 60, 1, 4, 200, 1 << ARM_SHIFT, 1, 1, 0, request_id)
            blocks.append(self._block(Kind.ROWS, row, at))
            self._seq += 1
        os.write(self._fd, b"".join(blocks))

    def _block(self, kind: Kind, payload: bytes, at: int) -> bytes:
        head = BLOCK.pack(MAGIC, kind, 1, len(payload), 0, self._seq, at, at)
        crc = crc32(payload, crc32(head)).to_bytes(4, "little")
        return head[:CRC_OFFSET] + crc + head[CRC_OFFSET + 4 :] + payload


def write_live(folder: Path, now_ns: int) -> None:
    """Segments of the model ``live``: the five minutes before ``now_ns``, then 1,000 rows/s until stdin ends."""
    draw = random.Random(1)
    writers = [Writer(folder / "segments" / "live", f"live-v1-{number}.0") for number in range(REPLICAS)]
    written = -OPEN_S * RATE
    due = 0
    while True:
        for place, writer in enumerate(writers):
            times = [now_ns + n * 10**9 // RATE for n in range(written, due) if n % REPLICAS == place]
            if times:
                writer.write(times, draw)
        if not written + OPEN_S * RATE:
            print("ready", flush=True)
        written = max(due, written)
        if select.select([sys.stdin], [], [], 0.005)[0]:
            print(written, flush=True)
            return
        due = (time.time_ns() - now_ns) * RATE // 10**9
