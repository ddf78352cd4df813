"""A plain Dockerfile with all that it copies, for those who have a builder of their own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Final

from headway.adapters.oci.build import BUNDLE, CONFIG, PACKAGES, PORT, SERVER, STATE, USER, Order, write_server
from headway.domain.errors import Conflict, StorageFailed

_TEXT: Final = """\
# Built by `docker build`, podman, kaniko or buildkit in this folder. Written by `headway build --dockerfile`.
FROM {base}

COPY requirements*.lock /headway/
RUN for lock in /headway/requirements*.lock; do \\
      python3 -m pip install --no-cache-dir --no-deps --only-binary :all: --target /{packages} -r $lock || exit 1; \\
    done
COPY server /{server}
COPY bundle /{bundle}
COPY model.json /{config}
RUN mkdir -p /{state} && chown {user}:{user} /{state}

ENV {env}
{labels}

WORKDIR /headway
USER {user}:{user}
EXPOSE {port}
STOPSIGNAL SIGTERM
ENTRYPOINT {entrypoint}
"""


def write_context(order: Order, base: str, lock: str, folder: Path) -> list[str]:
    """Fill ``folder``, which is empty or not there; the names of what is in it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise Conflict(f"{folder} is there already and not empty", where="--dockerfile", hint="name an empty folder")
    run = order.run("python3")
    text = _TEXT.format(
        base=base,
        packages=PACKAGES,
        server=SERVER,
        bundle=BUNDLE,
        config=CONFIG,
        state=STATE,
        user=USER,
        port=PORT,
        env=" \\\n    ".join(f"{name}={_quoted(value)}" for name, value in run["Env"].items()),
        labels="LABEL "
        + " \\\n      ".join(f"{name}={_quoted(value)}" for name, value in order.annotations(None).items()),
        entrypoint=json.dumps(run["Entrypoint"]),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for entry in order.files:
            target = folder / "bundle" / entry.path.removeprefix(f"{BUNDLE}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            assert isinstance(entry.source, Path)
            shutil.copyfile(entry.source, target)
            target.chmod(0o755 if entry.executable else 0o644)
        write_server(folder / "server" / "headway")
        (folder / "model.json").write_bytes(order.config())
        hashed, more = _parts(lock)
        (folder / "requirements.lock").write_text(hashed)
        if more:
            (folder / "requirements-more.lock").write_text(more)
        (folder / "Dockerfile").write_text(text)
    except OSError as error:
        raise StorageFailed(f"the build context cannot be written: {error}", where=str(folder)) from error
    return sorted(path.name for path in folder.iterdir())


def _parts(lock: str) -> tuple[str, str]:
    """What carries hashes, and what does not: pip wants hashes for all that is in a file, or for none."""
    entries = lock.replace("\\\n", "\\\0").splitlines(keepends=True)
    with_hash = [entry for entry in entries if "--hash=" in entry]
    if not with_hash:
        return lock, ""
    without = [entry for entry in entries if "--hash=" not in entry and "==" in entry]
    rest = [entry for entry in entries if entry not in without]
    return "".join(rest).replace("\0", "\n"), "".join(without).replace("\0", "\n")


def _quoted(value: str) -> str:
    """As a Dockerfile reads it: ``$`` and the quote are its own."""
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$") + '"'
