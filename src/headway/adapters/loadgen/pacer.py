"""Pacer: calls back at an exact instant.

The event loops sleep in whole milliseconds, so that every request would leave half a millisecond late in the mean, a
good part of what a quick model needs. A timer of the kernel (timerfd_create(2)) is a descriptor that becomes readable
some 50 µs after its time, whatever the loop.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final

_MONOTONIC: Final = 1
_NONBLOCK_CLOEXEC: Final = 0o2004000
_ABSOLUTE: Final = 1


class _Spec(ctypes.Structure):
    _fields_ = (
        ("interval_s", ctypes.c_long),
        ("interval_ns", ctypes.c_long),
        ("value_s", ctypes.c_long),
        ("value_ns", ctypes.c_long),
    )


class Pacer:
    """One alarm at a time, on the clock of ``time.monotonic``. ``close`` it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, alarm: Callable[[], None]) -> None:
        self._loop = loop
        self._alarm = alarm
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.timerfd_create(_MONOTONIC, _NONBLOCK_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "no timer can be had")
        loop.add_reader(self._fd, self._rings)

    def set(self, at_s: float) -> None:
        """Call back then, or at once when that is over; takes the place of the alarm before."""
        whole = max(0, int(at_s))
        spec = _Spec(0, 0, whole, max(1, int((at_s - whole) * 1e9)))
        if self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(spec), None) != 0:
            raise OSError(ctypes.get_errno(), "the timer cannot be set")

    def _rings(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._fd, 8)
        self._alarm()

    def close(self) -> None:
        """No more alarms. Idempotent."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
