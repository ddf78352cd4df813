"""Real services for the benchmarks of jobs, each a process with data of its own: PostgreSQL, RabbitMQ, Redis.

Unlike in the tests, PostgreSQL flushes every commit to the disk, as it would for a user.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType

PASSWORD = "benchmark"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _newest(pattern: str) -> Path | None:
    found = sorted(Path("/").glob(pattern.lstrip("/")), reverse=True)
    return found[0] if found else None


class Service:
    """A process that can be killed, started again with its data, and started anew without them."""

    name = ""

    def __init__(self, root: Path) -> None:
        self.folder = root / self.name
        self.folder.mkdir(parents=True)
        for part in (root, *root.parents):  # who runs it must be able to get there
            if part.owner() == pwd.getpwuid(os.getuid()).pw_name and part != Path("/") and part != Path("/tmp"):
                part.chmod(part.stat().st_mode | 0o011)
        self.user: str | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Service:
        self.prepare()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def prepare(self) -> None:
        """Make its data anew."""

    def start(self) -> None:
        """Start it with the data that are there; returns when it answers."""
        raise NotImplementedError

    def kill(self) -> None:
        """SIGKILL to all its processes."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def run(self, command: list[str], answers: Callable[[], bool], env: Mapping[str, str] | None = None) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env={**os.environ, "LC_ALL": "C", **(env or {})},
                start_new_session=True,
                user=self.user,
            )
        deadline = time.monotonic() + 60
        while not answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{self.name} does not start:\n{(self.folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Postgresql(Service):
    name = "postgresql"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.port = free_port()
        self.url = f"postgresql://headway:{PASSWORD}@127.0.0.1:{self.port}/postgres"
        if os.getuid() == 0:  # it refuses to run as root
            self.user = "postgres"

    @staticmethod
    def binaries() -> Path | None:
        return _newest("/usr/lib/postgresql/*/bin")

    def prepare(self) -> None:
        binaries, secret = self.binaries(), self.folder / "password"
        if binaries is None:
            raise SystemExit("this needs PostgreSQL: apt install postgresql")
        secret.write_text(PASSWORD)
        data = self.folder / "data"
        data.mkdir()
        if self.user is not None:
            for path in (self.folder, data, secret):
                shutil.chown(path, self.user)
        command = [str(binaries / "initdb"), "-D", str(data), "-U", "headway", "-A", "scram-sha-256", "-E", "UTF8"]
        subprocess.run(
            [*command, "--no-locale", f"--pwfile={secret}"],
            check=True,
            capture_output=True,
            user=self.user,
            cwd=self.folder,
        )

    def start(self) -> None:
        binaries = self.binaries()
        settings = ("listen_addresses=127.0.0.1", "unix_socket_directories=", "max_connections=100")
        options = [part for setting in settings for part in ("-c", setting)]
        (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)
        ask = [f"{binaries}/pg_isready", "-q", "-h", "127.0.0.1", "-p", str(self.port), "-U", "headway"]
        self.run(
            [f"{binaries}/postgres", "-D", str(self.folder / "data"), "-p", str(self.port), *options],
            lambda: subprocess.run(ask, check=False).returncode == 0,
        )

    def cut_connections(self) -> None:
        """End every client's connection, as a failing network or a restart of a pooler would."""
        statement = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
        subprocess.run(
            [f"{self.binaries()}/psql", "-q", "-X", self.url, "-c", statement],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


class Redis(Service):
    name = "redis"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        if shutil.which("redis-server") is None:
            raise SystemExit("this needs Redis: apt install redis-server")
        self.run(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(self.folder)],
            lambda: _listens(self.port),
        )


class Rabbitmq(Service):
    name = "rabbitmq"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.port = free_port()
        self.url = f"amqp://headway:{PASSWORD}@127.0.0.1:{self.port}/"
        self._own = {"RABBITMQ_DIST_PORT": str(free_port()), "ERL_EPMD_PORT": str(free_port())}

    def prepare(self) -> None:
        (self.folder / "home").mkdir()
        (self.folder / "rabbitmq.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\ndefault_user = headway\ndefault_pass = {PASSWORD}\n"
            "log.console = true\nlog.console.level = warning\nlog.file = false\ndisk_free_limit.absolute = 1MB\n"
        )
        (self.folder / "enabled_plugins").write_text("[].\n")

    def start(self) -> None:
        binary = _newest("/usr/lib/rabbitmq/bin/rabbitmq-server")
        binary = binary or _newest("/usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server")
        if binary is None:
            raise SystemExit("this needs RabbitMQ: apt install rabbitmq-server")
        folder = self.folder
        self.run(
            [str(binary)],
            lambda: _listens(self.port),
            {
                "HOME": str(folder / "home"),
                "RABBITMQ_NODENAME": f"benchmark-{self.port}@localhost",
                "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq.conf"),
                "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
                "RABBITMQ_ADVANCED_CONFIG_FILE": str(folder / "none.config"),
                "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
                "RABBITMQ_MNESIA_BASE": str(folder / "data"),
                "RABBITMQ_LOG_BASE": str(folder / "logs"),
                "RABBITMQ_PID_FILE": str(folder / "pid"),
                "ERL_EPMD_ADDRESS": "127.0.0.1",
                "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none",
                **self._own,
            },
        )

    def kill(self) -> None:
        super().kill()
        # What the emulator started outlives it in groups of its own.
        mark = str(self.folder).encode()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    if mark in (entry / "environ").read_bytes() and b"RABBITMQ" in (entry / "environ").read_bytes():
                        os.kill(int(entry.name), signal.SIGKILL)
                except (OSError, ValueError):
                    continue

    def wipe(self) -> None:
        """All its queues and messages are gone, as after the loss of its disk. To be called while it is down."""
        shutil.rmtree(self.folder / "data", ignore_errors=True)
