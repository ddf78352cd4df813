"""The steps that every process takes from a config to a model that is ready, and what becomes of a failure on the way.

Whatever fails ends the process with exit code 78 (EX_CONFIG of sysexits.h) and a
:class:`~headway.server.config.FailureReport`; the traceback is in the log. Only ``os._exit`` and signals get past.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from time import perf_counter

import msgspec

from headway.domain.errors import HeadwayError, LoadFailed
from headway.server.config import FailureReport, ServerConfig
from headway.server.execution import Execution
from headway.server.failures import log_traceback
from headway.server.loading import load_model
from headway.server.model import LoadedModel
from headway.server.sample import predict_sample, sample_of

log = logging.getLogger("headway.server")

EXIT_FAILED = 78


def guard(config: ServerConfig, stages: list[str], run: Callable[[], int]) -> int:
    """The exit code of ``run``, or 78 and a report of what went wrong in the last of ``stages``."""
    try:
        return run()
    except HeadwayError as error:
        return _fail(config, stages[-1], error)
    except BaseException as error:
        log_traceback(error, "the model server failed")
        return _fail(config, stages[-1], _unexpected(error))


def load(config: ServerConfig, stages: list[str]) -> LoadedModel:
    """The model that ``config`` names, its bundle being the place where its code is at home from now on."""
    started = perf_counter()
    bundle = Path(config.bundle_path)
    _enter(bundle)
    with collecting_rarely():
        if config.graph is None:
            model = load_model(bundle, config.entrypoint, stage=stages.append)
        else:
            from headway.server.graph_loading import load_graph  # what single models do not need

            model = load_graph(bundle, config.graph, stage=stages.append)
    log.disabled = False  # the user's logging.config may have switched it off
    log.info("%s %s: %s loaded in %.2f s", config.model, config.version, model.name, perf_counter() - started)
    return model


@contextlib.contextmanager
def collecting_rarely() -> Iterator[None]:
    """Imports make hundreds of thousands of objects that stay: looking among them for garbage is a tenth of a start."""
    usual = gc.get_threshold()
    gc.set_threshold(50_000, 20, 100)
    try:
        yield
    finally:
        gc.set_threshold(*usual)


def execution_of(config: ServerConfig, model: LoadedModel) -> Execution:
    """What calls ``model``: for requests, or for jobs."""
    if config.job_server is None:
        return Execution(model)
    from headway.server.job_run import JobExecution  # what only workers need

    return JobExecution(model)


def make_ready(config: ServerConfig, execution: Execution, stages: list[str]) -> None:
    """Predict the sample, and keep the collector from walking for ever what stays for ever."""
    if execution.model.companion is not None:
        execution.model.companion.begin(config.options.timeout_s)
    sample = sample_of(config)
    if sample is not None:
        stages.append("sample")
        predict_sample(execution, Path(config.bundle_path), sample)
    freeze(execution.model)


def freeze(model: LoadedModel) -> None:
    """What is loaded stays: the collector need not walk it again and again (its pauses are most of a p99).

    Before a fork it also keeps the collector from writing into pages that all workers share. What the user's code has
    left behind is collected first. Imports and the reading of one file leave next to nothing (scikit-learn: 16 of
    95,000 objects), and to look among them is a fifteenth of a start.
    """
    if model.has_code:
        gc.collect()
    gc.freeze()


def _enter(bundle: Path) -> None:
    """Make the bundle the place where the user's code is at home. It is read-only."""
    if not bundle.is_dir():
        raise LoadFailed(f"the bundle {bundle} is not there")
    sys.dont_write_bytecode = True
    here = os.getcwd()
    os.chdir(bundle)
    sys.path[:] = [str(bundle), *(p for p in sys.path if p not in ("", here, str(bundle)))]


def _unexpected(error: BaseException) -> HeadwayError:
    if isinstance(error, OSError):
        return HeadwayError(f"the model server cannot serve: {error}")
    if isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
        return LoadFailed("interrupted")
    return HeadwayError(f"the model server failed: {type(error).__name__}: {error}")


def _fail(config: ServerConfig, stage: str, error: HeadwayError) -> int:
    log.disabled = False
    log.error("%s failed: %s", stage, error)
    tell_failure(
        config,
        FailureReport(stage=stage, code=error.code, message=error.message, where=error.where, hint=error.hint),
    )
    return EXIT_FAILED


def tell_failure(config: ServerConfig, report: FailureReport) -> None:
    """Write ``report`` where the runtime looks for it."""
    if config.failure_file is not None:
        path = Path(config.failure_file)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            partial.write_bytes(msgspec.json.encode(report))
            partial.replace(path)
        except OSError as problem:
            log.error("the failure cannot be reported: %s", problem)
