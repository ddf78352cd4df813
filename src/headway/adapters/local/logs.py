"""Reading what replicas print: ``log`` and its rotated predecessors ``log.1`` (newest) to ``log.9``.

The model server rotates by renaming, so a reader that holds a file open still reads to its end, then looks for the
file that follows (by inode) and goes on there. Polling is enough: five stat calls a
second for somebody who looks at a screen.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

from headway.adapters.local.records import ReplicaFolder
from headway.ports.clock import Clock

FOLLOW_POLL_S = 0.2
MAX_ROTATED = 9
CHUNK = 1 << 16
TAIL_BYTES = 4096


def chain(folder: ReplicaFolder) -> list[Path]:
    """The log files there are, oldest first."""
    rotated = [folder.path / f"log.{n}" for n in range(MAX_ROTATED, 0, -1)]
    return [path for path in (*rotated, folder.log) if path.exists()]


def mark(folder: ReplicaFolder) -> tuple[int, int]:
    """``(inode, size)`` of the present log: what follows belongs to the process about to start."""
    try:
        found = folder.log.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_ino, found.st_size


def tail_text(folder: ReplicaFolder, inode: int = 0, offset: int = 0, limit: int = TAIL_BYTES) -> str:
    """The last lines printed since the mark ``(inode, offset)``, at most ``limit`` bytes, whole lines."""
    parts: list[bytes] = []
    left = limit + 1  # one more tells whether a line was cut
    for path in reversed(chain(folder)):
        try:
            with path.open("rb") as file:
                found = os.fstat(file.fileno())
                marked = found.st_ino == inode
                begin = max(offset if marked else 0, found.st_size - left)
                file.seek(begin)
                part = file.read(left)
        except OSError:
            break
        parts.insert(0, part)
        left -= len(part)
        if marked or left <= 0:
            break
    raw = b"".join(parts)
    if len(raw) > limit:
        cut = raw.find(b"\n", len(raw) - limit - 1)
        raw = raw[cut + 1 :] if 0 <= cut < len(raw) - 1 else raw[-limit:]
    return raw.decode(errors="replace")[-limit:]


def last_line(text: str) -> str:
    """The last line with something on it; empty when there is none."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


async def read(
    folder: ReplicaFolder, *, tail_lines: int | None, follow: Callable[[], bool], clock: Clock
) -> AsyncIterator[bytes]:
    """The log in chunks from ``tail_lines`` before its end (None: from its beginning); goes on while ``follow()``."""
    files = chain(folder)
    index, offset = _tail_start(files, tail_lines)
    current = _open_first(files[index:])
    if current is not None:
        current.seek(offset)
    try:
        while True:
            # Asked before reading: what was printed before a "no" is read all the same.
            going_on = follow()
            if current is None:
                current = _open_first(chain(folder))
            if current is not None:
                replaced = _replaced(folder, current)  # likewise: a renamed file gets no more lines
                while chunk := current.read(CHUNK):
                    yield chunk
                if replaced:
                    following = _open_first(_after(folder, current))
                    if following is not None:
                        # Held open until here: its inode number could not have been given to another file.
                        current.close()
                        current = following
                        continue
                elif os.fstat(current.fileno()).st_size < current.tell():
                    current.seek(0)  # cut short by somebody
            if not going_on:
                return
            await clock.sleep(FOLLOW_POLL_S)
    finally:
        if current is not None:
            current.close()


def _open_first(paths: list[Path]) -> BinaryIO | None:
    for path in paths:
        try:
            return path.open("rb")
        except OSError:
            continue  # rotated away between looking and opening
    return None


def _replaced(folder: ReplicaFolder, current: BinaryIO) -> bool:
    try:
        return folder.log.stat().st_ino != os.fstat(current.fileno()).st_ino
    except FileNotFoundError:
        return False  # between the rename and the new file, or all gone: the open file is still all there is


def _after(folder: ReplicaFolder, current: BinaryIO) -> list[Path]:
    """The files newer than ``current``; all of them when it was rotated out of existence."""
    files = chain(folder)
    inode = os.fstat(current.fileno()).st_ino
    for index, path in enumerate(files):
        try:
            if path.stat().st_ino == inode:
                return files[index + 1 :]
        except FileNotFoundError:
            continue
    return files


def _tail_start(files: list[Path], tail_lines: int | None) -> tuple[int, int]:
    """``(index of the file, offset in it)`` where the last ``tail_lines`` lines begin.

    That is right after the N-th newline from the end, the newline that ends the last line not counted.
    """
    if tail_lines is None or not files:
        return 0, 0
    wanted = max(0, tail_lines)
    first_look = True
    for index in range(len(files) - 1, -1, -1):
        try:
            with files[index].open("rb") as file:
                position = file.seek(0, os.SEEK_END)
                if position == 0:
                    continue
                if first_look:
                    first_look = False
                    file.seek(-1, os.SEEK_END)
                    wanted += file.read(1) == b"\n"
                    if wanted == 0:
                        return index, position
                while position > 0:
                    begin = max(0, position - CHUNK)
                    file.seek(begin)
                    block = file.read(position - begin)
                    newline = len(block)
                    while (newline := block.rfind(b"\n", 0, newline)) >= 0:
                        wanted -= 1
                        if wanted == 0:
                            return index, begin + newline + 1
                    position = begin
        except OSError:
            continue
    return 0, 0
