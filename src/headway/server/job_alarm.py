"""The time limit of a job's attempt, kept by the kernel: no code of the model's, whatever it holds, can miss it.

``setitimer(ITIMER_REAL)`` sends SIGALRM when the time is over, whose action is left at its default: the process ends.
"""

from __future__ import annotations

import signal
from typing import Final, Protocol

LEAST_S: Final = 0.001


class Alarm(Protocol):
    """Ends the process unless it is disarmed in time."""

    def arm(self, seconds: float) -> None:
        """From now on; may be called on any thread."""
        ...

    def disarm(self) -> None:
        """The time limit is over."""
        ...


class ProcessAlarm:
    """The process's one interval timer. Made on the main thread, where signals are settled."""

    def __init__(self) -> None:
        # What the model's code or a library has put there while loading would keep the process alive.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGALRM})

    def arm(self, seconds: float) -> None:
        """See :class:`Alarm`."""
        signal.setitimer(signal.ITIMER_REAL, max(LEAST_S, seconds))

    def disarm(self) -> None:
        """See :class:`Alarm`."""
        signal.setitimer(signal.ITIMER_REAL, 0)
