"""From a config file to a serving process: log, stacks, import, load, sample, freeze, listen.

Whatever fails on the way ends the process with exit code 78 (EX_CONFIG of sysexits.h) and a
:class:`~headway.server.config.FailureReport`; the traceback is in the log. Only ``os._exit`` and signals get past.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import sys
from pathlib import Path
from time import perf_counter, perf_counter_ns

import msgspec

from headway.domain.errors import HeadwayError, LoadFailed, SamplePredictionFailed
from headway.server.codecs.rows import RowsCodec
from headway.server.config import FailureReport, ServerConfig, read_config
from headway.server.execution import Execution, Ticket
from headway.server.failures import log_traceback
from headway.server.http import Request, Response
from headway.server.listener import open_socket, serve
from headway.server.loading import load_model
from headway.server.log_file import RotatingLog

log = logging.getLogger("headway.server")

EXIT_FAILED = 78

DEFAULT_SAMPLE = "sample.json"
"""Predicted once before the server is ready when the config names no other and the bundle holds it."""


def boot(config_file: Path) -> int:
    """Serve as ``config_file`` says; the exit code: 0 after a drain, 78 after a failure, 2 for a bad config."""
    try:
        config = read_config(config_file)
    except (OSError, msgspec.MsgspecError) as error:
        sys.stderr.write(f"headway.server: {config_file}: {error}\n")
        return 2
    _open_log(config)
    stages = ["import"]
    try:
        _run(config, stages)
    except HeadwayError as error:
        return _fail(config, stages[-1], error)
    except BaseException as error:
        log_traceback(error, "the model server failed")
        return _fail(config, stages[-1], _unexpected(error))
    return 0


def _run(config: ServerConfig, stages: list[str]) -> None:
    started = perf_counter()
    bundle = Path(config.bundle_path)
    _enter(bundle)
    model = load_model(bundle, config.entrypoint, stage=stages.append)
    log.disabled = False  # the user's logging.config may have switched it off
    execution = Execution(model)
    sample = config.sample or (DEFAULT_SAMPLE if (bundle / DEFAULT_SAMPLE).is_file() else None)
    if sample is not None:
        stages.append("sample")
        predict_sample(execution, bundle, sample)
    # What is loaded stays: the collector need not walk it again and again (its pauses are most of a p99).
    gc.collect()
    gc.freeze()
    stages.append("serve")
    log.info("%s %s: %s loaded in %.2f s", config.model, config.version, model.name, perf_counter() - started)
    serve(config, execution, open_socket(config.listen))


def _open_log(config: ServerConfig) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s headway %(levelname)s %(message)s"))
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    log.propagate = False
    if config.log_file is not None:
        rotating = RotatingLog(Path(config.log_file), max_bytes=config.log_max_bytes, files=config.log_files)
        rotating.redirect()
        rotating.start()
    faulthandler.enable()  # a segmentation fault in native code leaves its Python stack in the log
    if config.stack_file is not None:
        stacks = open(config.stack_file, "w", encoding="utf-8")  # noqa: SIM115 - open as long as the process lives
        faulthandler.register(signal.SIGUSR2, file=stacks, all_threads=True)


def _enter(bundle: Path) -> None:
    """Make the bundle the place where the user's code is at home. It is read-only."""
    if not bundle.is_dir():
        raise LoadFailed(f"the bundle {bundle} is not there")
    sys.dont_write_bytecode = True
    here = os.getcwd()
    os.chdir(bundle)
    sys.path[:] = [str(bundle), *(p for p in sys.path if p not in ("", here, str(bundle)))]


def predict_sample(execution: Execution, bundle: Path, sample: str) -> None:
    """Predict the body in the file ``sample``. Raises ``SamplePredictionFailed``."""
    path = bundle / sample
    try:
        body = path.read_bytes()
    except OSError as error:
        raise SamplePredictionFailed(f"the sample cannot be read: {error.strerror}", where=sample) from None
    codec = RowsCodec(execution.model.kind, execution.model.columns())
    request = Request(b"POST", b"/predict", body, {}, _Nobody(), perf_counter_ns())
    try:
        inputs = codec.decode(request)
    except HeadwayError as error:
        raise SamplePredictionFailed(f"the sample is not a valid request: {error.message}", where=sample) from None
    now_ns = perf_counter_ns()
    answers = execution.run([Ticket(request, inputs, codec, now_ns, now_ns)]).answers
    assert answers is not None
    answer = answers[0]
    if isinstance(answer, HeadwayError):
        raise SamplePredictionFailed(
            f"predicting the sample failed: {answer.message}", where=answer.where or sample, hint=answer.hint
        )


class _Nobody:
    def settle(self, request: Request, response: Response) -> None:
        """The sample's answer is for nobody."""


def _unexpected(error: BaseException) -> HeadwayError:
    if isinstance(error, OSError):
        return HeadwayError(f"the model server cannot serve: {error}")
    if isinstance(error, KeyboardInterrupt | asyncio.CancelledError):
        return LoadFailed("interrupted")
    return HeadwayError(f"the model server failed: {type(error).__name__}: {error}")


def _fail(config: ServerConfig, stage: str, error: HeadwayError) -> int:
    log.disabled = False
    log.error("%s failed: %s", stage, error)
    report = FailureReport(stage=stage, code=error.code, message=error.message, where=error.where, hint=error.hint)
    if config.failure_file is not None:
        path = Path(config.failure_file)
        partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
        try:
            partial.write_bytes(msgspec.json.encode(report))
            partial.replace(path)
        except OSError as problem:
            log.error("the failure cannot be reported: %s", problem)
    return EXIT_FAILED
