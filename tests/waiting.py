"""Waiting in tests: for a fact, never for a while."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 60.0
"""What takes a second may take half a minute where others have the processor. Waiting long costs nothing when all is
well."""


def wait_until(fact: Callable[[], T], timeout_s: float = PATIENCE_S, *, what: str = "") -> T:
    """The first truthy answer of ``fact``; fails the test, naming ``what``, when ``timeout_s`` pass without one."""
    deadline = time.monotonic() + timeout_s
    pause_s = 0.005
    while True:
        if answer := fact():
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what or getattr(fact, '__name__', fact)}")
        time.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.1)


async def eventually(fact: Callable[[], T | Awaitable[T]], timeout_s: float = PATIENCE_S, *, what: str = "") -> T:
    """As :func:`wait_until`, leaving the event loop free; ``fact`` may be a coroutine function."""
    deadline = time.monotonic() + timeout_s
    pause_s = 0.002
    while True:
        found = fact()
        answer: T = await found if isinstance(found, Awaitable) else found
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s:g} s: {what or getattr(fact, '__name__', fact)}")
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, 0.05)


class PortPicker:
    """Free loopback TCP ports that two test processes never pick both.

    Each xdist worker has a range of its own, below the kernel's ephemeral ports (32768 and up on Linux), so
    neither another worker nor an outgoing connection takes a port between the choice and its use. Where in its range a
    worker begins depends on its process, so that two test runs on one machine seldom meet.
    """

    FIRST, PER_WORKER, WORKERS = 20_000, 500, 24

    def __init__(self, worker: int) -> None:
        self._start = self.FIRST + (worker % self.WORKERS) * self.PER_WORKER
        self._next = os.getpid() * 7 % self.PER_WORKER

    def __call__(self) -> int:
        for _ in range(self.PER_WORKER):
            port = self._start + self._next
            self._next = (self._next + 1) % self.PER_WORKER
            with socket.socket() as probe:
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError:
                    continue
                return port
        raise AssertionError("no free port in this worker's range")
