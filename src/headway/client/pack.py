"""Packing: which files of a folder become a version, and the archive that carries them.

A folder is read twice. :func:`scan` hashes its files and so knows the bundle's digest; only when the control plane
lacks that bundle does :meth:`Bundle.write` make the archive. It is the same, byte for byte, wherever and whenever
the same files are packed: sorted by path, no times, no owners. A file that changes between the two is noticed.

What never becomes part of a bundle, whatever ``.headwayignore`` says, stands in :data:`NEVER`: caches, environments
and what is likely to hold secrets. The deployment document stays out too (what of it touches a replica has its own
part in the version's digest), so that another traffic split is not another version.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Final

import pathspec

from headway.domain.bundles import MAX_FILES, BundleFile, check_path, digest
from headway.domain.errors import HeadwayError, InvalidBundle, StorageFailed

IGNORE_FILE: Final = ".headwayignore"
NEVER: Final = (
    ".git",
    "__pycache__",
    "*.pyc",
    ".venv",
    "venv",
    "node_modules",
    ".ipynb_checkpoints",
    ".DS_Store",
    ".env",
    ".env.*",
)
"""Left out of every bundle, at any depth; patterns as in ``.gitignore``."""
DOCUMENT_NAMES: Final = ("headway.yaml", "headway.yml")
_MAX_IGNORE_BYTES = 1024 * 1024
_CHUNK = 1024 * 1024
_NEVER = pathspec.GitIgnoreSpec.from_lines(NEVER)


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of a bundle and where it lies, or what it holds."""

    file: BundleFile
    source: Path
    content: bytes | None = None
    """What is in it, where no file is: ``source`` says where it would lie."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The files of a version, found and hashed but not yet packed."""

    folder: Path
    files: tuple[SourceFile, ...]
    digest: str

    @property
    def size(self) -> int:
        """Bytes of all files together, unpacked."""
        return sum(entry.file.size for entry in self.files)

    def holds(self, path: str) -> bool:
        """Whether the file ``path`` is in it."""
        return any(entry.file.path == path for entry in self.files)

    def read(self, path: str, most_bytes: int) -> bytes | None:
        """Content of the file ``path``; None when it is not there. Raises ``InvalidBundle`` for a larger one."""
        for entry in self.files:
            if entry.file.path == path:
                if entry.file.size > most_bytes:
                    raise InvalidBundle(f"{path} is larger than {readable_size(most_bytes)}", where=path)
                try:
                    return entry.source.read_bytes() if entry.content is None else entry.content
                except OSError as error:
                    raise _unreadable(path, error) from error
        return None

    def with_files(self, made: Mapping[str, bytes], without: Collection[str] = ()) -> Bundle:
        """With these files, in place of those of the same path, and ``without`` some."""
        kept = [entry for entry in self.files if entry.file.path not in made and entry.file.path not in without]
        for path, content in made.items():
            check_path(path)
            kept.append(_made(path, self.folder, content))
        kept.sort(key=lambda entry: entry.file.path.encode())
        return Bundle(self.folder, tuple(kept), digest(entry.file for entry in kept))

    def write(self, target: IO[bytes]) -> None:
        """The archive (tar, gzip) to ``target``.

        Raises ``InvalidBundle`` when a file is no longer what it was, ``StorageFailed`` when there is no room.
        """
        try:
            with (
                gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=target, mtime=0) as packed,
                tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
            ):
                for entry in self.files:
                    _add(tar, entry)
        except OSError as error:
            raise StorageFailed(f"the bundle cannot be packed: {error.strerror or error}") from error


def scan(folder: Path, document: Path | None = None) -> Bundle:
    """The bundle of ``folder``. ``document``, the deployment document, is left out if it lies there.

    Links are followed as long as they lead to something inside the folder. Raises ``InvalidBundle`` for a folder
    that is missing, empty or unreadable, for links that lead out of it, and for what is neither file nor folder.
    """
    root = _root(folder)
    own = None if document is None else document.resolve()
    found: dict[str, SourceFile] = {}
    for path, source in _walk(root, root, "", _ignored(root), (root,)):
        real = source.resolve()
        if path in (IGNORE_FILE, *DOCUMENT_NAMES) or real == own:
            continue
        if len(found) >= MAX_FILES:
            raise InvalidBundle(
                f"{folder} holds more than {MAX_FILES} files", hint=f"leave some out with {IGNORE_FILE}"
            )
        found[path] = SourceFile(_hashed(path, source), source)
    if not found:
        raise InvalidBundle(
            f"{folder} holds no file that could be deployed", hint="headway init makes a model to start with"
        )
    files = tuple(found[path] for path in sorted(found, key=str.encode))
    return Bundle(root, files, digest(entry.file for entry in files))


def gather(folder: Path, parts: Mapping[str, Path], document: Path | None = None) -> Bundle:
    """The bundle of several folders, each below the name it has in ``parts``; ``folder`` is what paths count from.

    Their ``requirements.txt`` become one: all of it runs in one environment. Raises as :func:`scan`.
    """
    found: dict[str, SourceFile] = {}
    wanted: list[str] = []
    for name, part in parts.items():
        bundle = scan(part, document)
        if bundle.holds("requirements.lock"):
            raise InvalidBundle(
                f"{part} holds a requirements.lock, and all nodes of a graph share one environment",
                hint="leave it out with .headwayignore; requirements.txt of all nodes are put together",
            )
        wanted += [f"-r {name}/requirements.txt"] if bundle.holds("requirements.txt") else []
        for entry in bundle.files:
            path = f"{name}/{entry.file.path}"
            check_path(path)
            found[path] = SourceFile(replace(entry.file, path=path), entry.source)
    if wanted:
        content = "".join(f"{line}\n" for line in wanted).encode()
        found["requirements.txt"] = _made("requirements.txt", folder, content)
    if not found:
        content = b"Every node of this graph is built in.\n"
        found["README"] = _made("README", folder, content)
    if len(found) > MAX_FILES:
        raise InvalidBundle(f"the graph holds more than {MAX_FILES} files", hint=f"leave some out with {IGNORE_FILE}")
    files = tuple(found[path] for path in sorted(found, key=str.encode))
    return Bundle(folder, files, digest(entry.file for entry in files))


def _made(path: str, folder: Path, content: bytes) -> SourceFile:
    file = BundleFile(path, len(content), hashlib.sha256(content).hexdigest(), False)
    return SourceFile(file, folder / path, content)


def readable_size(size: int) -> str:
    """1536 -> ``1.5 KiB``."""
    amount, units = float(size), ["B", "KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        units.pop(0)
    return f"{amount:.0f} {units[0]}" if units[0] == "B" else f"{amount:.1f} {units[0]}"


def _root(folder: Path) -> Path:
    try:
        root = folder.expanduser().resolve(strict=True)
    except (OSError, RuntimeError):
        raise InvalidBundle(f"there is no folder {folder}", hint="headway init makes a model to start with") from None
    if not root.is_dir():
        raise InvalidBundle(f"{folder} is not a folder", hint="name the folder that holds model.py")
    return root


def _ignored(root: Path) -> pathspec.GitIgnoreSpec:
    path = root / IGNORE_FILE
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_IGNORE_BYTES + 1)
        if len(content) > _MAX_IGNORE_BYTES:
            raise InvalidBundle(f"{IGNORE_FILE} is larger than 1 MiB", where=IGNORE_FILE)
        return pathspec.GitIgnoreSpec.from_lines(content.decode().splitlines())
    except FileNotFoundError:
        return pathspec.GitIgnoreSpec.from_lines([])
    except (OSError, ValueError) as error:  # a pattern that is none is a ValueError, and so is text that is not UTF-8
        raise InvalidBundle(f"{IGNORE_FILE} cannot be used: {error}", where=IGNORE_FILE) from error


