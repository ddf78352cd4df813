"""Where parts are kept, as seen by :mod:`.store`; and parts in a directory.

    <root>/model=<model>/hour=<YYYY-MM-DDTHH>/<name>.parquet

A file gets its name once it is whole and on the disk. Only one compaction at a time writes here: it holds the lock
of ``<root>/.lock``. Readers hold no lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from headway.adapters.querylog.manifest import NO_MODEL, hour_name, parse_hour
from headway.domain.names import MODEL_NAME

_LOCK_POLL_S: Final = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A file that is kept."""

    model: str
    hour: int
    name: str
    size: int
    tag: str
    """Another one when its content is another."""

    @property
    def path(self) -> str:
        """Relative to the root."""
        return f"{folder(self.model, self.hour)}/{self.name}"


class Place(Protocol):
    """Keeps whole files under ``model`` and ``hour``. Called from threads; raises ``OSError``."""

    scratch: Path
    """For files on their way; on the same file system as what is kept in a directory."""

    def files(self, model: str | None, first_hour: int | None = None, last_hour: int | None = None) -> list[Stored]:
        """All of one model or of all, of hours between the two (included); without an order."""
        ...

    def tail(self, stored: Stored, size: int) -> bytes:
        """Its last ``size`` bytes."""
        ...

    def local(self, stored: Stored) -> Path:
        """A file with its content, which stays for some minutes at least."""
        ...

    def again(self, stored: Stored) -> Path | None:
        """As :meth:`local`, fetched anew; None where that would be the same file."""
        ...

    def put(self, draft: Path, model: str, hour: int, name: str, *, new: bool) -> bool:
        """Keep ``draft``, which is then gone. ``new``: only if there is none of that name; False when there is."""
        ...

    def remove(self, stored: Stored) -> None:
        """Harmless when it is gone."""
        ...

    def beside(self, name: str) -> Place:
        """A place of its own within this one; ``name`` is no model's."""
        ...

    @contextmanager
    def alone(self, stop: Callable[[], bool]) -> Iterator[None]:
        """Nobody else of those who can be kept out by a lock writes meanwhile."""
        yield


def folder(model: str, hour: int) -> str:
    return f"model={model}/hour={hour_name(hour)}"


def parse_path(path: str) -> tuple[str, int, str] | None:
    """Model, hour and name from a path relative to the root; None for what is something else."""
    pieces = path.split("/")
    if len(pieces) != 3 or not pieces[0].startswith("model=") or not pieces[1].startswith("hour="):
        return None
    model, hour, name = pieces[0].removeprefix("model="), parse_hour(pieces[1].removeprefix("hour=")), pieces[2]
    if hour is None or not (model == NO_MODEL or MODEL_NAME.fullmatch(model)):
        return None
    if name.startswith(".") or not name.endswith(".parquet"):
        return None
    return model, hour, name


class Stopped(Exception):
    """The work was called off."""


@contextmanager
def locked(path: Path, stop: Callable[[], bool]) -> Iterator[None]:
    """Hold the lock of ``path``, waiting for it; raises :class:`Stopped` when ``stop()`` while waiting."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if stop():
                    raise Stopped from None
                time.sleep(_LOCK_POLL_S)
        yield
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Have the names in ``path`` on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Directory:
    """A :class:`Place` on a file system."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.scratch = root / ".scratch"

    def __repr__(self) -> str:
        return f"Directory({str(self.root)!r})"

    def files(self, model: str | None, first_hour: int | None = None, last_hour: int | None = None) -> list[Stored]:
        found: list[Stored] = []
        for name in [f"model={model}"] if model is not None else _names(self.root):
            for hour_folder in _names(self.root / name):
                hour = parse_hour(hour_folder.removeprefix("hour="))
                if hour is None or (first_hour is not None and hour < first_hour):
                    continue
                if last_hour is None or hour <= last_hour:
                    found.extend(self._of_hour(f"{name}/{hour_folder}"))
        return found

    def _of_hour(self, place: str) -> Iterator[Stored]:
        with suppress(FileNotFoundError), os.scandir(self.root / place) as entries:
            for entry in entries:
                parsed = parse_path(f"{place}/{entry.name}")
                if parsed is None:
                    continue
                with suppress(FileNotFoundError):  # removed since it was listed
                    status = entry.stat()
                    tag = f"{status.st_ino}.{status.st_mtime_ns}.{status.st_ctime_ns}"
                    model, hour, name = parsed
                    yield Stored(model=model, hour=hour, name=name, size=status.st_size, tag=tag)

    def tail(self, stored: Stored, size: int) -> bytes:
        with (self.root / stored.path).open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - size))
            return file.read()

    def local(self, stored: Stored) -> Path:
        return self.root / stored.path

    def again(self, stored: Stored) -> Path | None:
        return None

    def put(self, draft: Path, model: str, hour: int, name: str, *, new: bool) -> bool:
        target = self.root / folder(model, hour)
        if not target.is_dir():
            target.mkdir(parents=True, exist_ok=True, mode=0o700)
            sync_folder(self.root)
            sync_folder(target.parent)
        if new:
            if not _link(draft, target / name):
                return False
            draft.unlink(missing_ok=True)
        else:
            os.replace(draft, target / name)
        sync_folder(target)
        return True

    def remove(self, stored: Stored) -> None:
        path = self.root / stored.path
        path.unlink(missing_ok=True)
        with suppress(OSError):  # not empty, mostly
            path.parent.rmdir()
            path.parent.parent.rmdir()

    def beside(self, name: str) -> Place:
        return Directory(self.root / name)

    @contextmanager
    def alone(self, stop: Callable[[], bool]) -> Iterator[None]:
        with locked(self.root / ".lock", stop):
            yield


def _names(path: Path) -> list[str]:
    try:
        return os.listdir(path)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _link(draft: Path, target: Path) -> bool:
    """Give ``draft`` a second name; False when that is taken."""
    try:
        os.link(draft, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in {errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK}:
            raise
        if target.exists():  # a file system without hard links; the lock keeps others out
            return False
        os.replace(draft, target)
    return True
