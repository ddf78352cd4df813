"""The listening socket: where it is bound, and its file, which comes and goes without a gap."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from pathlib import Path

from headway.domain.errors import InvalidSpec

BACKLOG = 4096


def open_socket(listen: str) -> socket.socket:
    """A bound, listening socket for ``unix:/path`` or ``tcp:host:port``.

    A socket file left behind by an earlier process is replaced; any other file at the path is not.
    """
    scheme, _, address = listen.partition(":")
    if scheme == "unix" and address:
        return _open_unix(address)
    host, _, port = address.rpartition(":")
    if scheme != "tcp" or not host or not port.isdigit() or int(port) > 65535:
        raise InvalidSpec(f"listen address {listen!r}", hint="unix:/path or tcp:host:port")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, int(port)), family=family, backlog=BACKLOG)


def _open_unix(path: str) -> socket.socket:
    """Bound under another name and moved into place: at no moment is there no socket at ``path``."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EADDRINUSE, f"a file that is no socket is in the way ({path})")
    fresh = f"{path}.n"
    Path(fresh).unlink(missing_ok=True)
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o177)
        try:
            opened.bind(fresh)
        finally:
            os.umask(before)
        opened.listen(BACKLOG)
        os.replace(fresh, path)
    except OSError as error:
        opened.close()
        raise OSError(error.errno, f"{error.strerror} ({path})") from None
    return opened


def bound_address(opened: socket.socket, listen: str) -> str:
    """``listen`` with the port that was chosen."""
    if opened.family == socket.AF_UNIX:
        return listen
    host, port = opened.getsockname()[:2]
    return f"tcp:[{host}]:{port}" if opened.family == socket.AF_INET6 else f"tcp:{host}:{port}"


def socket_inode(address: str) -> tuple[int, int] | None:
    """Which file the socket at ``address`` is; None for TCP, and when there is none."""
    if not address.startswith("unix:"):
        return None
    try:
        found = os.stat(address.removeprefix("unix:"))
    except OSError:
        return None
    return found.st_dev, found.st_ino


def remove_socket(address: str, inode: tuple[int, int] | None) -> None:
    """Remove the socket file, unless it is that of a successor that took over the path."""
    if inode is not None and socket_inode(address) == inode:
        Path(address.removeprefix("unix:")).unlink(missing_ok=True)
