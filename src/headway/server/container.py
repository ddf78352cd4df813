"""The model server as the one process of a container: its config from the environment, its places from the image.

The door between an image and whoever runs it, a Kubernetes Deployment above all: ``HEADWAY_SERVER_CONFIG`` is a JSON
object with fields of :class:`~headway.server.config.ServerConfig`, ``HEADWAY_REPLICA`` is what this replica is called
(left out, the host's name, which is the pod's). What they leave open is where an image has it, or, in an image that
``headway build`` made, what that image's own config says.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from headway.server.config import ServerConfig, write_config

CONFIG_VARIABLE = "HEADWAY_SERVER_CONFIG"
REPLICA_VARIABLE = "HEADWAY_REPLICA"
BUNDLE = "/headway/bundle"
LISTEN = "tcp:0.0.0.0:8080"
STATE = Path("/var/lib/headway")


def container_config(environment: Mapping[str, str], host: str, baked: bytes = b"{}") -> ServerConfig:
    """The config that ``environment`` tells, over the image's own. Raises ``msgspec.MsgspecError``, ``ValueError``."""
    said: dict[str, Any] = json.loads(environment.get(CONFIG_VARIABLE) or "{}")
    if not isinstance(said, dict):
        raise ValueError("must be a JSON object")
    places: dict[str, Any] = {
        "replica_id": environment.get(REPLICA_VARIABLE) or host,
        "bundle_path": BUNDLE,
        "listen": LISTEN,
        # Not said by who runs it: a server of an older release refuses a field that it does not know.
        "latency_counts": True,
    }
    return msgspec.convert({**places, **json.loads(baked), **said}, ServerConfig)


def boot_container(image: Path | None = None) -> int:
    """Serve as the environment says, and the config in ``image``; the exit code as of :func:`.boot.boot`."""
    from headway.server.boot import boot

    try:
        config = container_config(os.environ, socket.gethostname(), b"{}" if image is None else image.read_bytes())
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        sys.stderr.write(f"headway.server: {CONFIG_VARIABLE}: {error}\n")
        return 2
    # Workers read their config from a file: it is written where the container may write, and goes with it.
    folder = Path(tempfile.mkdtemp(prefix="headway-", dir=STATE if os.access(STATE, os.W_OK) else None))
    file = folder / "config.json"
    write_config(config, file)
    return boot(file)
