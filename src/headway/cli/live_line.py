"""The line that moves on a terminal while something goes on; where nothing can move there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from headway.cli.output import err, is_json

if TYPE_CHECKING:
    from rich.live import Live
    from rich.text import Text

REFRESHES_PER_S: Final = 10
_FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


def begin(moving: Callable[[], Text]) -> Live | None:
    """Show what ``moving`` gives, again and again until ``stop``. None in a pipe, beside JSON, on a dumb terminal."""
    if is_json() or not err.is_terminal or err.is_dumb_terminal or not err.encoding.startswith("utf"):
        return None
    from rich.live import Live

    live = Live(
        console=err,
        get_renderable=moving,
        refresh_per_second=REFRESHES_PER_S,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    live.start()
    return live


def spinner(elapsed_s: float) -> tuple[str, str]:
    """The sign that turns, and its style."""
    return f"{_FRAMES[int(elapsed_s * REFRESHES_PER_S) % len(_FRAMES)]} ", "yellow"
