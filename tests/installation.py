"""A whole Headway in a scratch folder, driven by the real command line, as a user would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from tests.leaks import LeakCheck, describe, environment, make_scratch, processes_of, remove_scratch
from tests.waiting import wait_until

HEADWAY = Path(sys.executable).with_name("headway")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of the command line gave."""

    args: tuple[str, ...]
    code: int
    stdout: str
    stderr: str

    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.stdout)

    @property
    def text(self) -> str:
        """Both streams, for failure messages and for looking up words."""
        return f"{self.stdout}{self.stderr}"

    def __str__(self) -> str:
        return f"headway {' '.join(self.args)} -> exit {self.code}\n{self.stdout}\n{self.stderr}"


class Installation:
    """One home, two ports. ``scratch`` marks every process that belongs to it."""

    def __init__(self, scratch: Path, free_port: Callable[[], int], **settings: str) -> None:
        self.scratch = scratch
        self.home = scratch / "home"
        self.data_port, self.control_port = free_port(), free_port()
        self.data_url = f"http://127.0.0.1:{self.data_port}"
        self.control_url = f"http://127.0.0.1:{self.control_port}"
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("HEADWAY_")}
        if haproxy := os.environ.get("HEADWAY_HAPROXY"):
            inherited["HEADWAY_HAPROXY"] = haproxy
        self.env: dict[str, str] = {
            **inherited,
            **environment(scratch),
            "HEADWAY_DATA_PORT": str(self.data_port),
            "HEADWAY_CONTROL_PORT": str(self.control_port),
            "HEADWAY_JOBS": "false",  # a second process per home, for those who need it
            "NO_COLOR": "1",
            "COLUMNS": "200",
            **settings,
        }

    def run(
        self,
        *args: str,
        stdin: str | None = None,
        timeout_s: float = 120.0,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Outcome:
        """Run ``headway ARGS`` to its end; any exit code is an answer, taking longer than ``timeout_s`` is not."""
        done = subprocess.run(
            [str(HEADWAY), *args],
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout_s,
            cwd=cwd or self.scratch,
            env={**self.env, **(env or {})},
            check=False,
        )
        return Outcome(args, done.returncode, done.stdout, done.stderr)

    def ok(self, *args: str, stdin: str | None = None, timeout_s: float = 120.0, cwd: Path | None = None) -> Outcome:
        """As :meth:`run`, failing the test unless the exit code is 0."""
        outcome = self.run(*args, stdin=stdin, timeout_s=timeout_s, cwd=cwd)
        assert outcome.code == 0, str(outcome)
        return outcome

    def up(self, *args: str, timeout_s: float = 120.0) -> Outcome:
        """``headway up --detach``."""
        return self.ok("up", "--detach", *args, timeout_s=timeout_s)

    def down(self, timeout_s: float = 120.0) -> Outcome:
        """``headway down``."""
        return self.ok("down", timeout_s=timeout_s)

    def admin_token(self) -> str:
        """The secret of this home's own admin token."""
        return (self.home / "admin.token").read_text().strip()

    def processes(self, containing: str = "") -> list[psutil.Process]:
        """Its live processes; only those with ``containing`` in their command line."""
        return [p for p in processes_of(self.scratch) if containing in describe(p)]

    def kill(self, process: psutil.Process) -> None:
        """SIGKILL, and wait until it is gone (a zombie that nobody has read yet counts as gone)."""
        process.send_signal(signal.SIGKILL)

        def gone() -> bool:
            try:
                return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
            except psutil.NoSuchProcess:
                return True

        wait_until(gone, what=f"end of {process.pid}")


@contextmanager
def module_installation(free_port: Callable[[], int], **settings: str) -> Iterator[Installation]:
    """A started Headway for the fixture of a module. Stopped at the end; what survives that is a leak."""
    scratch = make_scratch()
    check = LeakCheck(scratch)
    headway = Installation(scratch, free_port, **settings)
    try:
        headway.up()
        yield headway
    finally:
        stopped = headway.run("down")
        left = check.left()
        remove_scratch(scratch)
    assert stopped.code == 0, str(stopped)
    assert not left, "the module left behind:\n  " + "\n  ".join(left)
