"""Running uv: one child, no input, bounded output, killed with everything it started when cancelled."""

from __future__ import annotations

import asyncio
import os
import signal
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from headway.adapters.local.requirements import redacted

_MAX_STDOUT = 16 * 1024 * 1024
_MAX_STDERR = 64 * 1024
_CHUNK = 64 * 1024
_MAX_LINE = 500

# What would point uv at another interpreter than the one we name, and what the model's dependencies
# have no business to know. Everything else is the user's own configuration and stays.
_DROPPED: Final = frozenset(
    {
        "VIRTUAL_ENV",
        "CONDA_PREFIX",
        "PYTHONHOME",
        "PYTHONPATH",
        "UV_PYTHON",
        "UV_SYSTEM_PYTHON",
        "UV_TARGET",
        "UV_PREFIX",
        "FORCE_COLOR",
        "CLICOLOR_FORCE",
        "HEADWAY_TOKEN",
    }
)
_ADDED: Final = {
    "NO_COLOR": "1",
    "UV_NO_PROGRESS": "1",
    "UV_PYTHON_DOWNLOADS": "never",
    "COLUMNS": "10000",  # uv would wrap its sentences, in the middle of what is read from them
}


class UvFailed(Exception):
    """uv ended with an error; ``output`` is the end of what it said, without credentials."""

    def __init__(self, output: str) -> None:
        super().__init__(output)
        self.output = output


async def run_uv(
    uv: str, arguments: Sequence[str], *, cwd: Path, on_line: Callable[[str], None], keep_open: int | None = None
) -> str:
    """Run uv to its end; what it printed to stdout. ``on_line`` gets each line of stderr, redacted.

    ``keep_open`` is a descriptor that the child holds as well. Raises :class:`UvFailed`.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _DROPPED} | _ADDED
    process = await asyncio.create_subprocess_exec(
        uv,
        *arguments,
        cwd=cwd,
        env=environment,
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
        start_new_session=True,  # its group holds the build tools that it starts
        pass_fds=() if keep_open is None else (keep_open,),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        out, err, code = await asyncio.gather(
            _collect(process.stdout), _follow(process.stderr, on_line), process.wait()
        )
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if code != 0:
        raise UvFailed(err or f"error: uv ended with exit code {code}")
    return out


async def _collect(stream: asyncio.StreamReader) -> str:
    data = bytearray()
    while chunk := await stream.read(_CHUNK):
        data += chunk
        if len(data) > _MAX_STDOUT:
            raise UvFailed(f"error: uv printed more than {_MAX_STDOUT} bytes")
    return data.decode(errors="replace")


async def _follow(stream: asyncio.StreamReader, on_line: Callable[[str], None]) -> str:
    """The last part of it all; each line is passed on when it is there."""
    kept, pending = "", ""
    while chunk := await stream.read(_CHUNK):
        *lines, pending = (pending + chunk.decode(errors="replace")).split("\n")
        for line in lines:
            clean = redacted(line.rstrip())
            kept = (kept + clean + "\n")[-_MAX_STDERR:]
            if clean.strip():
                on_line(clean.strip()[:_MAX_LINE])
        pending = pending[-_CHUNK:]
    return kept + redacted(pending)
