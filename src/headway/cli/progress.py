"""Live progress of deploys and changes: on a terminal a line that moves, elsewhere a line per step that matters.

One line per stage stays: what came of it and when, counted from the start. What a stage is just doing is shown on a
terminal while it does it. In a pipe it gets a line only once it takes longer than :data:`LINGER_S`, so that the log of
a slow build tells what it waits for and that of a quick one stays short.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from rich.text import Text

from headway.cli import live_line
from headway.cli.interrupts import stopped_by
from headway.cli.output import err, is_json, note

if TYPE_CHECKING:
    from rich.live import Live

    from headway.client import Progress

LINGER_S = 1.0


@dataclass(frozen=True, slots=True)
class Step:
    """A step of something that no control plane does; as ``client.Progress`` for the rest."""

    stage: str
    state: Literal["running", "done", "failed"]
    text: str


_MARKS = {"done": ("✓", "green"), "failed": ("✗", "red")}


class LiveProgress:
    """Use as a context manager and pass :meth:`update` as the client's callback.

    ``title`` is shown until the first step. ``brief``: keep lines only of stages that took longer than
    :data:`LINGER_S`; the command's own last line says what came of it. ``goes_on``: what was asked for does, when
    waiting for it is interrupted.
    """

    def __init__(self, title: str, *, brief: bool = False, goes_on: bool = True) -> None:
        self._title = title
        self._brief = brief
        self._goes_on = goes_on
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._late: threading.Timer | None = None
        self._running: Progress | Step | None = None
        self._begun_s: dict[str, float] = {}
        self._last: Progress | Step | None = None
        self._last_s = 0.0

    def __enter__(self) -> LiveProgress:
        self._live = live_line.begin(self._moving)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget_late()
        if self._live is not None:
            self._live.stop()
        if self._goes_on and stopped_by(kind) and self._last is not None and self._last.stage != "bundle":
            note("not waiting any longer; what was asked for goes on: headway list")

    def update(self, step: Progress | Step) -> None:
        """Show ``step``; repeats of the same are shown once."""
        if is_json() or step == self._last:
            return
        self._forget_late()
        elapsed = self._elapsed_s
        began = self._begun_s.setdefault(step.stage, elapsed if step.state == "running" else self._last_s)
        self._last, self._last_s = step, elapsed
        self._running = step if step.state == "running" else None
        if step.state != "running":
            if not self._brief or step.state == "failed" or elapsed - began > LINGER_S:
                self._print(step, elapsed)
        elif self._live is None:
            self._late = threading.Timer(LINGER_S, self._print_late, (step,))
            self._late.daemon = True
            self._late.start()

    @property
    def _elapsed_s(self) -> float:
        return time.monotonic() - self._started

    def _forget_late(self) -> None:
        with self._lock:
            if self._late is not None:
                self._late.cancel()
                self._late = None

    def _print_late(self, step: Progress | Step) -> None:
        with self._lock:
            if self._late is not None:
                self._print(step, self._elapsed_s)

    def _print(self, step: Progress | Step, elapsed_s: float) -> None:
        # The error that follows says why it failed.
        text = "" if step.state == "failed" else step.text
        if self._live is None:
            err.print(_line(step.stage, f"{step.state:<9}{text}", elapsed_s))
            return
        mark, style = _MARKS[step.state]
        err.print(Text.assemble((f"{mark} ", style), _line(step.stage, text, elapsed_s)))
        self._live.refresh()  # else what it was doing before would be shown once more, below

    def _moving(self) -> Text:
        elapsed = self._elapsed_s
        running = self._running
        line = _line(running.stage, running.text, elapsed) if running is not None else Text(self._title)
        return Text.assemble(live_line.spinner(elapsed), line, no_wrap=True, overflow="ellipsis")


def _line(stage: str, text: str, elapsed_s: float) -> Text:
    """Stage, text, time: in columns as long as the text is not too long for it."""
    return Text.assemble(f"{stage:<13}{text:<50}  ", (f"{elapsed_s:>6.1f} s", "dim"))
