"""From a config file to a serving process: log, stacks, import, load, sample, freeze, listen."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from headway.server.config import ServerConfig, read_config
from headway.server.listener import serve
from headway.server.log_file import RotatingLog, open_log
from headway.server.startup import execution_of, guard, load, make_ready
from headway.server.worker_start import Origin


def boot(config_file: Path) -> int:
    """Serve as ``config_file`` says; the exit code: 0 after a drain, 78 after a failure, 2 for a bad config."""
    origin = Origin.now()
    try:
        config = read_config(config_file)
    except (OSError, msgspec.MsgspecError) as error:
        sys.stderr.write(f"headway.server: {config_file}: {error}\n")
        return 2
    log_file = open_log(config)
    if log_file is not None:
        log_file.start()
    stages = ["import"]
    return guard(config, stages, lambda: _run(config, origin, log_file, stages))


def _run(config: ServerConfig, origin: Origin, log_file: RotatingLog | None, stages: list[str]) -> int:
    if config.options.workers > 1:
        from headway.server.worker_boot import serve_with_workers  # what one process does not need

        return serve_with_workers(config, origin, log_file, stages)
    model = load(config, stages)
    execution = execution_of(config, model)
    make_ready(config, execution, stages)
    stages.append("serve")
    serve(config, execution)
    return 0
