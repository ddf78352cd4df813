"""The content address of a bundle: which files count and how their digest is made.

``digest`` is SHA-256 over one line per file, sorted by path (bytes of its UTF-8)::

    <path> NUL <"x" if executable else "-"> NUL <sha256 of the content, hex> LF

Times, owners and the archive's own form do not count, so the same files are the same bundle anywhere.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from headway.domain.errors import InvalidBundle

MAX_FILES = 20_000
MAX_PATH_BYTES = 1_024


@dataclass(frozen=True, slots=True)
class BundleFile:
    """One regular file: ``path`` is relative, with forward slashes."""

    path: str
    size: int
    sha256: str
    executable: bool = False


def check_path(path: str) -> str:
    """``path`` unchanged when it is a safe relative path; else :class:`InvalidBundle`."""
    parts = path.split("/")
    unsafe = path.startswith("/") or "\\" in path or "\0" in path or any(p in {"", ".", ".."} for p in parts)
    if unsafe or len(path.encode(errors="surrogatepass")) > MAX_PATH_BYTES:
        raise InvalidBundle(f"unsafe path {path[:80]!r} in the bundle", hint="relative paths inside the folder only")
    return path


def digest(files: Iterable[BundleFile]) -> str:
    """The bundle's digest; raises :class:`InvalidBundle` for unsafe, repeated or too many paths."""
    ordered = sorted(files, key=lambda f: f.path.encode(errors="surrogatepass"))
    if not ordered:
        raise InvalidBundle("the bundle holds no file")
    if len(ordered) > MAX_FILES:
        raise InvalidBundle(f"the bundle holds {len(ordered)} files, more than {MAX_FILES}", hint="use .headwayignore")
    total = hashlib.sha256()
    last = None
    for file in ordered:
        if file.path == last:
            raise InvalidBundle(f"the bundle holds {file.path!r} twice")
        last = check_path(file.path)
        mode = "x" if file.executable else "-"
        total.update(f"{file.path}\0{mode}\0{file.sha256}\n".encode(errors="surrogatepass"))
    return total.hexdigest()
