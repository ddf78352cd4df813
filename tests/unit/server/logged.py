"""A started query log in a folder of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from headway.server.query_log import QueryLogWriter
from tests.segment_walk import rows


def fast(X: Any) -> Any:  # noqa: N803
    return X[:, 0]


class Log:
    """A started writer in a folder of its own."""

    def __init__(self, root: Path, **limits: Any) -> None:
        self.folder = root / "iris"
        self.writer = QueryLogWriter(root, model="iris", version="v1", replica="iris-v1-bcdfg", **limits)

    def rows(self) -> list[dict[str, Any]]:
        return rows(self.folder)

    def files(self) -> list[Path]:
        return sorted(self.folder.glob("*.hwq"), key=lambda path: int(path.stem.rpartition("-")[2]))


@contextmanager
def logged(root: Path, **limits: Any) -> Iterator[Log]:
    log = Log(root, **limits)
    log.writer.start(asyncio.get_running_loop())
    try:
        yield log
    finally:
        log.writer.stop()


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        await main()

    asyncio.run(whole())
