"""Where one home's gateway keeps its files and sockets, for the owner's eyes only."""

from __future__ import annotations

import hashlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from headway.adapters.haproxy.config import CONFIG_FILE
from headway.domain.errors import GatewayFailed

LONGEST_SOCKET_DIR = 75
"""Bytes: ``gateway-master.sock`` and the suffix HAProxy adds while it binds must fit a socket's 107."""


@dataclass(frozen=True, slots=True)
class Places:
    """Every file and socket of one home's gateway."""

    home: Path
    run_dir: Path
    logs_queries: bool = True

    @property
    def folder(self) -> Path:
        return self.home / "gateway"

    @property
    def config(self) -> Path:
        return self.folder / CONFIG_FILE

    @property
    def log(self) -> Path:
        return self.folder / "haproxy.log"

    @property
    def query_log(self) -> Path:
        """Where HAProxy writes its part of the query log."""
        if not self.logs_queries:
            return Path(os.devnull)
        return self.home / "query-log" / "gateway" / "gateway.log"

    @property
    def master_socket(self) -> Path:
        return self.run_dir / "gateway-master.sock"

    @property
    def stats_socket(self) -> Path:
        return self.run_dir / "gateway-stats.sock"

    @property
    def internal_socket(self) -> Path:
        return self.run_dir / "gateway.sock"


def socket_dir(home: Path) -> Path:
    """``HOME/run``, or a folder of this user's under /tmp where that is too deep for a Unix socket."""
    home = home.resolve()
    path = home / "run"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_DIR and not set(str(path)) & set(" ,'\"\\$#"):
        return path
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:8]
    return Path(f"/tmp/headway-{os.getuid()}-{digest}")  # noqa: S108 - owner and mode are checked in _make_folders


def replace_file(path: Path, text: str) -> None:
    """All or nothing, readable by the owner only (hashes of tokens are in there)."""
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w", newline="") as file:
        file.write(text)
    part.replace(path)


def make_folders(places: Places) -> None:
    """Make what is missing; :class:`GatewayFailed` when the folder of the sockets is somebody else's."""
    places.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    places.run_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    found = places.run_dir.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise GatewayFailed(f"{places.run_dir} is not a folder of this user", hint="remove it, or move HEADWAY_HOME")
    if found.st_mode & 0o077:
        places.run_dir.chmod(0o700)
