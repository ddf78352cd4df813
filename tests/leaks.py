"""What a test must not leave behind: processes, listening sockets, temporary files.

Replicas and the gateway detach from whoever started them, so looking at child processes is not enough. Every
process of a test carries the test's own scratch folder in its environment or its arguments, or works within it; that
finds them all.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

import psutil

_scratches: set[Path] = set()


def make_scratch(parent: Path = Path("/tmp")) -> Path:
    """A new folder with a short path (Unix socket paths end at 107 bytes), registered as belonging to a test."""
    scratch = Path(tempfile.mkdtemp(prefix="hwt", dir=parent))
    for name in ("tmp", "home"):
        (scratch / name).mkdir(mode=0o700)
    _scratches.add(scratch)
    return scratch


def remove_scratch(scratch: Path) -> None:
    """Remove the folder, read-only bundles in it too."""
    _scratches.discard(scratch)
    for folder, _, _ in os.walk(scratch):
        with contextlib.suppress(OSError):  # a process on its way out may remove its own files meanwhile
            os.chmod(folder, 0o700)
    shutil.rmtree(scratch, ignore_errors=True)


def environment(scratch: Path) -> dict[str, str]:
    """Variables that keep a process inside ``scratch`` and mark it as the test's."""
    return {"HEADWAY_HOME": str(scratch / "home"), "TMPDIR": str(scratch / "tmp")}


def _belongs(process: psutil.Process, scratch: Path) -> bool:
    mark = os.fsencode(scratch)
    folder = Path("/proc") / str(process.pid)
    for name in ("environ", "cmdline"):
        with contextlib.suppress(OSError):
            if mark in (folder / name).read_bytes():
                return True
    # Redis and PostgreSQL write their title over both; where they stand still tells.
    with contextlib.suppress(OSError):
        return Path(os.readlink(folder / "cwd")).is_relative_to(scratch)
    return False


def _alive(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def processes_of(scratch: Path) -> list[psutil.Process]:
    """Every live process that carries ``scratch``, this one left out."""
    me = os.getpid()
    return _alive(p for p in psutil.process_iter() if p.pid != me and _belongs(p, scratch))


def describe(process: psutil.Process) -> str:
    """``1234 python -m headway.server …`` for a failure message."""
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} {' '.join(process.cmdline())[:160]}"
    return f"{process.pid} (gone meanwhile)"


def _listening() -> set[str]:
    sockets = psutil.Process().net_connections(kind="inet")
    return {f"{s.laddr.ip}:{s.laddr.port}" for s in sockets if s.status == psutil.CONN_LISTEN}


class LeakCheck:
    """Take it before, ask :meth:`left` after."""

    def __init__(self, scratch: Path, *, patience_s: float = 20.0) -> None:
        self._scratch = scratch
        self._patience_s = patience_s
        self._children = {p.pid for p in psutil.Process().children(recursive=True)}
        self._listening = _listening()

    def _processes(self) -> list[psutil.Process]:
        mine = {p.pid: p for p in processes_of(self._scratch)}
        others = _scratches - {self._scratch}
        for child in _alive(psutil.Process().children(recursive=True)):
            if child.pid not in self._children and not any(_belongs(child, other) for other in others):
                mine[child.pid] = child
        return list(mine.values())

    def left(self) -> list[str]:
        """What is left, a line each; processes get a moment to end, then are named and killed."""
        deadline = time.monotonic() + self._patience_s
        while (processes := self._processes()) and time.monotonic() < deadline:
            time.sleep(0.02)
        found = [f"process {describe(process)}" for process in processes]
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        found += [f"listening socket {address}" for address in sorted(_listening() - self._listening)]
        found += [f"temporary file {path.name}" for path in sorted((self._scratch / "tmp").iterdir())]
        return found
