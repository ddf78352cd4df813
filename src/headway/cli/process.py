"""The control plane as a process of this machine: whether it runs, starting it in the background, awaiting its end."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from headway.domain.errors import ControlUnreachable, HeadwayError, tree

START_S = 60.0
STOP_S = 180.0
LOOK_S = 0.05
HEALTH_S = 2.0
GIVE_UP_S = 10.0
MAX_LOG_BYTES = 10 * 1024 * 1024
"""A control log above it is put aside, as ``control.log.1``, when the next control plane starts."""
_SHOWN_LINES = 15


def announced(home: Path) -> dict[str, Any] | None:
    """What the control plane of ``home`` says of itself; None while no such process lives."""
    try:
        found = json.loads((home / "control.json").read_text(encoding="utf-8"))
        os.kill(int(found["pid"]), 0)
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return dict(found)


def answers(found: Mapping[str, Any]) -> bool:
    """Whether it answers, too: a pid can be somebody else's by now. Asked without any proxy in between."""
    import http.client

    place = urlsplit(str(found.get("control_url", "")))
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=HEALTH_S)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def start(home: Path, chosen: Mapping[str, object]) -> dict[str, Any]:
    """Start a control plane that outlives this process; what it announces once it answers.

    ``chosen``: options of ``headway up`` by name. Raises the error that it ended with, ``ControlUnreachable`` when it
    is not up after a minute; then, and when interrupted, it is told to end.
    """
    log = home / "control.log"
    with suppress(FileNotFoundError):
        if log.stat().st_size > MAX_LOG_BYTES:
            log.replace(home / "control.log.1")
    options = [part for key, value in chosen.items() for part in (f"--{key.replace('_', '-')}", str(value))]
    command = [sys.executable, "-m", "headway.cli.main", "up", "-o", "json", *options]
    with log.open("ab") as stream:
        written = stream.tell()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, start_new_session=True
        )
    try:
        found = _await_start(process, home, log, written)
    except BaseException:
        if process.poll() is None:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(GIVE_UP_S)
        raise
    process.returncode = 0  # not ours to wait for any more: without it Popen would complain that it still runs
    return found


def _await_start(process: subprocess.Popen[bytes], home: Path, log: Path, written: int) -> dict[str, Any]:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        found = announced(home)
        if found is not None and found["pid"] == process.pid and answers(found):
            return found
        if process.poll() is not None:
            raise _start_error(log, written, process.returncode)
        time.sleep(LOOK_S)
    raise ControlUnreachable(f"the control plane did not come up within {START_S:.0f} s", hint=f"see {log}")


def _start_error(log: Path, written: int, code: int) -> HeadwayError:
    """What the process said last, as the error it was."""
    with log.open("rb") as stream:
        stream.seek(written)
        lines = stream.read().decode("utf-8", "replace").splitlines()
    for line in reversed(lines):
        try:
            told = json.loads(line)["error"]
            kind = next(k for k in tree() if k.code == told["code"])
        except (ValueError, KeyError, TypeError, StopIteration):
            continue
        return kind(told["message"], where=told.get("where"), hint=told.get("hint"))
    tail = "\n".join(lines[-_SHOWN_LINES:])
    return HeadwayError(f"the control plane ended with exit code {code}", hint=f"see {log}", details={"log_tail": tail})


class Watched:
    """A process whose end is awaited, whoever its parent is. Open it before the end is asked for; ``close`` it."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        try:
            self._fd: int | None = os.pidfd_open(pid)
        except ProcessLookupError:
            self._fd = None

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *_: object) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def await_end(self, timeout_s: float = STOP_S) -> None:
        """Wait until it has ended; ``ControlUnreachable`` when it has not after ``timeout_s``."""
        # A pidfd becomes readable when its process ends (pidfd_open(2)), also before its parent has asked for it.
        if self._fd is not None and not select.select([self._fd], [], [], timeout_s)[0]:
            raise ControlUnreachable(
                f"the control plane (pid {self._pid}) has not ended after {timeout_s:.0f} s",
                hint="requests in flight may still be running; headway down again waits on",
            )
