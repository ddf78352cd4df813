"""Interrupts: Ctrl-C and SIGTERM end a command, whatever the interpreter is just doing.

Python's own handler of a signal only sets a flag; the main thread looks at it between two instructions and raises
there. That loses an interrupt in two ways, both rare:

- The flag is set after the last look and before a call that blocks, or by way of another thread. Nothing interrupts
  the call, and a log that is followed goes on until its next line.
- ``KeyboardInterrupt`` is raised where nobody can catch it, in a finalizer or in a callback of a weak reference (each
  ``import`` has one). Python prints ``Exception ignored in`` and goes on.

Here a thread hears of every signal by the wake-up pipe (``signal.set_wakeup_fd``) the moment it comes. It nudges the
main thread out of the call by another signal, which does nothing else, and sends again what was raised in vain. An
event loop that handles signals has a pipe of its own, to the same effect, and takes this one's place meanwhile; that of
asyncio does not give it back, so it is for the end of a command.

Nor need what is raised end the command. Between a lock's acquisition and the ``try`` that releases it, it leaves a
clean-up that waits for that lock for ever; and a call that no signal interrupts, as the resolver's, keeps it waiting.
So the thread ends the process hard at a second signal, or when the first has not ended it after :data:`UNWIND_S`;
never where the command handles the signal in a way of its own, as a load test does to scale its model back.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from asyncio import CancelledError, Runner, get_running_loop
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final, NoReturn

from headway.cli.exit_codes import INTERRUPTED, TERMINATED

NUDGE: Final = signal.SIGURG
"""Ignored by default, so a child that gets it by mistake is not harmed."""
NUDGES_S: Final = (0.02, 0.1, 0.5)
"""After the signal. Several: one can come to nothing as the signal itself did."""
AGAIN_S: Final = 0.01
"""Until the main thread has surely left what swallowed its exception; else that is swallowed as well."""
UNWIND_S: Final = 10.0
"""A command that a signal has not ended by then is not going to end."""
TWICE_S: Final = 0.5
"""What comes sooner is the same one: a launcher hands on what the terminal has sent to both. It is raised again."""
END_S: Final = 1.0
_CODES: Final[dict[int, int]] = {signal.SIGINT: INTERRUPTED, signal.SIGTERM: TERMINATED}
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


@contextmanager
def told_to_end(end: Callable[[], None]) -> Iterator[None]:
    """Within a coroutine: Ctrl-C, SIGTERM, and a terminal that is closed, call ``end`` meanwhile and do nothing else.

    Whoever has the last one ignored, as ``nohup`` does, wants to go on without a terminal.
    """
    loop = get_running_loop()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]
    for number in before:
        loop.add_signal_handler(number, end)
    try:
        yield
    finally:
        for number, handler in before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)


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
        self._due: list[tuple[float, int]] = []
        """When to send the main thread which signal, or, of a negative number, to end by it."""
        self._unwinding_since: float | None = None
        self._thread = threading.Thread(target=self._listen, name="interrupts", daemon=True)
        self._thread.start()
        signal.set_wakeup_fd(self._told, warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        sys.unraisablehook = self._unraisable  # it writes into the pipe
        signal.set_wakeup_fd(-1)
        os.close(self._told)
        self._thread.join(END_S)
        os.close(self._heard)
        signal.signal(NUDGE, self._at_nudge)
        if signal.getsignal(signal.SIGTERM) is _terminate:  # a command that is over may have it ignored
            signal.signal(signal.SIGTERM, self._at_sigterm)

    def _listen(self) -> None:
        while True:
            wait_s = max(0.0, min(self._due)[0] - time.monotonic()) if self._due else None
            if select.select([self._heard], [], [], wait_s)[0]:
                told = os.read(self._heard, 4096)
                if not told:
                    return
                for number in told:
                    self._hear(number, time.monotonic())
            for one in [one for one in self._due if one[0] <= time.monotonic()]:
                self._due.remove(one)
                if one[1] > 0:
                    signal.pthread_kill(self._main, one[1])
                else:
                    self._unwinding_since = None
                    if _unwinds(-one[1]):
                        _end(-one[1])

    def _hear(self, number: int, now: float) -> None:
        if number >= _RAISED_IN_VAIN:
            # What is sent again is no second one.
            self._unwinding_since = None
            self._due.append((now + AGAIN_S, number - _RAISED_IN_VAIN))
        elif number in _CODES:
            self._due += [(now + after_s, NUDGE) for after_s in NUDGES_S]
            if not _unwinds(number):
                return
            if self._unwinding_since is None:
                self._unwinding_since = now
                self._due.append((now + UNWIND_S, -number))
            elif now - self._unwinding_since >= TWICE_S:
                _end(number)

    def _raised_in_vain(self, what: sys.UnraisableHookArgs) -> None:
        number = _RAISED_BY.get(what.exc_type)
        if number is None:
            self._unraisable(what)
        else:
            os.write(self._told, bytes([_RAISED_IN_VAIN + number]))


def _unwinds(number: int) -> bool:
    """Whether a signal raises, rather than being ignored or handled in a way of the command's own."""
    handler = signal.getsignal(number)
    # A runner's handler of Ctrl-C, a bound one with arguments, cancels what runs where the default one would raise.
    runner = getattr(getattr(handler, "func", None), "__self__", None)
    return handler in (signal.default_int_handler, _terminate) or isinstance(runner, Runner)


def _end(number: int) -> NoReturn:
    # Not by the signal's default action: the first process of a container has none.
    os._exit(_CODES[number])


def _wake(number: int, frame: FrameType | None) -> None:
    """That it came is all there is to it."""


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated
