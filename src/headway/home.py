"""The home of an installation: who runs on it, and the token that its owner has by being its owner."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from headway.domain import tokens as token_rules
from headway.domain.errors import AlreadyRunning

log = logging.getLogger(__name__)


def control_file(home: Path) -> Path:
    """Where a running control plane says who and where it is."""
    return home / "control.json"


def admin_token(home: Path) -> str:
    """The home's own admin token, made at first use; readable by the owner only."""
    path = home / "admin.token"
    with contextlib.suppress(FileNotFoundError):
        found = path.read_text().strip()
        if len(found) > len(token_rules.TOKEN_PREFIX) and found.startswith(token_rules.TOKEN_PREFIX):
            return found
        log.warning("%s holds no token; writing a new one", path)
    secret = token_rules.TOKEN_PREFIX + secrets.token_urlsafe(32)
    # Whole or not at all: an empty token would lock the owner out.
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    return secret


@contextlib.contextmanager
def home_lock(home: Path) -> Iterator[None]:
    """Hold the home exclusively; :class:`AlreadyRunning` when another control plane does."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "control.lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(
                f"a control plane is already running on {home}", hint="headway info shows it; headway down stops it"
            ) from None
        yield
