"""How a server process ends: exit handlers run, but within bounds, because user code may hold threads."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import Final

EXIT_WITHIN_S: Final = 3.0
EXIT_JOB: Final = 75
"""A worker ended itself because of the job it was at (EX_TEMPFAIL of sysexits.h): a fresh process is to go on."""

EXIT_BROKEN: Final = 70
"""A worker ended itself because of a fault of its own (EX_SOFTWARE): as after any crash, a fresh one waits a little."""


def bound_exit(code: int) -> None:
    """End this process with ``code`` if it is still there after :data:`EXIT_WITHIN_S`."""
    overdue = threading.Timer(EXIT_WITHIN_S, os._exit, (code,))
    overdue.daemon = True
    overdue.start()


def run_exit_handlers(code: int) -> None:
    """What Python does at its end, for a forked process, which ends with ``os._exit(code)``."""
    bound_exit(code)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
