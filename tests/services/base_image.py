"""A base for images, made of this machine: the interpreter that runs the tests, its standard library, what it links to.

A file system in a tar archive, as ``headway build --base ./root.tar`` takes it. Enough to run a model server in.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_LEFT_OUT = {
    "test",
    "tests",
    "__pycache__",
    "site-packages",
    "idlelib",
    "tkinter",
    "turtledemo",
    "lib2to3",
    "ensurepip",
}
_LEFT_OUT_TOO = re.compile(r"config-3\.|_tkinter|_test")
_WHEELS_NEED = ("libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1", "libgcc_s.so.1", "libstdc++.so.6")
"""Of what PEP 600 says that every glibc system has."""
_LINKED = re.compile(r"(/\S+\.so\S*) \(0x")


def make_base(path: Path) -> Path:
    """Write it to ``path``."""
    prefix = Path(sys.base_prefix)
    modules = prefix / "lib" / f"python{VERSION}"
    interpreter = Path(sys.base_prefix, "bin", f"python{VERSION}").resolve()
    files = {f"usr/local/bin/python{VERSION}": interpreter}
    for found in sorted(modules.rglob("*")):
        inner = found.relative_to(modules)
        if found.is_file() and not _LEFT_OUT & set(inner.parts) and not _LEFT_OUT_TOO.search(inner.as_posix()):
            files[f"usr/local/lib/python{VERSION}/{inner.as_posix()}"] = found
    linked = {interpreter, *(file for name, file in files.items() if ".so" in name)}
    said = subprocess.run(["ldd", *map(str, linked)], capture_output=True, text=True, check=False).stdout
    found_libraries = sorted({Path(name) for name in _LINKED.findall(said)})
    beside = {library.parent for library in found_libraries if library.name == "libc.so.6"}
    for library in [*found_libraries, *(folder / name for folder in beside for name in _WHEELS_NEED)]:
        if library.exists():
            files[str(library).lstrip("/")] = library.resolve()
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("tmp", "dev", "proc", "etc"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(folder)
        link = tarfile.TarInfo("usr/local/bin/python3")
        link.type, link.linkname = tarfile.SYMTYPE, f"python{VERSION}"
        tar.addfile(link)
        for name, source in sorted(files.items()):
            tar.add(source, name, recursive=False, filter=_plain)
    return path


def _plain(header: tarfile.TarInfo) -> tarfile.TarInfo:
    header.uid = header.gid = 0
    header.uname = header.gname = ""
    header.mode |= 0o555 if header.mode & 0o100 else 0o444
    return header
