"""A forked process gets a name of its own: in its environment, and in what ``/proc`` shows of it.

A runtime finds the processes of a replica by the environment that they were started with (``/proc/PID/environ``,
proc(5)). A forked process shows its parent's, unless the block itself is written to: that is what happens here. The
value that is there must be as long as the new one, hence the padding of :mod:`headway.server.template_wire`.
"""

from __future__ import annotations

import os
from typing import Final

VARIABLE: Final = "HEADWAY_REPLICA"


class MarkFault(Exception):
    """The environment block cannot be written to."""


def check() -> None:
    """Raises :class:`MarkFault` where :func:`rename` would."""
    _write(None)


def rename(name: str) -> None:
    """From here on this process, and what it starts, is of the replica ``name``. Raises :class:`MarkFault`."""
    _write(name)
    os.environ[VARIABLE] = name


def _write(name: str | None) -> None:
    try:
        with open("/proc/self/stat", "rb") as file:
            raw = file.read()
        # The program's name, in parentheses, may hold spaces: fields count from the last one; env_start is the 50th.
        fields = raw[raw.rindex(b")") + 2 :].split()
        start, end = int(fields[47]), int(fields[48])
        memory = os.open("/proc/self/mem", os.O_RDWR | os.O_CLOEXEC)
        try:
            block = os.pread(memory, end - start, start)
            prefix = f"{VARIABLE}=".encode()
            at = 0 if block.startswith(prefix) else block.find(b"\0" + prefix) + 1
            if at == 0 and not block.startswith(prefix):
                raise MarkFault(f"{VARIABLE} is not in the environment that this process was started with")
            at += len(prefix)
            room = block.find(b"\0", at) - at
            value = block[at : at + room] if name is None else os.fsencode(name).ljust(room, b"\0")
            if room < 0 or len(value) > room:
                raise MarkFault(f"there is no room for {VARIABLE}={name}")
            os.pwrite(memory, value, start + at)
        finally:
            os.close(memory)
    except (OSError, ValueError, IndexError) as error:
        raise MarkFault(f"the environment in /proc cannot be written: {error}") from error
