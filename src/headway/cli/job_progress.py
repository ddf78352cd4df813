"""Live progress of jobs: a bar on a terminal, a line for each change in a pipe, nothing beside JSON."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Final

from rich.text import Text

from headway.cli import live_line
from headway.cli.interrupts import stopped_by
from headway.cli.job_text import progress_text
from headway.cli.output import count_text, err, is_json, note
from headway.domain.errors import DeadlineExceeded

if TYPE_CHECKING:
    from rich.live import Live

    from headway.client import Client
    from headway.client.job_views import Job

WIDTH: Final = 30
LOOK_S: Final = 1.0
GIVE_UP_S: Final = 60.0
"""Who waits outlives restarts of gateway and job server that take no longer."""
OPEN: Final = ("queued", "running")


class _Bar:
    """What moves. ``tell`` prints a line where nothing can move."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._started = time.monotonic()
        self._live: Live | None = None
        self._fraction: float | None = None
        self._text = ""

    def __enter__(self) -> _Bar:
        self._live = live_line.begin(self._moving)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()
        if stopped_by(kind):
            note("not waiting any longer; what was submitted goes on")

    def show(self, fraction: float | None, text: str) -> None:
        """How far it is: 0 to 1, or None when that is not known."""
        changed = text != self._text
        self._fraction, self._text = fraction, text
        if self._live is None and changed and not is_json():
            percent = "" if fraction is None else f"{fraction:.0%}  "
            err.print(Text(f"{self._title}  {percent}{text}"))

    def _moving(self) -> Text:
        elapsed_s = time.monotonic() - self._started
        line = Text.assemble(live_line.spinner(elapsed_s), self._title, "  ")
        if self._fraction is not None:
            full = round(min(max(self._fraction, 0.0), 1.0) * WIDTH)
            line.append("━" * full, "green")
            line.append("━" * (WIDTH - full), "dim")
            line.append(f" {self._fraction:>4.0%}  ")
        line.append(self._text)
        line.append(f"  {elapsed_s:.0f} s", "dim")
        line.no_wrap, line.overflow = True, "ellipsis"
        return line


class JobBar(_Bar):
    """Of one job. Pass :meth:`update` to ``wait``."""

    def __enter__(self) -> JobBar:
        super().__enter__()
        return self

    def update(self, job: Job) -> None:
        """Show ``job`` as it is."""
        fraction = job.progress.fraction if job.progress is not None and job.state == "running" else None
        self.show(fraction, progress_text(job))


class BatchProgress(_Bar):
    """Of a batch of ``count`` jobs."""

    def __init__(self, title: str, count: int) -> None:
        super().__init__(title)
        self._count = count

    def __enter__(self) -> BatchProgress:
        super().__enter__()
        return self

    def follow(self, client: Client, name: str, batch: str, timeout_s: float | None) -> None:
        """Return when all of them have ended. Raises ``DeadlineExceeded``."""
        begun = time.monotonic()
        while True:
            still = client.jobs.list(name, states=OPEN, batch=batch, limit=self._count, patience_s=GIVE_UP_S)
            running = sum(job.state == "running" for job in still)
            ended = self._count - len(still)
            self.show(ended / self._count, f"{ended} of {self._count} ended, {running} running")
            if not still:
                return
            if timeout_s is not None and time.monotonic() - begun >= timeout_s:
                waiting = count_text(len(still), "job")
                raise DeadlineExceeded(
                    f"{waiting} of the batch have not ended after {timeout_s:g} s; they go on",
                    hint=f"headway job list {name} --batch {batch}",
                )
            time.sleep(LOOK_S)
