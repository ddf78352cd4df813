"""Answers of the query log's routes, for tests of the client and of the command line."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

SINCE = 1_795_328_400.0
"""2026-11-22 06:20:00 UTC."""
NO_LOSSES = {"dropped": 0, "torn": 0, "missing": 0, "clock_steps": 0}


def window(place: int, *, length_s: float = 60.0, group: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """The window at ``place`` after :data:`SINCE`; latencies grow with it."""
    begin = SINCE + place * length_s
    count = more.get("count", 60)
    latencies = {"average_ms": 2.5, "p50_ms": 2.0, "p75_ms": 3.0, "p95_ms": 10.0 + place, "p99_ms": 20.5}
    made = {
        "start": begin,
        "end": begin + length_s,
        "group": group or {},
        "count": count,
        "timed": count,
        "errors": 0,
        "rate_per_s": count / length_s,
        **latencies,
    }
    return {**made, **more}


def latency(
    windows: Sequence[dict[str, Any]], *, count: int = 5, length_s: float = 60.0, **more: Any
) -> dict[str, Any]:
    """A ``LatencyView`` of ``count`` windows, of which ``windows`` hold requests."""
    return {
        "model": "iris",
        "since": SINCE,
        "until": SINCE + count * length_s,
        "window_s": length_s,
        "field": "total",
        "by": [],
        "exact": True,
        "relative_error": 0.0,
        "losses": NO_LOSSES,
        "windows": list(windows),
        **more,
    }


def many(count: int, groups: Sequence[str] = ("",), length_s: float = 60.0) -> dict[str, Any]:
    """``count`` windows with requests, of each of ``groups`` (by client)."""
    by = ["client"] if tuple(groups) != ("",) else []
    made = [
        window(
            place,
            length_s=length_s,
            group={"client": group} if by else None,
            count=60 + 10 * number,
            p95_ms=20 + 10 * math.sin(place / 7) + number,
            errors=place % 3 == 0,
        )
        for place in range(count)
        for number, group in enumerate(groups)
    ]
    return latency(made, count=count, length_s=length_s, by=by)


def record(seq: int, **more: Any) -> dict[str, Any]:
    """A ``RecordView``, 10 ms after the one before."""
    ts_ns = int(SINCE) * 10**9 + seq * 10_000_000
    return {
        "at": ts_ns / 1e9,
        "ts_ns": ts_ns,
        "model": "iris",
        "version": "v1",
        "replica": "iris-v1-bcdfg",
        "stream": "iris-v1-bcdfg.1",
        "seq": seq,
        "request_id": f"request-{seq}",
        "route": "predict",
        "format": "rows",
        "status": 200,
        "rows": 1,
        "batch": 1,
        "bytes_in": 24,
        "bytes_out": 80,
        "total_ns": 1_234_000,
        "queue_ns": 20_000,
        "decode_ns": 10_000,
        "predict_ns": 510_000,
        "encode_ns": 9_000,
        "cold_start": False,
        "shed": False,
        "expired": False,
        "client": "",
        "arm": "split",
        **more,
    }


def cursor(seq: int) -> str:
    return f"{record(seq)['ts_ns']}.{seq}.iris-v1-bcdfg.1"


def page(*seqs: int, more: bool = False, **others: Any) -> dict[str, Any]:
    """A ``RecordPage`` of the records with these numbers."""
    return {
        "model": "iris",
        "since": SINCE,
        "until": SINCE + 600,
        "records": [record(seq) for seq in seqs],
        "next": cursor(seqs[-1]) if seqs else None,
        "more": more,
        "losses": NO_LOSSES,
        **others,
    }
