"""Carries a load test out: progress while it runs, Ctrl-C, the report's files."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

import uvloop
from rich.text import Text

from headway.cli.load_html import render
from headway.cli.load_text import line
from headway.cli.output import err, is_json
from headway.control.collector import calm_collector
from headway.domain.errors import InvalidInput
from headway.domain.load_documents import to_document
from headway.domain.load_reports import LoadPoint, LoadReport
from headway.domain.load_shapes import LoadShape
from headway.domain.promises import Promise
from headway.ports.load_generator import LoadRequest, LoadTarget

if TYPE_CHECKING:
    from rich.live import Live

    from headway.control.load_test import LoadTester

PLAIN_LINES: Final = 60
"""At most about so many lines of progress where they are not replaced."""
SWITCH_S: Final = 0.0005
"""The thread that looks at the model must not hold up requests for Python's usual 5 ms."""


@dataclass(frozen=True, slots=True)
class Order:
    """What to carry out."""

    target: LoadTarget
    shape: LoadShape
    requests: Sequence[LoadRequest]
    promises: Sequence[Promise]
    stop_at_breach: bool


def carry_out(make: Callable[[], LoadTester], order: Order) -> LoadReport:
    """Run it. SIGINT and SIGTERM end the load at once; what there is by then is reported."""
    sys.setswitchinterval(SWITCH_S)
    calm_collector()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, LoadProgress(order.shape.duration_s) as progress:
        return runner.run(_run(make(), order, progress))


async def _run(tester: LoadTester, order: Order, progress: LoadProgress) -> LoadReport:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, tester.stop)
    try:
        return await tester.run(
            order.target,
            order.shape,
            order.requests,
            promises=order.promises,
            stop_at_breach=order.stop_at_breach,
            progress=progress.update,
        )
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


class LoadProgress:
    """On a terminal a line that changes, elsewhere lines, not too many of them. Use as a context manager."""

    def __init__(self, duration_s: float) -> None:
        self._every_s = max(1.0, duration_s / PLAIN_LINES)
        self._next_s = 0.0
        self._live: Live | None = None

    def __enter__(self) -> LoadProgress:
        if err.is_terminal and not err.is_dumb_terminal and not is_json():
            from rich.live import Live

            self._live = Live(console=err, auto_refresh=False, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, point: LoadPoint) -> None:
        """An interval is over."""
        if is_json():
            return
        if self._live is not None:
            self._live.update(Text(line(point)), refresh=True)
        elif point.end_s >= self._next_s:
            self._next_s = point.end_s + self._every_s - 0.5
            err.print(Text(line(point)))


def check_place(page: Path) -> None:
    """Before the load, since afterwards it would be for nothing. Raises ``InvalidInput``."""
    if page.suffix != ".html":
        raise InvalidInput(
            f"{page.name!r} is no name of a page", where="--report", hint="name a file that ends in .html"
        )
    if not page.parent.is_dir():
        raise InvalidInput(f"there is no folder {page.parent}", where="--report")
    try:
        page.touch()
    except OSError as error:
        raise InvalidInput(f"cannot write {page}: {error.strerror or error}", where="--report") from None
    if not page.stat().st_size:
        page.unlink()


def write(report: LoadReport, page: Path) -> Path:
    """The page, and the JSON beside it, whose path this is."""
    beside = page.with_suffix(".json")
    page.write_text(render(report), encoding="utf-8")
    beside.write_text(json.dumps(to_document(report), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return beside
