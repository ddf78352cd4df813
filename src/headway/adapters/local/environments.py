"""Environments: one virtual environment per set of locked requirements, made with uv.

Two steps, each remembered on disk::

    <root>/locks/<key>.lock   what uv resolved; the key is the SHA-256 of all that resolving depends on
    <root>/<lock digest>/     the environment; whole if and only if the file ``complete`` is in it

so the same text is resolved once and the same lock is installed once, and neither needs a network the
second time. A virtual environment holds its own path, so it is made where it stays, under a file
lock (``flock``). uv's process holds that lock too: if the control plane is killed in the middle, the
next one waits until its uv is gone before it clears away the half and begins again.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final

from headway.adapters.local.requirements import (
    LOCK,
    REQUIREMENTS,
    RequirementsFiles,
    completed,
    package_count,
    read_requirements,
)
from headway.adapters.local.shared_work import Progress, SharedWork
from headway.adapters.local.uv_errors import explain
from headway.adapters.local.uv_process import UvFailed, run_uv
from headway.domain.errors import EnvironmentFailed, MissingBinary, StorageFailed
from headway.ports.environment import Environment

SERVER_PACKAGES: Final = ("httptools", "msgspec", "uvloop")
"""What the model server imports besides the standard library."""
DEFAULT_TIMEOUT_S: Final = 15 * 60.0
_COMPLETE = "complete"
_LOCK_POLL_S = 0.2
_TOLD = frozenset({"Resolved", "Downloading", "Building", "Prepared", "Installed", "Updating"})


def server_pins() -> tuple[str, ...]:
    """The model server's needs at the versions that Headway itself runs with."""
    return tuple(f"{name}=={version(name)}" for name in SERVER_PACKAGES)


