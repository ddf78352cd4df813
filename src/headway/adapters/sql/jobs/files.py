"""Large contents of jobs, as files beside the database.

A file is written and made durable before the transaction that names it, under a name that is used once, and removed
after the transaction that forgets it is durable. So a crash leaves at most a file that nobody names; those are cleared
away when the store is opened. Blocking: call it in threads.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from headway.domain.errors import StorageFailed


class ContentFiles:
    """Files in folders of ``folder``, spread by the last characters of the job's id, which are random."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, job_id: str, which: str, data: bytes) -> str:
        """Keep ``data`` durably; its name. Raises ``StorageFailed``."""
        name = f"{job_id}.{which}.{secrets.token_hex(4)}"
        path = self._path(name)
        try:
            self._make(path.parent)
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                rest = memoryview(data)
                while rest:
                    rest = rest[os.write(handle, rest) :]
                os.fsync(handle)
            finally:
                os.close(handle)
            _flush_folder(path.parent)
        except OSError as error:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            raise StorageFailed(f"a job's {which} could not be kept: {error}", where=str(path)) from error
        return name

    def read(self, name: str) -> bytes:
        """Raises ``StorageFailed``."""
        path = self._path(name)
        try:
            return path.read_bytes()
        except OSError as error:
            raise StorageFailed(f"a job's content could not be read: {error}", where=str(path)) from error

    def remove(self, names: Iterable[str]) -> None:
        """What cannot be removed now is cleared away another time."""
        for name in names:
            with contextlib.suppress(OSError):
                self._path(name).unlink(missing_ok=True)

    def names(self, older_than_s: float) -> Iterator[tuple[str, str]]:
        """``(name, job id)`` of the files that were written longer ago than that."""
        for path in self.folder.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime >= older_than_s:
                    yield path.name, path.name.partition(".")[0]

    def _path(self, name: str) -> Path:
        return self.folder / name.partition(".")[0][-2:] / name

    def _make(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _flush_folder(self.folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)
        _flush_folder(self.folder)


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
