"""Questions to the query log: 50 million records beside a query by hand on the same files; half an hour that goes on.

50 models of a million records each over a day, in parts as compaction leaves them. Per minute: count, average, p75,
p95, p99. By hand that is one DuckDB query over all files; Headway is asked for each model, all at once, and also gives
p50, errors, and what counts as timed. Both in processes of their own, in turns, the median of three rounds after one
that warms up. Then 30 minutes of 1,000 requests/s, the last five in segments to which a writer adds 1,000 rows/s.

    python benchmarks/query_log_queries.py [--records 50000000] [--folder .bench/query-log]

Exit 0 when Headway takes at most 1.5 times as long and the live question less than 100 ms, 1 otherwise. Made records
(1.6 GB) are kept in the folder for the next time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import duckdb
from query_log_records import (
    HOUR_NS,
    HOURS,
    LIVE_S,
    MODELS,
    RATE,
    START_NS,
    make_live_parts,
    make_parts,
    name,
    write_live,
)

from headway.adapters.querylog import DuckdbQueryLog, PartStore
from headway.domain.query_log import GroupBy, WindowQuery

MINUTE_NS: Final = 60_000_000_000
ROUNDS: Final = 3
MOST_RATIO: Final = 1.5
MOST_LIVE_S: Final = 0.1


# -- one process per contender: commands on stdin, figures on stdout -------------------------------


def by_hand(folder: Path) -> None:
    connection = duckdb.connect()
    files = str(folder / "records" / "model=*" / "hour=*" / "*.parquet")
    sql = f"""
        SELECT model, (ts_ns - {START_NS}) // {MINUTE_NS} AS minute, count(*), avg(total_ns),
          quantile_cont(total_ns, [0.75, 0.95, 0.99])
        FROM read_parquet('{files}', hive_partitioning = true) GROUP BY ALL"""
    for _ in sys.stdin:
        began = time.perf_counter()
        rows = connection.execute(sql).fetchall()
        tell(began, len(rows), sum(row[2] for row in rows))


def question(model: int) -> WindowQuery:
    until_ns = START_NS + HOURS * HOUR_NS
    return WindowQuery(model=name(model), since_ns=START_NS, until_ns=until_ns, window_ns=MINUTE_NS)


def by_headway(folder: Path) -> None:
    async def answer() -> None:
        log = DuckdbQueryLog(folder, PartStore.directory(folder / "records"))
        for _ in sys.stdin:
            began = time.perf_counter()
            tables = await asyncio.gather(*(log.windows(question(model)) for model in range(MODELS)))
            windows = sum(len(table.windows) for table in tables)
            records = sum(window.count for table in tables for window in table.windows)
            tell(began, windows, records)
        await log.close()

    asyncio.run(answer())


def tell(began: float, windows: int, records: int) -> None:
    taken = time.perf_counter() - began
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"s": taken, "windows": windows, "records": records, "mb": peak_mb}), flush=True)


class Contender:
    """A process that answers once for each line that it is sent."""

    def __init__(self, kind: str, folder: Path) -> None:
        command = [sys.executable, __file__, "--folder", str(folder), "--as", kind]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.kind = kind
        self.taken: list[float] = []
        self.last: dict[str, Any] = {}

    def ask(self) -> float:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        self.last = json.loads(self._process.stdout.readline())
        return float(self.last["s"])

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def compare(folder: Path) -> float:
    """How many times as long Headway takes."""
    contenders = [Contender("hand", folder), Contender("headway", folder)]
    try:
        first = [contender.ask() for contender in contenders]
        for _ in range(ROUNDS):
            for contender in contenders:
                contender.taken.append(contender.ask())
        print(f"\n    {'':12}{'first':>8}{'median':>8}{'fastest':>9}{'slowest':>9}{'windows':>9}{'peak':>9}")
        for contender, cold in zip(contenders, first, strict=True):
            taken, last = contender.taken, contender.last
            print(
                f"    {contender.kind:12}{cold:7.2f}s{statistics.median(taken):7.2f}s{min(taken):8.2f}s"
                f"{max(taken):8.2f}s{last['windows']:9,}{last['mb']:6.0f} MB"
            )
        hand, headway = contenders
        same = all(hand.last[key] == headway.last[key] for key in ("windows", "records"))
        if not same:
            print("    the two do not agree on windows or records")
            return float("inf")
        return statistics.median(headway.taken) / statistics.median(hand.taken)
    finally:
        for contender in contenders:
            contender.close()


# -- half an hour that goes on -----------------------------------------------------------------------


QUESTIONS: Final[dict[str, dict[str, Any]]] = {
    "one window": {"window_ns": LIVE_S * 10**9},
    "by minute": {"window_ns": MINUTE_NS},
    "by minute and version": {"window_ns": MINUTE_NS, "by": (GroupBy.VERSION,)},
    "one window, exact": {"window_ns": LIVE_S * 10**9, "exact": True},
}


async def ask_live(folder: Path, seconds: float) -> float:
    """Seconds that the last 30 minutes in one window take; the median while rows keep coming."""
    shutil.rmtree(folder, ignore_errors=True)
    now_ns = time.time_ns()
    store = make_live_parts(folder, now_ns)
    command = [sys.executable, __file__, "--folder", str(folder), "--as", "writer", "--now", str(now_ns)]
    writer = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)  # noqa: ASYNC220
    assert writer.stdin
    assert writer.stdout
    try:
        writer.stdout.readline()
        log = DuckdbQueryLog(folder, store)
        began = time.perf_counter()
        await log.ingest()
        print(f"\n    first look at the segments: {time.perf_counter() - began:.2f} s")
        taken: dict[str, list[float]] = {kind: [] for kind in QUESTIONS}
        counts: list[int] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            for kind, changed in QUESTIONS.items():
                until_ns = time.time_ns()
                since_ns = until_ns - LIVE_S * 10**9
                began = time.perf_counter()
                table = await log.windows(WindowQuery(model="live", since_ns=since_ns, until_ns=until_ns, **changed))
                taken[kind].append(time.perf_counter() - began)
                counts.append(sum(window.count for window in table.windows))
                await asyncio.sleep(0.25)
        print(f"    last 30 minutes of {RATE:,} requests/s, {min(counts):,} to {max(counts):,} records:")
        for kind, times in taken.items():
            times.sort()
            median_ms, slowest_ms = statistics.median(times) * 1e3, times[-1] * 1e3
            print(f"    {kind:24}{median_ms:6.0f} ms, slowest {slowest_ms:.0f} ms of {len(times)}")
        await log.close()
        return statistics.median(taken["one window"])
    finally:
        writer.stdin.close()
        writer.wait()
        writer.stdout.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=50_000_000)
    parser.add_argument("--folder", type=Path, default=Path(".bench/query-log"))
    parser.add_argument("--seconds", type=float, default=15, help="of live questions")
    parser.add_argument("--only", choices=["files", "live"])
    parser.add_argument("--as", dest="kind", choices=["hand", "headway", "writer"], help=argparse.SUPPRESS)
    parser.add_argument("--now", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    folder: Path = given.folder.resolve()
    if given.kind == "writer":
        write_live(folder, given.now)
    elif given.kind:
        {"hand": by_hand, "headway": by_headway}[given.kind](folder)
    if given.kind:
        return 0
    good = True
    if given.only != "live":
        make_parts(folder / "day", given.records)
        ratio = compare(folder / "day")
        good = ratio <= MOST_RATIO
        print(f"    Headway takes {ratio:.2f} times as long as by hand (at most {MOST_RATIO})")
    if given.only != "files":
        live_s = asyncio.run(ask_live(folder / "live", given.seconds))
        good = live_s < MOST_LIVE_S and good
        print(f"    one live window takes {live_s * 1e3:.0f} ms (less than {MOST_LIVE_S * 1e3:.0f})")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
