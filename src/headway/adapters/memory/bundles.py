"""Bundles held in memory; a folder appears, once, when somebody asks for its path."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import shutil
import tarfile
import zlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from headway.domain import bundles
from headway.domain.bundles import BundleFile
from headway.domain.errors import BundleNotFound, InvalidBundle, PayloadTooLarge
from headway.domain.names import check_digest

Files = dict[str, tuple[bytes, bool]]
"""Path -> content and whether it is executable."""


_OVERHEAD = 32 * 1024 * 1024
"""Headers and padding of 20,000 files."""


class MemoryBundleStore:
    """``root``: where folders are made for :meth:`path`. ``max_bytes`` bounds a bundle unpacked."""

    def __init__(self, root: Path, *, max_bytes: int = 64 * 1024 * 1024) -> None:
        self._root = root
        self._max_bytes = max_bytes
        self._bundles: dict[str, Files] = {}

    async def has(self, digest: str) -> bool:
        return check_digest(digest) in self._bundles

    async def put(self, digest: str, archive: AsyncIterator[bytes]) -> None:
        if await self.has(digest):
            return
        data = bytearray()
        async for chunk in archive:
            data += chunk
            if len(data) > self._max_bytes + _OVERHEAD:
                raise PayloadTooLarge(f"the archive is larger than {self._max_bytes + _OVERHEAD} bytes")
        files = _unpack(bytes(data), self._max_bytes)
        found = _digest(files)
        if found != digest:
            raise InvalidBundle(f"the archive's files have the digest {found}, not {digest}")
        self._bundles[digest] = files

    def place(self, digest: str) -> Path:
        return self._root / check_digest(digest)

    async def path(self, digest: str) -> Path:
        folder = self.place(digest)
        if digest not in self._bundles:
            raise BundleNotFound(f"there is no bundle {digest}", hint="upload it first")
        if not folder.exists():
            _write(folder, self._bundles[digest])
        return folder

    async def list(self) -> list[str]:
        return sorted(self._bundles)

    async def delete(self, digest: str) -> None:
        folder = self._root / check_digest(digest)
        if self._bundles.pop(digest, None) is not None and folder.exists():
            for inner, _, _ in os.walk(folder):
                Path(inner).chmod(0o700)
            shutil.rmtree(folder)

    def add(self, files: Mapping[str, bytes | str]) -> str:
        """Store ``files`` as they are; their digest."""
        encoded: Files = {
            path: (content.encode() if isinstance(content, str) else content, False) for path, content in files.items()
        }
        digest = _digest(encoded)
        self._bundles[digest] = encoded
        return digest


def _digest(files: Files) -> str:
    return bundles.digest(
        BundleFile(path, len(content), hashlib.sha256(content).hexdigest(), executable)
        for path, (content, executable) in files.items()
    )


def _unpack(data: bytes, max_bytes: int) -> Files:
    files: Files = {}
    folders: set[str] = set()
    try:
        with tarfile.open(fileobj=io.BytesIO(_plain(data, max_bytes)), mode="r:") as tar:
            for member in tar:
                bundles.check_path(member.name)
                folders.update(str(p) for p in Path(member.name).parents if str(p) != ".")
                if member.isdir():
                    folders.add(member.name)
                    continue
                if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                    raise InvalidBundle(f"{member.name!r} is neither a file nor a folder")
                if member.name in files:
                    raise InvalidBundle(f"the bundle holds {member.name!r} twice")
                content = tar.extractfile(member)
                files[member.name] = (content.read() if content else b"", bool(member.mode & 0o100))
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError) as error:
        raise InvalidBundle(f"the archive cannot be read: {error}") from error
    if sum(len(content) for content, _ in files.values()) > max_bytes:
        raise PayloadTooLarge(f"the bundle is larger than {max_bytes} bytes when unpacked")
    if both := folders & files.keys():
        raise InvalidBundle(f"{min(both)!r} is both a file and a folder")
    return files


def _plain(data: bytes, max_bytes: int) -> bytes:
    if not data.startswith(b"\x1f\x8b"):
        return data
    limit = max_bytes + _OVERHEAD
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as source:
        plain = source.read(limit + 1)
    if len(plain) > limit:
        raise PayloadTooLarge(f"the bundle is larger than {max_bytes} bytes when unpacked")
    return plain


def _write(folder: Path, files: Files) -> None:
    folder.mkdir(parents=True)
    for path, (content, executable) in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        target.chmod(0o555 if executable else 0o444)
    for inner, _, _ in os.walk(folder, topdown=False):
        Path(inner).chmod(0o555)
