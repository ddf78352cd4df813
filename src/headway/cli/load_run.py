"""Carries a load test out: progress while it runs, Ctrl-C, the report's files."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final

import uvloop
from rich.markup import escape
from rich.text import Text

from headway.cli.exit_codes import INTERRUPTED
from headway.cli.interrupts import told_to_end
from headway.cli.load_html import render
from headway.cli.load_text import block, fitting, line, summary
from headway.cli.output import emit_json, err, is_json, note, out, say, table
from headway.control.collector import calm_collector
from headway.domain.errors import InvalidInput, PromiseBroken, VerdictRefused
from headway.domain.load_documents import to_document
from headway.domain.load_reports import Ending, LoadPoint, LoadReport, Outcome
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


def carry_out(
    make: Callable[[], LoadTester], order: Order, progress: Callable[[LoadPoint], None] | None = None
) -> LoadReport:
    """Run it. Ctrl-C, SIGTERM and a terminal that is closed end the load at once; what there is by then is reported.

    ``progress``: who hears of each interval; without it, who looks at standard error.
    """
    sys.setswitchinterval(SWITCH_S)
    calm_collector()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        if progress is not None:
            return runner.run(_run(make(), order, progress))
        with LoadProgress(order.shape.duration_s) as shown:
            return runner.run(_run(make(), order, shown.update))


async def _run(tester: LoadTester, order: Order, progress: Callable[[LoadPoint], None]) -> LoadReport:
    with told_to_end(tester.stop):
        return await tester.run(
            order.target,
            order.shape,
            order.requests,
            promises=order.promises,
            stop_at_breach=order.stop_at_breach,
            progress=progress,
        )


class LoadProgress:
    """On a terminal lines that change, elsewhere lines, not too many of them. Use as a context manager."""

    def __init__(self, duration_s: float) -> None:
        self._duration_s = duration_s
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
            self._live.update(Text(block(point, self._duration_s, err.width)), refresh=True)
        elif point.end_s >= self._next_s:
            self._next_s = point.end_s + self._every_s - 0.5
            err.print(Text(line(point)))


def page_of(report: Path | None, name: str) -> Path:
    """Where the page is to be written. ``InvalidInput`` where it cannot be."""
    page = report or Path(f"loadtest-{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}.html")
    check_place(page)
    return page


def check_place(page: Path) -> None:
    """Before the load, since afterwards it would be for nothing. Raises ``InvalidInput``."""
    if page.suffix != ".html":
        raise InvalidInput(
            f"{page.name!r} is no name of a page", where="--report", hint="name a file that ends in .html"
        )
    if not page.parent.is_dir():
        raise InvalidInput(f"there is no folder {page.parent}", where="--report")
    for path in (page, page.with_suffix(".json")):
        check_writable(path, "--report")


def check_writable(path: Path, where: str) -> None:
    """Raises ``InvalidInput`` at ``where`` when ``path`` cannot be written."""
    try:
        with path.open("ab") as file:  # what is there stays until the new one takes its place
            empty = not file.tell()
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror or error}", where=where) from None
    if empty:
        path.unlink()


def write(report: LoadReport, page: Path) -> Path:
    """The page, and the JSON beside it, whose path this is."""
    beside = page.with_suffix(".json")
    page.write_text(render(report), encoding="utf-8")
    beside.write_text(json.dumps(to_document(report), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    return beside


def told(report: LoadReport, page: Path, beside: Path) -> int:
    """Print the report and return the exit code, or raise what :func:`judged` does."""
    if is_json():
        emit_json(to_document(report))
    else:
        columns, cells = fitting(report, out.width if out.is_terminal else None)
        table(columns, cells, empty="nothing was sent")
        for text in summary(report):
            say(escape(text))
        if report.health.saturated and report.verdict.outcome is Outcome.NONE:
            note("[yellow]these figures are of the generator as much as of the model[/]")
    note(f"report: {escape(str(page))}, {escape(str(beside))}")
    return judged(report, str(page))


def judged(report: LoadReport, page: str) -> int:
    """The exit code of a test that could be carried out and judged. Raises ``PromiseBroken`` and ``VerdictRefused``."""
    if report.ending is Ending.INTERRUPTED:
        return INTERRUPTED
    if report.ending is Ending.FAILED:
        raise VerdictRefused(f"the load could not be carried out: {report.notes[-1]}", details={"report": page})
    if report.verdict.outcome is Outcome.BROKEN:
        raise PromiseBroken("; ".join(report.verdict.reasons), details={"report": page})
    if report.verdict.outcome is Outcome.REFUSED:
        saturated = report.health.saturated
        raise VerdictRefused(
            f"no verdict: {'; '.join(report.verdict.reasons)}",
            hint="load less, send from elsewhere, or from several processes: --workers 2" if saturated else None,
            details={"report": page},
        )
    return 0
