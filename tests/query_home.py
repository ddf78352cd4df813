"""A query log on files whose writers a test plays."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from headway.adapters.querylog import DuckdbQueryLog, PartStore
from headway.domain.query_log import (
    IngestReport,
    Losses,
    QueryRecord,
    RecordQuery,
    Retention,
    Window,
    WindowQuery,
)
from tests.gateway_lines import GatewayLog
from tests.query_records import START_NS
from tests.segment_files import WALL_NS, Row, SegmentFile

T = TypeVar("T")
SECOND = 1_000_000_000
MONO = START_NS - WALL_NS
"""The monotonic clock at START_NS."""


class Home:
    """A query log whose writers a test plays. ``ask`` runs one question and closes what it opened."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = PartStore.directory(root / "records")
        self.log = DuckdbQueryLog(root, self.store)
        self.gateway = GatewayLog(root)
        self._segments: list[SegmentFile] = []

    def segment(
        self, stream: str = "iris-v1-bcdfg.0", number: int = 0, model: str = "iris", **given: Any
    ) -> SegmentFile:
        replica = stream.partition(".")[0]
        file = SegmentFile(
            self.root / "segments" / model, stream=stream, number=number, model=model, replica=replica, **given
        )
        self._segments.append(file)
        return file

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run(work)

    def records(self, model: str = "iris", **changed: Any) -> list[QueryRecord]:
        query = RecordQuery(model=model, since_ns=0, until_ns=2**62, **changed)
        return self.run(self.log.records(query))

    def ids(self, model: str = "iris") -> list[str]:
        return [one.request_id for one in self.records(model)]

    def window(self, model: str = "iris") -> Window | None:
        query = WindowQuery(model=model, since_ns=0, until_ns=2**62, window_ns=2**62)
        windows = self.run(self.log.windows(query)).windows
        return windows[0] if windows else None

    def losses(self, model: str = "iris") -> Losses:
        return self.run(self.log.losses(model))

    def ingest(self) -> IngestReport:
        return self.run(self.log.ingest())

    def compact(self, now_ns: int = START_NS) -> None:
        self.run(self.log.compact(now_ns, Retention()))

    def close(self) -> None:
        self.run(self.log.close())
        for file in self._segments:
            file.die()


def row(request_id: str = "r", after_ns: int = 0, **changed: Any) -> Row:
    """Arrives ``after_ns`` after START_NS."""
    return Row(received=MONO + after_ns, answered=MONO + after_ns + 1000, request_id=request_id, **changed)
