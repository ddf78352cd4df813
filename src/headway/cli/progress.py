"""Live progress of deploys and changes: a status that moves on a terminal, a line per stage in a pipe."""

from __future__ import annotations

import time
from types import TracebackType

from rich.markup import escape
from rich.status import Status

from headway.cli.output import err, is_json
from headway.client.progress import Progress

_MARKS = {"done": "[green]✓[/]", "failed": "[red]✗[/]", "running": "[yellow]…[/]"}


class LiveProgress:
    """Use as a context manager and pass :meth:`update` as the client's callback."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._started = time.monotonic()
        self._status: Status | None = None
        self._last: tuple[str, str, str] | None = None

    def __enter__(self) -> LiveProgress:
        if err.is_terminal and not is_json():
            self._status = err.status(escape(self._title))
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()

    def update(self, step: Progress) -> None:
        """Show ``step``; repeats of the same are shown once."""
        seen = (step.stage, step.state, step.text)
        if is_json() or seen == self._last:
            return
        self._last = seen
        elapsed = time.monotonic() - self._started
        if step.state == "running" and self._status is not None:
            self._status.update(f"{escape(step.stage)}: {escape(step.text)} [dim]{elapsed:.1f} s[/]")
            return
        mark = _MARKS[step.state] if err.is_terminal else ("" if step.state == "running" else step.state)
        err.print(f"{mark} {step.stage:<12}{escape(step.text)} [dim]{elapsed:.1f} s[/]".lstrip())
