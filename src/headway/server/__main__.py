"""``python -m headway.server CONFIG.json``: see :mod:`headway.server.boot`.

What follows the config on the command lines of workers and of their parent is between those processes
(:mod:`headway.server.worker_start`); ``--template`` makes it a template (:mod:`headway.server.template`). Without
arguments, in a container, the environment tells all, and after ``--container`` comes what an image says of itself
(:mod:`headway.server.container`).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from headway.server.process_end import bound_exit
from headway.server.template_wire import TEMPLATE
from headway.server.worker_start import SUPERVISE, WORKER


def main() -> None:
    """Run, then leave as Python does (exit handlers run), but within bounds: user code may hold threads."""
    code = _run(sys.argv[1:])
    bound_exit(code)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    match arguments:
        case [] if "HEADWAY_SERVER_CONFIG" in os.environ:
            from headway.server.container import boot_container

            return boot_container()
        case ["--container", image]:
            from headway.server.container import boot_container

            return boot_container(Path(image))
        case [config]:
            from headway.server.boot import boot

            return boot(Path(config).absolute())
        case [config, option, *numbers] if option == WORKER:
            from headway.server.worker_boot import boot_worker

            return boot_worker(Path(config).absolute(), numbers)
        case [config, option] if option == TEMPLATE:
            from headway.server.template import boot_template

            return boot_template(Path(config).absolute())
        case [config, option, listening] if option == SUPERVISE:
            # Without the model server's own modules: this process only waits.
            from headway.server.workers import supervise_spawned

            return supervise_spawned(Path(config).absolute(), int(listening))
    sys.stderr.write("usage: python -m headway.server CONFIG.json\n")
    return 2


if __name__ == "__main__":
    main()
