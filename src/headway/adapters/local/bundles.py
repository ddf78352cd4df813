"""Bundles as folders: ``<root>/<digest>/``, read-only.

A folder with a digest for its name is whole and verified: it was filled under another name, made
durable and then renamed. Names that begin with a dot are work in progress; whoever works holds a lock
on its folder (``flock``, gone with the process), so what :meth:`LocalBundleStore.open` finds unlocked
is the leftover of a crash.

An upload is first spooled to a nameless file: a slow sender then costs disk space and no thread, and
bytes are only looked into once all of them are here.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import IO, Final, TypeVar

from headway.adapters.local.unpack import unpack
from headway.domain.errors import BundleNotFound, InvalidBundle, PayloadTooLarge, StorageFailed
from headway.domain.names import DIGEST, check_digest

DEFAULT_MAX_BYTES: Final = 8 * 1024**3
_ARCHIVE_OVERHEAD = 64 * 1024**2
"""What tar may add to 20,000 files: about 3 KiB each for headers, long names and padding."""
_SPOOL_CHUNK = 1024 * 1024
T = TypeVar("T")


class LocalBundleStore:
    """``max_bytes`` bounds a bundle unpacked; raises ``StorageFailed`` when the disk does not play along."""

    def __init__(self, root: Path, *, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._root = root
        self._max_bytes = max_bytes

    async def open(self) -> None:
        """Make the folder and remove what a crash left behind. Again: harmless, even while others put."""
        await self._in_thread(self._clean)

    async def has(self, digest: str) -> bool:
        return self._folder(digest).is_dir()

    async def path(self, digest: str) -> Path:
        folder = self._folder(digest)
        if not folder.is_dir():
            raise BundleNotFound(f"there is no bundle {digest}", hint="upload it first")
        return folder

    async def list(self) -> list[str]:
        with suppress(FileNotFoundError):
            return sorted(name for name in os.listdir(self._root) if DIGEST.fullmatch(name))
        return []

    async def put(self, digest: str, archive: AsyncIterator[bytes]) -> None:
        folder = self._folder(digest)
        if folder.is_dir():
            return
        spool = await self._in_thread(self._spool_file)
        with spool:
            await self._receive(archive, spool)
            cancelled = threading.Event()
            await self._in_thread(partial(self._store, spool, digest, folder, cancelled), cancelled)

    async def delete(self, digest: str) -> None:
        folder = self._folder(digest)
        await self._in_thread(partial(self._remove, folder))

    def place(self, digest: str) -> Path:
        return self._folder(digest)

    def _folder(self, digest: str) -> Path:
        return self._root / check_digest(digest)

    def _spool_file(self) -> IO[bytes]:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return tempfile.TemporaryFile(dir=self._root)

    async def _receive(self, archive: AsyncIterator[bytes], spool: IO[bytes]) -> None:
        limit = self._max_bytes + _ARCHIVE_OVERHEAD
        size, pending = 0, bytearray()
        async for chunk in archive:
            size += len(chunk)
            if size > limit:
                raise PayloadTooLarge(
                    f"the archive is larger than {limit} bytes",
                    hint="leave out what the model does not need with .headwayignore",
                )
            pending += chunk
            if len(pending) >= _SPOOL_CHUNK:
                data, pending = pending, bytearray()
                await self._in_thread(partial(spool.write, data))
        await self._in_thread(partial(spool.write, pending))

    def _store(self, spool: IO[bytes], digest: str, folder: Path, cancelled: threading.Event) -> None:
        work = self._root / f".put-{secrets.token_hex(8)}"
        work.mkdir(mode=0o755)
        lock = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            spool.seek(0)
            found = unpack(spool, work, self._max_bytes, cancelled)
            if found != digest:
                raise InvalidBundle(
                    f"the archive's files have the digest {found}, not {digest}", hint="pack and upload it again"
                )
            self._publish(work, folder)
        finally:
            _remove_tree(work)  # when it was renamed there is nothing of that name any more
            os.close(lock)

    def _publish(self, work: Path, folder: Path) -> None:
        try:
            work.rename(folder)
        except OSError as error:
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return  # somebody else put the same bundle meanwhile
            raise
        _sync_folder(self._root)

    def _remove(self, folder: Path) -> None:
        work = self._root / f".delete-{secrets.token_hex(8)}"
        with suppress(FileNotFoundError):
            folder.rename(work)
            _remove_tree(work)

    def _clean(self) -> None:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for entry in self._root.iterdir():
            if entry.name.startswith((".put-", ".delete-")) and entry.is_dir():
                with suppress(BlockingIOError, FileNotFoundError):
                    lock = os.open(entry, os.O_RDONLY | os.O_DIRECTORY)
                    try:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        _remove_tree(entry)
                    finally:
                        os.close(lock)

    async def _in_thread(self, work: Callable[[], T], cancelled: threading.Event | None = None) -> T:
        """``work`` in a thread. When cancelled it is told so, and waited for, so that nothing lingers."""
        task = asyncio.ensure_future(asyncio.to_thread(work))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if cancelled is not None:
                cancelled.set()
            with suppress(Exception):
                await task
            raise
        except OSError as error:
            raise StorageFailed(
                f"the bundle cannot be stored: {error}", where=str(self._root), hint="is the disk full?"
            ) from error


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def _remove_tree(tree: Path) -> None:
    """Remove ``tree`` although its folders are read-only; fine when it is gone."""
    for folder, _, _ in os.walk(tree, topdown=True):
        with suppress(FileNotFoundError):
            os.chmod(folder, 0o700)  # top-down: before it is listed further
    with suppress(FileNotFoundError):
        shutil.rmtree(tree)
