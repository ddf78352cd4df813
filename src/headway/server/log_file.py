"""The replica's log: stdout and stderr of the whole process in one file, rotated by the process itself.

Rotation renames the file, opens a new one and puts it under the same descriptors (dup2). A write goes to the
old file or to the new one, never nowhere: C code and child processes need not know.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

CHECK_EVERY_S = 0.5


class RotatingLog:
    """Owns descriptors 1 and 2 from :meth:`redirect` on."""

    def __init__(self, path: Path, *, max_bytes: int, files: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._files = files
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def redirect(self) -> None:
        """Send stdout and stderr to the file (appending). Raises ``OSError`` when it cannot be opened."""
        self._open()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError):
                stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]

    def start(self) -> None:
        """Check the size twice a second on a thread of its own: the main thread may be in ``load`` for long."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._watch, name="headway-log", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; the descriptors stay."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()

    def rotate_if_full(self) -> bool:
        """Rotate when the file is above its limit; True when it was."""
        if os.fstat(1).st_size < self._max_bytes:
            return False
        for number in range(self._files, 1, -1):
            with contextlib.suppress(FileNotFoundError):
                os.replace(self._numbered(number - 1), self._numbered(number))
        if self._files >= 1:
            os.replace(self._path, self._numbered(1))
        else:
            self._path.unlink()
        self._open()
        return True

    def _numbered(self, number: int) -> str:
        return f"{self._path}.{number}"

    def _open(self) -> None:
        opened = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.dup2(opened, 1)
        os.dup2(opened, 2)
        os.close(opened)

    def _watch(self) -> None:
        while not self._stopped.wait(CHECK_EVERY_S):
            # A full disk or a removed folder must not end the rotation for good.
            with contextlib.suppress(OSError):
                self.rotate_if_full()
