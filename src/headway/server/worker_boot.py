"""From a config file to several serving processes: load once and fork, or, where that cannot be, spawn.

The sample is predicted in each worker, not before: a prediction may start threads, and those do not survive a fork.
"""

from __future__ import annotations

import atexit
import logging
import signal
import socket
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from headway.domain.errors import Unsupported
from headway.server.config import ServerConfig, read_config
from headway.server.execution import Execution
from headway.server.fork_safety import connections, obstacle
from headway.server.listener import loop_factory, serve_seat
from headway.server.listening import open_socket
from headway.server.log_file import RotatingLog, name_log, open_log, open_stacks
from headway.server.model import LoadedModel
from headway.server.process_end import run_exit_handlers
from headway.server.startup import freeze, guard, load, make_ready
from headway.server.worker_board import Board, Seat
from headway.server.worker_start import SIGNALS, ForkStarter, Origin, become_supervisor, die_with_parent, seat_of
from headway.server.workers import CannotStart, supervise

log = logging.getLogger("headway.server")

FORKED_WITHIN_S: Final = 20.0
"""For a forked worker to predict the sample and listen. One that takes longer may wait for a thread it lacks."""


def serve_with_workers(config: ServerConfig, origin: Origin, log_file: RotatingLog | None, stages: list[str]) -> int:
    """Fork the workers from this process, or, when that cannot be, become one that spawns them. The exit code."""
    if sys.platform != "linux":
        raise Unsupported("several workers per replica need Linux", where="spec.server.workers")
    before = connections()
    model = load(config, stages)
    stages.append("serve")
    return serve_loaded(config, model, origin, log_file, stages, before)


def serve_loaded(
    config: ServerConfig,
    model: LoadedModel,
    origin: Origin,
    log_file: RotatingLog | None,
    stages: list[str],
    before: Collection[int] | None = None,
) -> int:
    """The same from a model that is loaded already. ``before`` are sockets that it has not opened (None: all)."""
    before = connections() if before is None else before
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # who finds the socket may tell us to stop: then we drain
    opened = open_socket(config.listen)
    if log_file is not None:
        log_file.stop()  # from here on no thread may be alive here
    model.rest()
    freeze(model)
    loop_factory()  # what every worker imports is imported once
    found = obstacle({*before, opened.fileno()})
    if found is None:
        board = Board.create(config.options.workers)
        starter = ForkStarter(board, lambda seat: _forked(config, model, opened, seat, log_file))
        try:
            return supervise(config, opened, board, starter, log_file, start_within_s=FORKED_WITHIN_S)
        except CannotStart as error:
            found = str(error)
    log.warning("each worker loads the model by itself: they cannot be forked from one that has: %s", found)
    if config.failure_file is not None:
        Path(config.failure_file).unlink(missing_ok=True)
    become_supervisor(origin, opened.fileno())
    raise AssertionError("not reached")


def _forked(
    config: ServerConfig, model: LoadedModel, opened: socket.socket, seat: Seat, log_file: RotatingLog | None
) -> int:
    die_with_parent(seat.parent)
    # What load registered is for the process that ran it, at its end: a scratch folder would be gone too soon.
    atexit._clear()
    open_stacks(config)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    name_log(f"headway[{seat.slot + 1}]")
    if log_file is not None:
        log_file.start(follows=True)
    stages = ["serve"]
    code = guard(config, stages, lambda: _work(config, model, opened, seat, stages))
    run_exit_handlers(code)
    return code


def boot_worker(config_file: Path, arguments: Sequence[str]) -> int:
    """Load the model and serve in the seat that ``arguments`` describe (:mod:`headway.server.worker_start`)."""
    seat, listening = seat_of(arguments)
    die_with_parent(seat.parent)
    config = read_config(config_file)
    log_file = open_log(config)
    name_log(f"headway[{seat.slot + 1}]")
    if log_file is not None:
        log_file.start(follows=True)
    stages = ["import"]

    def run() -> int:
        model = load(config, stages)
        return _work(config, model, socket.socket(fileno=listening), seat, stages)

    return guard(config, stages, run)


def _work(config: ServerConfig, model: LoadedModel, opened: socket.socket, seat: Seat, stages: list[str]) -> int:
    execution = Execution(model)
    make_ready(config, execution, stages)
    stages.append("serve")
    serve_seat(config, execution, opened, seat)
    return 0
