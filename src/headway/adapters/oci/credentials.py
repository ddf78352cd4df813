"""Who we are to a registry: what ``docker login``, or another tool that writes the same file, has left.

``$DOCKER_CONFIG/config.json``, by default ``~/.docker/config.json``: ``auths`` with a name and password in base64 or an
identity token, or the name of a helper program that is asked. Source: Docker CLI, "docker login", credential stores.
"""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from headway.domain.errors import InvalidInput
from headway.domain.images import DEFAULT_REGISTRY

HELPER_S: Final = 30.0
_DOCKER_HUB: Final = ("https://index.docker.io/v1/", "docker.io", "index.docker.io", DEFAULT_REGISTRY)


@dataclass(frozen=True, slots=True)
class Credentials:
    """``identity_token``: instead of a password, to be shown where tokens are given out."""

    user: str = ""
    password: str = ""
    identity_token: str | None = None


def credentials_for(registry: str, env: Mapping[str, str], home: Path) -> Credentials | None:
    """None: nobody has logged in there. Raises ``InvalidInput`` for a file that is none, a helper that fails."""
    folder = Path(env["DOCKER_CONFIG"]) if env.get("DOCKER_CONFIG") else home / ".docker"
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict):
            raise ValueError("it is no object")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InvalidInput(f"the credentials for registries cannot be read: {error}", where=str(path)) from None
    names = _DOCKER_HUB if registry == DEFAULT_REGISTRY else (registry, f"https://{registry}", f"http://{registry}")
    helpers = config.get("credHelpers") or {}
    helper = next((helpers[name] for name in names if name in helpers), None) or config.get("credsStore")
    if helper:
        return _from_helper(str(helper), names, env)
    auths = config.get("auths") or {}
    found = next((auths[name] for name in names if isinstance(auths.get(name), dict)), None)
    return None if found is None else _from_entry(found, path)


def _from_entry(entry: Mapping[str, Any], path: Path) -> Credentials | None:
    if entry.get("identitytoken"):
        return Credentials(identity_token=str(entry["identitytoken"]))
    if entry.get("auth"):
        try:
            user, colon, password = base64.b64decode(str(entry["auth"]), validate=True).decode().partition(":")
        except ValueError:
            colon = ""
        if not colon:
            raise InvalidInput("an entry of auths is not NAME:PASSWORD in base64", where=str(path))
        return Credentials(user, password)
    if entry.get("username"):
        return Credentials(str(entry["username"]), str(entry.get("password", "")))
    return None


def _from_helper(helper: str, names: tuple[str, ...], env: Mapping[str, str]) -> Credentials | None:
    program = f"docker-credential-{helper}"
    for name in names:
        try:
            done = subprocess.run(
                [program, "get"],
                input=name,
                capture_output=True,
                text=True,
                timeout=HELPER_S,
                env=dict(env),
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise InvalidInput(f"{program}, which the Docker config names, does not answer: {error}") from None
        if done.returncode == 0:
            try:
                found = json.loads(done.stdout)
                user, secret = str(found["Username"]), str(found["Secret"])
            except (ValueError, KeyError, TypeError):
                raise InvalidInput(f"{program} gave no user and secret") from None
            return Credentials(identity_token=secret) if user == "<token>" else Credentials(user, secret)
    return None  # helpers say "not found" with an exit code
