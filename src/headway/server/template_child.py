"""From a fork of the template to a replica: a session, a name, a log of its own, and then as any other start.

The sample is predicted here, not in the template: a prediction may start threads, and those do not survive a fork.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from headway.server import template_mark
from headway.server.config import ServerConfig, read_config
from headway.server.listener import serve
from headway.server.log_file import RotatingLog, redirect_log
from headway.server.model import LoadedModel
from headway.server.process_end import run_exit_handlers
from headway.server.startup import execution_of, guard, make_ready
from headway.server.worker_start import Origin

log = logging.getLogger("headway.server")

PRINTED_BYTES: Final = 64 * 1024
"""Of what loading printed, as much of its end is in each replica's log."""
NAMED: Final = b"n"
LISTENS: Final = b"l"


@dataclass(frozen=True, slots=True)
class Birth:
    """All that a new replica needs to know."""

    config_file: Path
    model: LoadedModel
    template: ServerConfig
    load_s: float
    parent: int
    report: int
    """Writing end of a pipe: :data:`NAMED` and then :data:`LISTENS` go there."""
    same: bool
    """This process is no fork: it was the template itself."""


def be_replica(birth: Birth) -> int:
    """Be the replica of ``birth.config_file`` until it has drained; the exit code."""
    config = read_config(birth.config_file)
    if not birth.same:
        os.setsid()
        # What load registered is for the process that ran it, at its end: a scratch folder would be gone too soon.
        atexit._clear()
    template_mark.rename(config.replica_id)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if not birth.same:
        os.write(birth.report, NAMED)
    log_file = redirect_log(config)
    _tell_origin(birth)
    _renew_randomness()
    if log_file is not None:
        log_file.start()
    stages = ["serve"]
    code = guard(config, stages, lambda: _run(config, birth, log_file, stages))
    if birth.same:
        return code
    run_exit_handlers(code)
    return code


def _run(config: ServerConfig, birth: Birth, log_file: RotatingLog | None, stages: list[str]) -> int:
    def told() -> None:
        with contextlib.suppress(OSError):  # the template may be gone: it is not needed any more
            os.write(birth.report, LISTENS)
        os.close(birth.report)

    if config.options.workers > 1:
        from headway.server.worker_boot import serve_loaded

        os.close(birth.report)
        argv = (sys.executable, "-m", "headway.server", str(birth.config_file))
        origin = Origin(argv, str(birth.config_file.parent), dict(os.environ))
        return serve_loaded(config, birth.model, origin, log_file, stages)
    execution = execution_of(config, birth.model)
    make_ready(config, execution, stages)
    stages.append("serve")
    serve(config, execution, told)
    return 0


def _tell_origin(birth: Birth) -> None:
    """In the replica's log: where it comes from, and what was printed there."""
    printed = b""
    if birth.template.log_file is not None:
        with contextlib.suppress(OSError), open(birth.template.log_file, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - PRINTED_BYTES))
            printed = file.read(PRINTED_BYTES)
    os.write(2, printed)
    how = "this process was the template" if birth.same else f"forked from process {birth.parent}"
    log.info("%s, which loaded the model in %.2f s and printed what is above", how, birth.load_s)


def _renew_randomness() -> None:
    """Global generators that were seeded by chance are not to give the same numbers in every replica.

    Python's own ``random`` sees to that itself at a fork.
    """
    random = sys.modules.get("numpy.random")
    if random is not None:
        with contextlib.suppress(Exception):
            random.seed()
