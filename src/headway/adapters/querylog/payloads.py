"""Sampled payloads on disk: JSON lines in ``<root>/<model>/``, written by model servers, read and removed here.

A line that is not whole (its writer was killed, the disk was full) is passed over.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from heapq import nlargest
from pathlib import Path

import msgspec

from headway.domain.query_log import Payload, Retention

SUFFIX = ".payloads.jsonl"
WRITING_S = 60.0
"""A file that was written to this recently is not removed: its writer would go on in a file without a name."""

_decode = msgspec.json.Decoder(Payload).decode


class FilePayloadLog:
    """The payloads below ``root``."""

    def __init__(self, root: Path) -> None:
        self._root = root

    async def payloads(self, model: str, since_ns: int, until_ns: int, limit: int) -> list[Payload]:
        """See :class:`headway.ports.payload_log.PayloadLog`."""
        return await asyncio.to_thread(self._newest, model, since_ns, until_ns, limit)

    async def expire(self, now_ns: int, retention: Retention) -> int:
        """See :class:`headway.ports.payload_log.PayloadLog`."""
        return await asyncio.to_thread(self._expire, now_ns, retention)

    def _newest(self, model: str, since_ns: int, until_ns: int, limit: int) -> list[Payload]:
        fitting = (
            payload
            for modified_ns, _, path in self._files(model)
            if modified_ns >= since_ns
            for payload in _read(path)
            if since_ns <= payload.ts_ns < until_ns
        )
        newest = nlargest(limit, fitting, key=_order)
        return newest[::-1]

    def _expire(self, now_ns: int, retention: Retention) -> int:
        files = sorted(self._files("*"))
        total = sum(size for _, size, _ in files)
        removed = 0
        for modified_ns, size, path in files:
            old = retention.max_age_s is not None and now_ns - modified_ns > retention.max_age_s * 1e9
            much = retention.max_bytes is not None and total - removed > retention.max_bytes
            if not (old or much) or now_ns - modified_ns < WRITING_S * 1e9:
                break
            with contextlib.suppress(OSError):
                path.unlink()
                removed += size
        return removed

    def _files(self, model: str) -> Iterator[tuple[int, int, Path]]:
        for path in self._root.glob(f"{model}/*{SUFFIX}"):
            with contextlib.suppress(FileNotFoundError):
                found = path.stat()
                yield found.st_mtime_ns, found.st_size, path


def _order(payload: Payload) -> tuple[int, str, int]:
    return payload.ts_ns, payload.stream, payload.seq


def _read(path: Path) -> Iterator[Payload]:
    with contextlib.suppress(FileNotFoundError), path.open("rb") as file:
        for line in file:
            with contextlib.suppress(msgspec.MsgspecError):
                yield _decode(line)
