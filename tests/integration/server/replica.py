"""A real model server process on a Unix socket, with a model written for the test."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from headway.server.config import FailureReport, ServerConfig, write_config
from tests.waiting import PATIENCE_S, wait_until


class Replica:
    """Starts when entered, is gone when left. ``files`` are written into the bundle, which is then read-only."""

    def __init__(self, scratch: Path, files: dict[str, str] | str, *, wait: bool = True, **config: Any) -> None:
        self.folder = scratch
        self.bundle = scratch / "bundle"
        self._wait = wait
        for name, text in ({"model.py": files} if isinstance(files, str) else files).items():
            path = self.bundle / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self.bundle.chmod(0o555)
        self.log_path = scratch / "log"
        values: dict[str, Any] = {
            "replica_id": "iris-v1-bcdfg",
            "model": "iris",
            "version": "v1",
            "digest": "0" * 64,
            "bundle_path": str(self.bundle),
            "listen": f"unix:{scratch}/s",
            "failure_file": str(scratch / "failure.json"),
            "stack_file": str(scratch / "stacks"),
            "log_file": str(self.log_path),
        }
        self.config = ServerConfig(**{**values, **config})
        self.socket_path = scratch / "s"
        write_config(self.config, scratch / "config.json")
        self.process: subprocess.Popen[bytes] = None  # type: ignore[assignment]

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headway.server", str(self.folder / "config.json")], cwd=self.folder
        )
        if self._wait:
            self.await_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()

    def await_ready(self) -> None:
        """Until it answers; fails with its log when it ends first."""

        def answers() -> bool:
            assert self.process.poll() is None, self.log()
            try:
                self.connect().close()
            except OSError:
                return False
            return True

        wait_until(answers, what="the model server listens")

    def connect(self) -> socket.socket:
        """A raw connection."""
        raw = socket.socket(socket.AF_UNIX)
        raw.settimeout(PATIENCE_S)
        try:
            raw.connect(str(self.socket_path))
        except OSError:
            raw.close()
            raise
        return raw

    def client(self) -> httpx.Client:
        """An HTTP client; close it."""
        return httpx.Client(
            transport=httpx.HTTPTransport(uds=str(self.socket_path)), base_url="http://replica", timeout=PATIENCE_S
        )

    def log(self) -> str:
        """What it printed."""
        return self.log_path.read_text() if self.log_path.exists() else "(no log)"

    def exit_code(self) -> int:
        """Waits for the end."""
        return self.process.wait(PATIENCE_S)

    def failure(self) -> FailureReport:
        """The report it left."""
        return FailureReport(**json.loads((self.folder / "failure.json").read_text()))

    def terminate(self) -> None:
        """SIGTERM."""
        self.process.send_signal(signal.SIGTERM)


class Tap:
    """A file that a model waits for, and one that it appends a line to."""

    def __init__(self, scratch: Path) -> None:
        self.gate = scratch / "gate"
        self.calls = scratch / "calls"
        self.source = f"""
import os, time
class Slow:
    def predict(self, X):
        with open({str(self.calls)!r}, "a") as calls:
            calls.write(f"{{X.tolist()}}\\n")
        while X[0][0] < 0 and not os.path.exists({str(self.gate)!r}):
            sum(range(1000))  # pure Python: holds the interpreter lock as much as it can
        return X[:, 0]
"""

    def lines(self) -> list[str]:
        """One line per call so far."""
        return self.calls.read_text().splitlines() if self.calls.exists() else []

    def open(self) -> None:
        """Let the calls return."""
        self.gate.touch()
