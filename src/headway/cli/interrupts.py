"""Interrupts: Ctrl-C and SIGTERM end a command, whatever the interpreter is just doing.

Python's own handler of a signal only sets a flag; the main thread looks at it between two instructions and raises
there. That loses an interrupt in two ways, both rare:

- The flag is set after the last look and before a call that blocks, or by way of another thread. Nothing interrupts
  the call, and a log that is followed goes on until its next line.
- ``KeyboardInterrupt`` is raised where nobody can catch it, in a finalizer or in a callback of a weak reference (each
  ``import`` has one). Python prints ``Exception ignored in`` and goes on.

Here a thread hears of every signal by the wake-up pipe (``signal.set_wakeup_fd``) the moment it comes. It nudges the
main thread out of the call by another signal, which does nothing else, and sends again what was raised in vain. An
event loop that handles signals has a pipe of its own, to the same effect, and takes this one's place meanwhile.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from asyncio import CancelledError
from types import FrameType
from typing import Final, NoReturn

from headway.cli.exit_codes import TERMINATED

NUDGE: Final = signal.SIGURG
"""Ignored by default, so a child that gets it by mistake is not harmed."""
NUDGES_S: Final = (0.02, 0.1, 0.5)
"""After the signal. Several: one can come to nothing as the signal itself did."""
AGAIN_S: Final = 0.01
"""Until the main thread has surely left what swallowed its exception; else that is swallowed as well."""
END_S: Final = 1.0
_RAISED_IN_VAIN: Final = 128
"""Added to a signal's number in the pipe."""


class Terminated(SystemExit):
    """SIGTERM came. As a Ctrl-C it unwinds whatever is under way."""

    def __init__(self) -> None:
        super().__init__(TERMINATED)


_RAISED_BY: Final[dict[type[BaseException], int]] = {KeyboardInterrupt: signal.SIGINT, Terminated: signal.SIGTERM}


def stopped_by(kind: type[BaseException] | None) -> bool:
    """Whether an exception of ``kind`` says that somebody does not want to wait any longer."""
    # What runs in an event loop is cancelled by a Ctrl-C, and only its caller hears of the key.
    return kind is not None and issubclass(kind, KeyboardInterrupt | CancelledError | Terminated)


class Interrupts:
    """None is lost while it is open. Use as a context manager, in the main thread."""

    def __enter__(self) -> Interrupts:
        self._main = threading.get_ident()
        self._heard, self._told = os.pipe()
        os.set_blocking(self._told, False)
        self._unraisable = sys.unraisablehook
        self._at_nudge = signal.signal(NUDGE, _wake)
        self._at_sigterm = signal.getsignal(signal.SIGTERM)
        if self._at_sigterm is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _terminate)
        sys.unraisablehook = self._raised_in_vain
        self._thread = threading.Thread(target=self._listen, name="interrupts", daemon=True)
        self._thread.start()
        signal.set_wakeup_fd(self._told, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self._told)
        self._thread.join(END_S)
        os.close(self._heard)
        sys.unraisablehook = self._unraisable
        signal.signal(NUDGE, self._at_nudge)
        if self._at_sigterm is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._at_sigterm)

    def _listen(self) -> None:
        due: list[tuple[float, int]] = []
        """When to send the main thread which signal."""
        while True:
            wait_s = max(0.0, min(due)[0] - time.monotonic()) if due else None
            if select.select([self._heard], [], [], wait_s)[0]:
                told = os.read(self._heard, 4096)
                if not told:
                    return
                due += [one for number in told for one in _due(number)]
            for one in [one for one in due if one[0] <= time.monotonic()]:
                due.remove(one)
                signal.pthread_kill(self._main, one[1])

    def _raised_in_vain(self, what: sys.UnraisableHookArgs) -> None:
        number = _RAISED_BY.get(what.exc_type)
        if number is None:
            self._unraisable(what)
        else:
            os.write(self._told, bytes([_RAISED_IN_VAIN + number]))


def _due(number: int) -> list[tuple[float, int]]:
    now = time.monotonic()
    if number >= _RAISED_IN_VAIN:
        return [(now + AGAIN_S, number - _RAISED_IN_VAIN)]
    return [(now + after_s, NUDGE) for after_s in NUDGES_S] if number in (signal.SIGINT, signal.SIGTERM) else []


def _wake(number: int, frame: FrameType | None) -> None:
    """That it came is all there is to it."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated
