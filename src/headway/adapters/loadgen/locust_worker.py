"""From a worker that asked for its part to a worker of Locust's, in the same process and on the same connection."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from headway.adapters.loadgen.wire import PLACE, LocustPart

PART: Final = "HEADWAY_LOAD_PART"
"""Environment variable that names the file with the part."""
PLUGIN: Final = Path(__file__).with_name("locust_plugin.py")


def options(url: str, locustfile: Path | None) -> list[str]:
    """Of Locust's command line, the same for each of its processes."""
    files = [str(PLUGIN), *([] if locustfile is None else [str(locustfile.absolute())])]
    return ["-f", ",".join(files), "--host", url, "--skip-log-setup", "--exit-code-on-error", "0"]


def to_master(host: str, port: int) -> list[str]:
    """Of a worker's."""
    return ["--worker", "--master-host", host, "--master-port", str(port)]


def become_locust(part: LocustPart, host: str, link: socket.socket) -> NoReturn:
    """Never returns: Locust takes the place of this process, with its master at ``host``."""
    folder = Path(tempfile.mkdtemp(prefix="headway-load-"))
    locustfile = None
    if part.locustfile is not None:
        locustfile = folder / "locustfile.py"
        locustfile.write_bytes(part.locustfile)
    path = folder / "part"
    path.touch(mode=0o600)
    path.write_bytes(msgspec.msgpack.encode(part))
    os.set_inheritable(link.fileno(), True)
    command = [sys.executable, "-m", "locust", *options(part.url, locustfile), *to_master(host, part.port)]
    env = {**os.environ, PART: str(path), PLACE: f"fd:{link.fileno()}"}
    os.execve(command[0], command, env)  # noqa: S606 - this very interpreter
