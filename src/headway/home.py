"""The home of an installation: who runs on it, and the token that its owner has by being its owner."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import logging
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from headway.domain import tokens as token_rules
from headway.domain.errors import AlreadyRunning
from headway.domain.webhooks import SECRET_PREFIX

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
    _keep_secret(path, secret)
    return secret


def webhook_secret(home: Path) -> str:
    """What webhooks of this home are signed with unless a model names a secret of its own; made at first use."""
    path = home / "webhook.secret"
    with contextlib.suppress(FileNotFoundError):
        if (found := path.read_text().strip()).startswith(SECRET_PREFIX):
            return found
        log.warning("%s holds no secret; writing a new one", path)
    secret = SECRET_PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()
    _keep_secret(path, secret)
    return secret


def _keep_secret(path: Path, secret: str) -> None:
    """Whole or not at all (an empty token would lock the owner out), readable by the owner only."""
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secret + "\n")
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


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
