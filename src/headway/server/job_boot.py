"""What makes a model server a worker: options that suit jobs, its connections, and how its process ends."""

from __future__ import annotations

import os
import sys
from typing import Final

import msgspec

from headway.server.app import Application
from headway.server.config import FailureReport, ServerConfig
from headway.server.job_alarm import ProcessAlarm
from headway.server.job_claims import MOST
from headway.server.job_link import JobLink
from headway.server.job_run import JobExecution
from headway.server.job_worker import JobWorker
from headway.server.query_log import QueryLogWriter
from headway.server.startup import tell_failure

NO_LIMIT_S: Final = 30 * 86_400.0
"""Longer than any attempt may take, whose own limit is kept elsewhere."""


def for_jobs(config: ServerConfig) -> ServerConfig:
    """``config`` without what protects those who wait for an answer: jobs wait as long as they take."""
    options = config.options
    suited = msgspec.structs.replace(
        options,
        max_batch_delay_s=0.0,
        latency_target_s=None,
        max_queue=max(options.max_queue, MOST),
        timeout_s=NO_LIMIT_S,
        workers=1,
    )
    return msgspec.structs.replace(config, options=suited)


def worker_of(
    config: ServerConfig, app: Application, execution: JobExecution, query_log: QueryLogWriter | None
) -> JobWorker:
    """The worker of this process; on the main thread, on the loop."""

    def end(code: int, report: FailureReport | None) -> None:
        """Without Python's own end: a thread is in the model's code, and it will not come back."""
        if report is not None:
            tell_failure(config, report)
        if query_log is not None:
            query_log.stop()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    assert config.job_server is not None
    links = JobLink(config.job_server), JobLink(config.job_server)
    return JobWorker(config, app, execution, *links, ProcessAlarm(), end)
