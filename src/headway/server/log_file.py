"""The replica's log: stdout and stderr of the whole process in one file, rotated by the process itself.

Rotation renames the file, opens a new one and puts it under the same descriptors (dup2). A write goes to the
old file or to the new one, never nowhere: C code and child processes need not know.

Of several processes that write one file exactly one rotates. The others :meth:`RotatingLog.follow`: they look
whether the path still names the file they write, and open it anew when it does not. Until they look (half a second)
they write the end of ``log.1``.
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from headway.server.config import ServerConfig

log = logging.getLogger("headway.server")

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

    def start(self, *, follows: bool = False) -> None:
        """Look twice a second on a thread of its own: the main thread may be in ``load`` for long.

        ``follows``: another process rotates.
        """
        if self._thread is None:
            self._stopped.clear()
            look = self.follow if follows else self.rotate_if_full
            self._thread = threading.Thread(target=self._watch, args=(look,), name="headway-log", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End the thread; the descriptors stay. :meth:`start` begins again. Idempotent."""
        thread, self._thread = self._thread, None
        self._stopped.set()
        if thread is not None:
            thread.join()

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

    def follow(self) -> bool:
        """Go over to the file at the path when another process has rotated; True when it had."""
        own = os.fstat(1)
        try:
            there = os.stat(self._path)
        except FileNotFoundError:
            return False  # in the midst of a rotation
        if (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino):
            return False
        self._open()
        return True

    def _numbered(self, number: int) -> str:
        return f"{self._path}.{number}"

    def _open(self) -> None:
        opened = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        os.dup2(opened, 1)
        os.dup2(opened, 2)
        os.close(opened)

    def _watch(self, look: Callable[[], bool]) -> None:
        while not self._stopped.wait(CHECK_EVERY_S):
            # A full disk or a removed folder must not end the rotation for good.
            with contextlib.suppress(OSError):
                look()


def open_log(config: ServerConfig) -> RotatingLog | None:
    """Where everything that this process prints goes from now on, its stacks too; None: where it goes anyway.

    The log is neither rotated nor followed yet. Raises ``OSError``.
    """
    log.addHandler(logging.StreamHandler(sys.stderr))
    name_log("headway")
    log.setLevel(logging.INFO)
    log.propagate = False
    return redirect_log(config)


def redirect_log(config: ServerConfig) -> RotatingLog | None:
    """The same for a process whose own log speaks already: a forked one has its parent's, and gets this one instead."""
    rotating = None
    if config.log_file is not None:
        rotating = RotatingLog(Path(config.log_file), max_bytes=config.log_max_bytes, files=config.log_files)
        rotating.redirect()
    faulthandler.enable()  # a segmentation fault in native code leaves its Python stack in the log
    open_stacks(config)
    return rotating


def name_log(name: str) -> None:
    """Who speaks in the lines of the server's own log."""
    for handler in log.handlers:
        handler.setFormatter(logging.Formatter(f"%(asctime)s {name} %(levelname)s %(message)s"))


def open_stacks(config: ServerConfig) -> None:
    """From now on SIGUSR2 appends the stack of every thread to the stack file."""
    if config.stack_file is not None:
        stacks = open(config.stack_file, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the process lives
        faulthandler.register(signal.SIGUSR2, file=stacks, all_threads=True)
