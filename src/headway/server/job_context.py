"""The call of ``predict`` that carries out jobs at the moment, as :mod:`headway.jobs` and the worker see it.

One process carries out one call at a time, so there is one such call, whatever thread of the model's asks.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident

_present: Call | None = None


class Call:
    """One call of ``predict`` for one job, or for several short ones. Used by the model's threads and by the loop."""

    __slots__ = ("_told", "_waiting", "canceled", "fraction", "job_ids", "job_s", "note", "spoke", "thread")

    def __init__(self, job_ids: tuple[str, ...], told: Callable[[], None]) -> None:
        self.job_ids = job_ids
        self.thread = get_ident()
        """On which ``predict`` is called."""
        self.canceled = False
        """Nobody wants the result of any of its jobs."""
        self.fraction: float | None = None
        self.note = ""
        self.spoke = False
        """Whether the model has said anything about its progress."""
        self.job_s: float | None = None
        """What it took for each of its jobs, once it has returned."""
        self._told = told
        self._waiting = False

    def tell(self, fraction: float | None, note: str) -> None:
        """What the model says. ``told`` is called once for all that is said until :meth:`take`."""
        self.fraction, self.note, self.spoke = fraction, note, True
        if not self._waiting:
            self._waiting = True
            self._told()

    def take(self) -> None:
        """What was said is on its way: tell of the next."""
        self._waiting = False


def present() -> Call | None:
    """The call under way; None between calls and where there are no jobs."""
    return _present


def begin(call: Call) -> None:
    """``call`` is under way."""
    global _present
    _present = call


def end() -> None:
    """No call is."""
    global _present
    _present = None
