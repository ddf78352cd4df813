"""A server under test: all of its processes on one core, weighed and stopped as a whole.

Some servers leave their children to init or change their titles, so the tree is found by adoption: this process
becomes a *subreaper* (prctl(2)), whatever is orphaned below it becomes its own child.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

SERVER_CORE: Final = 0
GENERATOR_CORE: Final = 1
STOP_WITHIN_S: Final = 5.0

_PR_SET_CHILD_SUBREAPER: Final = 36


def adopt_orphans() -> None:
    """Make this process the parent of whatever is orphaned below it."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def stay_on_generator_core() -> None:
    """This process and the generators that it starts leave the server's core alone."""
    os.sched_setaffinity(0, {GENERATOR_CORE})


@dataclass(frozen=True, slots=True)
class Weight:
    """Memory of all of a server's processes. ``pss`` counts a page that n processes share as 1/n of a page in each."""

    pss_mb: float
    rss_mb: float
    processes: int


class Server:
    """One started server; :meth:`stop` ends every process of it."""

    def __init__(self, command: list[str], *, folder: Path, log: Path, environment: Mapping[str, str]) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                ["taskset", "--cpu-list", str(SERVER_CORE), *command],
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def gone(self) -> bool:
        """Whether the process that was started has ended."""
        return self._process.poll() is not None

    def tail(self) -> str:
        """The last words of its log, as one line."""
        return " ".join(self._log.read_text("utf-8", "replace").split())[-300:]

    def weigh(self) -> Weight:
        """Memory now."""
        pss = rss = 0
        tree = _tree()
        for process in tree:
            with contextlib.suppress(psutil.Error):
                memory = process.memory_full_info()
                pss += memory.pss
                rss += memory.rss
        return Weight(pss / 1e6, rss / 1e6, len(tree))

    def cpu_s(self) -> float:
        """Time on cores so far, of all of its processes that live."""
        spent = 0.0
        for process in _tree():
            with contextlib.suppress(psutil.Error):
                times = process.cpu_times()
                spent += times.user + times.system
        return spent

    def stop(self) -> None:
        """End it: SIGTERM to the first process, SIGKILL to whatever is left after a while."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_WITHIN_S)
        psutil.wait_procs(_tree(), timeout=1.0)
        while tree := _tree():
            for process in tree:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(tree, timeout=1.0)
        self._process.wait()


def _tree() -> list[psutil.Process]:
    """Every process below this one. Only one server runs at a time, and no generator beside a weighing."""
    return psutil.Process().children(recursive=True)
