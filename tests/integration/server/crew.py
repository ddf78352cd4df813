"""A replica of several worker processes, and what tests ask of it."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import psutil

from tests.integration.server.replica import Replica
from tests.waiting import wait_until

CONST = 'model="iris",version="v1"'
PID = """
import os, time
class M:
    def predict(self, X):
        number = {-1: 9, -2: 11, -3: 19}.get(X[0][0])  # SIGKILL, SIGSEGV, SIGSTOP
        if number:
            os.kill(os.getpid(), number)
        return [os.getpid()] * len(X)
"""
"""Tells who answered; -1, -2, -3 make an end of it."""


THREAD = """
import threading, time, os
class M:
    def load(self):
        self.lock = threading.Lock()
        threading.Thread(target=self.work, daemon=True, name="prefetch").start()
    def work(self):
        while True:
            with self.lock:
                self.seen = time.monotonic()
            time.sleep(0.01)
    def predict(self, X):
        return [time.monotonic() - self.seen < 5]
"""
"""Cannot be forked."""


def gated(gate: Path) -> str:
    """A model that tells who answered, for -1 not before ``gate`` is there.

    No call of it is faster than what counts as fast (``placement.FAST_S``): so none runs on the event loop, however
    often a worker was asked before it meets the gate, and it goes on to tell what it has in flight.
    """
    return f"""
import os, time
class M:
    def predict(self, X):
        time.sleep(0.003)
        while X[0][0] == -1 and not os.path.exists({str(gate)!r}):
            time.sleep(0.005)
        return [os.getpid()] * len(X)
"""


def rows(body: bytes) -> bytes:
    """A request."""
    return b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def ask(raw: socket.socket, body: bytes = b"[[1]]") -> Any:
    """The predictions for ``body``; raises ``ConnectionError`` when the other end is gone."""
    raw.sendall(rows(body))
    answer = raw.recv(65536)
    if not answer:
        raise ConnectionResetError
    return json.loads(answer.partition(b"\r\n\r\n")[2])["predictions"]


class Crew(Replica):
    """Entered, all ``workers`` of it serve, unless it is not to be waited for."""

    def __init__(
        self,
        scratch: Path,
        files: dict[str, str] | str,
        workers: int = 2,
        *,
        options: dict[str, Any] | None = None,
        wait: bool = True,
        **config: Any,
    ) -> None:
        super().__init__(scratch, files, wait=wait, options={"workers": workers, **(options or {})}, **config)
        self._opened: list[socket.socket] = []

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for raw in self._opened:
            raw.close()
        super().__exit__(kind, error, trace)

    def await_ready(self) -> None:
        self.await_listening()

        def ready() -> bool:
            assert self.process.poll() is None, self.log()
            try:
                with self.client() as client:
                    return client.get("/health/ready").status_code == 200
            except httpx.TransportError:  # what served it gave way to something else
                return False

        wait_until(ready, what="all workers serve")

    def await_listening(self) -> None:
        """Until somebody listens; workers perhaps not yet."""
        super().await_ready()

    def pids(self) -> set[int]:
        """Of the workers that live."""
        with contextlib.suppress(psutil.NoSuchProcess):
            found = psutil.Process(self.process.pid).children()
            return {child.pid for child in found if child.status() != psutil.STATUS_ZOMBIE}
        return set()

    def each(self, count: int = 2) -> dict[int, socket.socket]:
        """A connection to every worker, by its pid; for models that answer with it."""
        found: dict[int, socket.socket] = {}

        def all_met() -> bool:
            raw = self.connect()
            self._opened.append(raw)
            if found.setdefault(ask(raw)[0], raw) is not raw:
                raw.close()
            return len(found) == count

        wait_until(all_met, what=f"{count} workers answer")
        return found

    def once(self, body: bytes = b"[[1]]") -> Any:
        """The predictions for ``body``, on a connection of its own."""
        with self.connect() as raw:
            return ask(raw, body)

    def metrics(self) -> str:
        """The exposition."""
        with self.client() as client:
            return client.get("/metrics").text

    def metric(self, name: str) -> float:
        """The value of the first series that begins with ``name``; 0 when there is none."""
        found = (line for line in self.metrics().splitlines() if line.startswith(name))
        return float(next(found, "0").rpartition(" ")[2])
