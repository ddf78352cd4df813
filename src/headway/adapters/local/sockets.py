"""Where local sockets live. A Unix socket's path must fit ``sun_path`` (108 bytes on Linux, unix(7))."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from headway.domain.errors import HeadwayError

MAX_PATH_BYTES = 100
_LONGEST_NAME = 24


def run_dir_for(home: Path) -> Path:
    """``HOME/run``, or, where that is too deep for a socket, ``/tmp/headway-UID-HASH``; made, and ours alone.

    Raises :class:`HeadwayError` when somebody else owns that folder: they could put sockets of their own there.
    """
    home = home.resolve()
    path = home / "run"
    if len(os.fsencode(path)) + 1 + _LONGEST_NAME >= MAX_PATH_BYTES:
        digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:8]
        path = Path(f"/tmp/headway-{os.getuid()}-{digest}")  # noqa: S108 - owner and mode are checked below
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise HeadwayError(f"{path} is not a folder of this user", hint="remove it, or choose another HEADWAY_HOME")
    if found.st_mode & 0o077:
        path.chmod(0o700)
    return path


def replica_socket(run_dir: Path, replica_id: str) -> Path:
    """The socket of a replica: the same over restarts. Raises :class:`HeadwayError` when the path is too long."""
    name = f"r-{hashlib.sha256(replica_id.encode()).hexdigest()[:16]}.sock"
    path = run_dir / name
    if len(os.fsencode(path)) >= MAX_PATH_BYTES:
        raise HeadwayError(f"{path} is too long for a Unix socket", hint="run_dir_for(home) gives one that fits")
    return path


def job_socket(run_dir: Path) -> Path:
    """Where the job server takes callers' requests from the gateway."""
    return run_dir / "jobs.sock"


def job_worker_socket(run_dir: Path) -> Path:
    """Where the job server talks to workers."""
    return run_dir / "job-workers.sock"