class UvEnvironments:
    """``timeout_s`` bounds one :meth:`ensure`; ``uv`` names another binary than the one of the uv package."""

    def __init__(
        self,
        root: Path,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        uv: str | None = None,
        server_requirements: Sequence[str] | None = None,
    ) -> None:
        self._root = root
        self._timeout_s = timeout_s
        self._uv = uv
        self._server = tuple(server_pins() if server_requirements is None else server_requirements)
        self._resolving: SharedWork[str] = SharedWork()
        self._building: SharedWork[Environment] = SharedWork()

    def has(self, python: str) -> bool:
        return Path(python).exists()

    async def ensure(self, bundle: Path, progress: Progress) -> Environment:
        locked = (bundle / LOCK).is_file()
        if not locked and not (bundle / REQUIREMENTS).is_file():
            return Environment(python=sys.executable, lock_digest=None, cached=True)
        files = read_requirements(bundle, LOCK if locked else REQUIREMENTS)
        try:
            async with asyncio.timeout(self._timeout_s):
                if locked:
                    lock = self._header() + completed(files.texts[0][1], self._server)
                else:
                    lock = await self._resolved(bundle, files, progress)
                return await self._built(lock, bundle, files, progress)
        except TimeoutError as error:
            raise EnvironmentFailed(
                f"the environment was not there after {self._timeout_s:g} s",
                hint="is the network slow, or does a package build from source?",
            ) from error
        except OSError as error:
            raise StorageFailed(
                f"the environment cannot be stored: {error}", where=str(self._root), hint="is the disk full?"
            ) from error

    def _header(self) -> str:
        return f"# {platform.python_implementation()} {platform.python_version()} {sysconfig.get_platform()}\n"

    async def _resolved(self, bundle: Path, files: RequirementsFiles, progress: Progress) -> str:
        inputs = [self._header(), *self._server, files.canonical]
        key = hashlib.sha256("\0".join(inputs).encode()).hexdigest()
        path = self._root / "locks" / f"{key}.lock"
        if path.is_file():
            return path.read_text()
        return await self._resolving.join(key, partial(self._resolve, bundle, files, path), progress)

    async def _resolve(self, bundle: Path, files: RequirementsFiles, path: Path, progress: Progress) -> str:
        progress("resolving requirements")
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        needs = path.with_suffix(".server.txt")
        write_whole(needs, "".join(f"{need}\n" for need in self._server))
        arguments = ["pip", "compile", str(bundle / REQUIREMENTS), str(needs), "--python", sys.executable]
        arguments += ["--no-header", "--no-annotate", "--generate-hashes"]
        try:
            body = await run_uv(self._binary(), arguments, cwd=self._root, on_line=partial(note, progress))
        except UvFailed as error:
            raise self._explained(error, files, bundle) from error
        finally:
            needs.unlink(missing_ok=True)
        lock = self._header() + "".join(f"{option}\n" for option in files.options) + body
        write_whole(path, lock)
        return lock

    async def _built(self, lock: str, bundle: Path, files: RequirementsFiles, progress: Progress) -> Environment:
        lock_digest = hashlib.sha256(lock.encode()).hexdigest()
        folder = self._root / lock_digest
        if _whole(folder):
            return Environment(python=_python(folder), lock_digest=lock_digest, cached=True)
        return await self._building.join(lock_digest, partial(self._build, lock, folder, bundle, files), progress)

    async def _build(
        self, lock: str, folder: Path, bundle: Path, files: RequirementsFiles, progress: Progress
    ) -> Environment:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        async with _exclusive(folder.with_suffix(".building"), progress) as held:
            if _whole(folder):  # another process was faster
                return Environment(python=_python(folder), lock_digest=folder.name, cached=True)
            await _removed(folder)
            run = partial(run_uv, self._binary(), cwd=self._root, on_line=partial(note, progress), keep_open=held)
            try:
                await run(["venv", str(folder), "--python", sys.executable, "--no-project"])
                write_whole(folder / LOCK, lock)
                progress(f"installing {package_count(lock)} packages")
                await run(
                    ["pip", "sync", str(folder / LOCK), "--python", _python(folder), "--strict", "--compile-bytecode"]
                )
                write_whole(folder / _COMPLETE, json.dumps({"lock": folder.name, "python": platform.python_version()}))
            except UvFailed as error:
                await _removed(folder)
                raise self._explained(error, files, bundle) from error
            except BaseException:  # cancelled, or the disk is full: nothing half-made stays
                await _removed(folder)
                raise
        return Environment(python=_python(folder), lock_digest=folder.name, cached=False)

    def _binary(self) -> str:
        if self._uv is not None:
            return self._uv
        from uv import find_uv_bin

        try:
            return find_uv_bin()
        except FileNotFoundError as error:
            raise MissingBinary("uv is not installed", hint="install the uv package beside Headway") from error

    def _explained(self, error: UvFailed, files: RequirementsFiles, bundle: Path) -> EnvironmentFailed:
        server = frozenset(need.partition("==")[0] for need in self._server)
        return explain(error.output, files, bundle, server)


def _python(folder: Path) -> str:
    return str(folder / "bin" / "python")


def _whole(folder: Path) -> bool:
    # The interpreter is a link to the system's, which an upgrade of the system can take away.
    return (folder / _COMPLETE).is_file() and os.access(folder / "bin" / "python", os.X_OK)


def note(progress: Progress, line: str) -> None:
    """uv's own line, where it tells how far things are."""
    if line.split(" ", 1)[0] in _TOLD or line.startswith("warning: The package "):
        progress(line[0].lower() + line[1:])


def write_whole(path: Path, text: str) -> None:
    """Write ``path`` whole or not at all, for its owner only (an index's address can hold a password)."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


async def _removed(folder: Path) -> None:
    """``folder`` is gone when this returns, cancelled or not."""
    removal = asyncio.ensure_future(asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True))
    try:
        await asyncio.shield(removal)
    except asyncio.CancelledError:
        await removal
        raise


@asynccontextmanager
async def _exclusive(path: Path, progress: Progress) -> AsyncIterator[int]:
    """Hold the file lock at ``path``; yields its descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not told:
                    progress("waiting for another build of the same environment")
                    told = True
                await asyncio.sleep(_LOCK_POLL_S)
        yield descriptor
    finally:
        os.close(descriptor)
