"""Packages for another place than this machine: locked, and installed into a folder, for a Python and platform.

What is installed are wheels. To build one from source here would give what fits this machine.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from headway.adapters.local.environments import note, server_pins, write_whole
from headway.adapters.local.requirements import (
    LOCK,
    REQUIREMENTS,
    RequirementsFiles,
    completed,
    package_count,
    read_requirements,
)
from headway.adapters.local.shared_work import Progress
from headway.adapters.local.uv_errors import explain
from headway.adapters.local.uv_process import UvFailed, run_uv
from headway.domain.errors import EnvironmentFailed, MissingBinary, Unsupported

MACHINES: Final = {"amd64": "x86_64", "arm64": "aarch64"}
"""What Python calls the architectures of images."""
_LEFT_OUT: Final = (".lock", "bin", "uv_cache.json")
"""uv's own; and programs, whose first line names this machine's Python."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where packages are to run. ``libc``: ``gnu`` or ``musl``."""

    python_version: str
    architecture: str
    libc: str

    def arguments(self) -> list[str]:
        """For uv. Raises ``Unsupported``."""
        machine = MACHINES.get(self.architecture)
        if machine is None:
            raise Unsupported(
                f"there are no wheels for {self.architecture}", hint=f"for {', '.join(MACHINES)} there are"
            )
        platform = f"{machine}-unknown-linux-{self.libc}"
        return ["--python-version", self.python_version, "--python-platform", platform]


class UvTargets:
    """``root``: a folder for locks that were made, and for work."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._server = server_pins()

    async def lock(self, bundle: Path, target: Target, progress: Progress) -> str:
        """The locked requirements of ``bundle`` with the model server's. The same text is resolved once.

        Raises ``EnvironmentFailed``.
        """
        if (bundle / LOCK).is_file():
            # What is added is pinned, but carries no hash: a lock with hashes is installed in two steps then.
            return completed(read_requirements(bundle, LOCK).texts[0][1], self._server)
        stated = (bundle / REQUIREMENTS).is_file()
        files = read_requirements(bundle) if stated else RequirementsFiles((), ())
        inputs = [*target.arguments(), *self._server, files.canonical]
        path = self._root / "locks" / f"{hashlib.sha256(chr(0).join(inputs).encode()).hexdigest()}.lock"
        if path.is_file():
            return path.read_text()
        progress("resolving requirements")
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        needs = path.with_suffix(".server.txt")
        write_whole(needs, "".join(f"{need}\n" for need in self._server))
        arguments = ["pip", "compile", *([str(bundle / REQUIREMENTS)] if stated else []), str(needs), "--no-build"]
        arguments += ["--no-header", "--no-annotate", "--generate-hashes", "--python", sys.executable]
        try:
            body = await self._run([*arguments, *target.arguments()], files, bundle, progress)
        finally:
            needs.unlink(missing_ok=True)
        lock = "".join(f"{option}\n" for option in files.options) + body
        write_whole(path, lock)
        return lock

    async def install(self, lock: str, bundle: Path, folder: Path, target: Target, progress: Progress) -> None:
        """Put what ``lock`` names into ``folder``, which is not there yet. Raises ``EnvironmentFailed``."""
        progress(f"installing {package_count(lock)} packages")
        written = folder.with_suffix(".lock")
        write_whole(written, lock)
        files = RequirementsFiles(((LOCK, lock),), ())
        arguments = ["pip", "install", "--target", str(folder), "--no-deps", "--no-build", "--link-mode", "copy"]
        arguments += ["--no-compile-bytecode", "--python", sys.executable, "-r", str(written), *target.arguments()]
        try:
            await self._run(arguments, files, bundle, progress)
            await asyncio.to_thread(_clean, folder)
        finally:
            written.unlink(missing_ok=True)

    async def _run(self, arguments: list[str], files: RequirementsFiles, bundle: Path, progress: Progress) -> str:
        from uv import find_uv_bin

        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            return await run_uv(find_uv_bin(), arguments, cwd=self._root, on_line=partial(note, progress))
        except FileNotFoundError as error:
            raise MissingBinary("uv is not installed", hint="install the uv package beside Headway") from error
        except UvFailed as error:
            found = explain(error.output, files, bundle, frozenset(need.partition("==")[0] for need in self._server))
            if "no-build" in error.output or "no wheels" in error.output or "building" in error.output.lower():
                hint = "an image takes wheels only; is there one for its Python and platform?"
                raise EnvironmentFailed(found.message, where=found.where, hint=hint, details=found.details) from error
            raise found from error


def _clean(folder: Path) -> None:
    """Take away what tells of this machine, also from the lists of what was installed."""
    for name in _LEFT_OUT[:2]:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for made in folder.glob("*.dist-info"):
        (made / _LEFT_OUT[2]).unlink(missing_ok=True)
        record = made / "RECORD"
        if record.is_file():
            gone = ("../../bin/", "bin/", "../bin/", f"{made.name}/{_LEFT_OUT[2]}")
            lines = [line for line in record.read_text("utf-8").splitlines() if not line.startswith(gone)]
            record.write_text("".join(f"{line}\n" for line in sorted(lines)), "utf-8")
