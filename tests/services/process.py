"""A real service as a process of the test session: its own ports, its data in a scratch folder, nothing left of it."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import socket
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.leaks import environment, make_scratch, processes_of, remove_scratch
from tests.waiting import wait_until


def ordinary_user() -> str | None:
    """Whom to run as what refuses to run as root; None for who is not root."""
    if os.getuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class ServiceProcess:
    """Started by whoever asks first, and again after a kill; all that it spawned ends with it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.folder = make_scratch()
        self.user = None
        self._process: subprocess.Popen[bytes] | None = None
        self._restart: Callable[[], None] = lambda: None

    def own(self, user: str | None, *paths: Path) -> None:
        """Let ``user`` in: the folder is passable, and ``paths`` are made and belong to it."""
        self.folder.chmod(0o711)
        for path in paths:
            path.mkdir(exist_ok=True)
            if user is not None:
                os.chown(path, pwd.getpwnam(user).pw_uid, pwd.getpwnam(user).pw_gid)

    def run(
        self,
        command: Sequence[str | Path],
        ready: Callable[[], bool],
        *,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
        timeout_s: float = 180.0,
    ) -> None:
        """Start it and wait until it answers; :meth:`restart` does the same again."""
        self._restart = lambda: self.run(command, ready, env=env, user=user, timeout_s=timeout_s)
        path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
        with (self.folder / "log").open("ab") as log:
            self._process = process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={"PATH": path, "LC_ALL": "C", **environment(self.folder), **(env or {})},
                start_new_session=True,
                user=user,
                group=pwd.getpwnam(user).pw_gid if user else None,
                extra_groups=[] if user else None,
            )

        def up() -> bool:
            assert process.poll() is None, f"{self.name} ended with {process.returncode}:\n{self.log()[-3000:]}"
            return ready()

        wait_until(up, timeout_s, what=f"{self.name} answers; it said\n{self.log()[-2000:]}")

    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, number)

    def pause(self) -> None:
        """It hangs: connections are accepted by the kernel, and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Crash it. Its data stays."""
        self._signal(signal.SIGKILL)
        for process in processes_of(self.folder):
            with contextlib.suppress(Exception):
                process.kill()
        if self._process is not None:
            self._process.wait()
        wait_until(lambda: not processes_of(self.folder), what=f"all of {self.name} is gone")

    def restart(self) -> None:
        """After :meth:`kill`: with the same ports and data."""
        self._restart()

    def remove(self) -> None:
        self.resume()
        self.kill()
        remove_scratch(self.folder)