def _walk(
    root: Path, folder: Path, prefix: str, ignored: pathspec.GitIgnoreSpec, above: tuple[Path, ...]
) -> Iterator[tuple[str, Path]]:
    """Every file to be packed, by its path in the bundle. ``above``: real folders on the way here."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise _unreadable(prefix or str(folder), error) from error
    for name in names:
        path, source = prefix + name, folder / name
        try:
            is_folder = stat.S_ISDIR(source.stat().st_mode)
        except FileNotFoundError:
            if _skipped(path, ignored):
                continue
            raise InvalidBundle(
                f"{_shown(path)} is a link that leads nowhere", hint=f"remove it or name it in {IGNORE_FILE}"
            ) from None
        except OSError as error:
            if _skipped(path, ignored):
                continue
            raise _unreadable(path, error) from error
        if _skipped(path + "/" if is_folder else path, ignored):
            continue
        real = _inside(root, source, path)
        if real is None:
            continue
        if is_folder:
            if real in above:
                raise InvalidBundle(
                    f"{_shown(path)} is a link to a folder that it lies in", hint=f"name it in {IGNORE_FILE}"
                )
            yield from _walk(root, source, path + "/", ignored, (*above, real))
        else:
            yield path, source


def _skipped(path: str, ignored: pathspec.GitIgnoreSpec) -> bool:
    return _NEVER.match_file(path) or ignored.match_file(path)


def _inside(root: Path, source: Path, path: str) -> Path | None:
    """Where ``source`` really lies; None when that is in a place that is never packed."""
    if not source.is_symlink():
        return source.resolve()
    real = source.resolve()
    if not real.is_relative_to(root):
        raise InvalidBundle(
            f"{_shown(path)} is a link to {real}, outside the folder",
            hint=f"copy the file into the folder, or name it in {IGNORE_FILE}",
        )
    inner = real.relative_to(root).as_posix()
    return None if _NEVER.match_file(inner + "/" if real.is_dir() else inner) else real


def _hashed(path: str, source: Path) -> BundleFile:
    try:
        path.encode()
    except UnicodeEncodeError:
        raise InvalidBundle(f"the name of {_shown(path)} is not UTF-8", hint="rename the file") from None
    check_path(path)
    content, size = hashlib.sha256(), 0
    try:
        # Without O_NONBLOCK the opening of a named pipe would wait for a writer.
        with open(source, "rb", opener=_opened_at_once) as file:
            mode = os.fstat(file.fileno()).st_mode
            if not stat.S_ISREG(mode):
                raise InvalidBundle(f"{_shown(path)} is neither a file nor a folder", hint=f"name it in {IGNORE_FILE}")
            while data := file.read(_CHUNK):
                content.update(data)
                size += len(data)
    except OSError as error:
        raise _unreadable(path, error) from error
    return BundleFile(path, size, content.hexdigest(), bool(mode & stat.S_IXUSR))


def _opened_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def _add(tar: tarfile.TarFile, entry: SourceFile) -> None:
    file = entry.file
    header = tarfile.TarInfo(file.path)
    header.size, header.mode = file.size, 0o755 if file.executable else 0o644
    if entry.content is not None:
        tar.addfile(header, io.BytesIO(entry.content))
        return
    try:
        source = open(entry.source, "rb", opener=_opened_at_once)  # noqa: SIM115
    except OSError as error:
        raise _unreadable(file.path, error) from error
    with source:
        reader = _Hashing(source)
        try:
            tar.addfile(header, reader)
        except OSError as error:
            if reader.failed or reader.taken < file.size:
                raise _changed(file.path) from error
            raise  # the archive could not be written
    if reader.content.hexdigest() != file.sha256:
        raise _changed(file.path)


class _Hashing:
    """A file that is hashed as it is read."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self.content = hashlib.sha256()
        self.taken = 0
        self.failed = False

    def read(self, size: int = -1) -> bytes:
        try:
            data = self._source.read(size)
        except OSError:
            self.failed = True
            raise
        self.content.update(data)
        self.taken += len(data)
        return data


def _changed(path: str) -> InvalidBundle:
    return InvalidBundle(f"{_shown(path)} changed while it was being packed", hint="deploy again once it is complete")


def _unreadable(path: str, error: OSError) -> HeadwayError:
    return InvalidBundle(f"{_shown(path)} cannot be read: {error.strerror or error}")


def _shown(path: str) -> str:
    return repr(path[:200])


def chunks(archive: IO[bytes]) -> Iterator[bytes]:
    """What is left to read of ``archive``, in pieces for the wire."""
    while data := archive.read(_CHUNK):
        yield data
