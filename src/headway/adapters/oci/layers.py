"""Layers: files as tar, packed with gzip, the same bytes for the same files wherever and whenever they are packed.

Entries are sorted by path and belong to root unless stated; times are 0, modes are 0644 or 0755. gzip's header holds
neither name nor time. What remains is zlib itself: another one (zlib-ng) may pack the same bytes differently.
"""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from headway.domain.errors import InvalidBundle

LEVEL: Final = 6
_CHUNK: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing in a layer. ``path`` is relative to the image's root."""

    path: str
    source: Path | bytes | None = None
    """A file's content; None: a folder, or a link."""
    executable: bool = False
    link: str | None = None
    owner: int = 0
    sha256: str | None = None
    """What the content must be, where that is known beforehand."""


def entries_of(folder: Path, prefix: str) -> Iterator[Entry]:
    """Everything in ``folder``, to lie under ``prefix``."""
    for directory, folders, files in os.walk(folder):
        below = Path(directory).relative_to(folder)
        for name in sorted([*folders, *files]):
            source = Path(directory, name)
            path = (Path(prefix) / below / name).as_posix()
            if source.is_symlink():
                yield Entry(path, link=os.readlink(source))
            elif source.is_dir():
                yield Entry(path)
            else:
                yield Entry(path, source, bool(source.stat().st_mode & stat.S_IXUSR))


@dataclass(frozen=True, slots=True)
class Packed:
    """What a layer was packed into."""

    digest: str
    size: int
    diff_id: str


class _Gzip:
    """A stream that packs what is written, and knows the digests of both sides. RFC 1952, with no name and no time."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self._squeeze = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._crc = self._length = 0
        self.plain, self.packed, self.size = hashlib.sha256(), hashlib.sha256(), 0
        self._out(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff")

    def write(self, data: bytes) -> int:
        self.plain.update(data)
        self._crc = zlib.crc32(data, self._crc)
        self._length += len(data)
        self._out(self._squeeze.compress(data))
        return len(data)

    def finish(self) -> Packed:
        self._out(self._squeeze.flush())
        self._out(self._crc.to_bytes(4, "little") + (self._length & 0xFFFFFFFF).to_bytes(4, "little"))
        return Packed(f"sha256:{self.packed.hexdigest()}", self.size, f"sha256:{self.plain.hexdigest()}")

    def _out(self, data: bytes) -> None:
        self.packed.update(data)
        self.size += len(data)
        self._target.write(data)


def pack(entries: Iterable[Entry], target: IO[bytes]) -> Packed:
    """Write the layer to ``target``.

    Folders that lie below the first one of a path are entries too; the first is the base's own or made by who unpacks.
    Raises ``InvalidBundle`` for a file that is not what its entry says.
    """
    stream = _Gzip(target)
    found = {entry.path: entry for entry in entries}
    for path in [entry.path for entry in found.values() if entry.source is not None]:
        parent = path.rpartition("/")[0]
        while "/" in parent and parent not in found:
            found[parent] = Entry(parent)
            parent = parent.rpartition("/")[0]
    with tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_CHUNK) as tar:  # type: ignore[call-overload]
        for path in sorted(found, key=str.encode):
            _add(tar, found[path])
    return stream.finish()


def repack(source: IO[bytes], target: IO[bytes]) -> Packed:
    """Pack a tar archive as it is."""
    stream = _Gzip(target)
    while data := source.read(_CHUNK):
        stream.write(data)
    return stream.finish()


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    header = tarfile.TarInfo(entry.path)
    header.uid = header.gid = entry.owner
    if entry.link is not None:
        header.type, header.linkname, header.mode = tarfile.SYMTYPE, entry.link, 0o777
        tar.addfile(header)
    elif entry.source is None:
        header.type, header.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(header)
    else:
        header.mode = 0o755 if entry.executable else 0o644
        with io.BytesIO(entry.source) if isinstance(entry.source, bytes) else entry.source.open("rb") as file:
            header.size = file.seek(0, os.SEEK_END)
            file.seek(0)
            reader = _Hashing(file)
            tar.addfile(header, reader)
            if entry.sha256 is not None and reader.content.hexdigest() != entry.sha256:
                raise InvalidBundle(f"{entry.path!r} changed while it was being packed", hint="build again")


class _Hashing:
    """A file that is hashed as it is read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.content = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.content.update(data)
        return data
