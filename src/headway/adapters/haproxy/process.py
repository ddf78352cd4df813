"""The HAProxy process: started once, found again by who it is, watched, reloaded, ended.

HAProxy runs in master-worker mode: the master holds no traffic; it starts workers and hands the listening
sockets from one to the next. It runs in a session of its own and outlives the control plane. It is known by
its command line, which holds this home's configuration file, and by HEADWAY_HOME in its environment, never
by a pid alone; once found it is held by a pidfd, which no other process can come to stand for.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import psutil

from headway.adapters.haproxy.places import Places
from headway.adapters.haproxy.runtime_api import ask, messages_of
from headway.domain.errors import AlreadyRunning, GatewayFailed, Unsupported

log = logging.getLogger(__name__)

START_TIMEOUT_S = 20.0
ORPHANS_TIMEOUT_S = 2.0
"""Workers whose master died end by themselves within milliseconds; those that do not are killed after this."""
LOG_BYTES = 4 * 1024 * 1024


class HaproxyProcess:
    """A running master, held by its pidfd."""

    def __init__(self, pid: int) -> None:
        """Take hold of ``pid``; raises ``ProcessLookupError`` when it is gone."""
        self.pid = pid
        self._pidfd = os.pidfd_open(pid)
        self._ended = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._pidfd, self._on_end)

    def _on_end(self) -> None:
        self.release()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        self._ended.set()

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    async def wait(self) -> None:
        """Return when it has ended."""
        await self._ended.wait()

    async def wait_at_most(self, timeout_s: float) -> bool:
        """Whether it ended within ``timeout_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._ended.wait()
        return self.ended

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it still runs."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, number)

    def release(self) -> None:
        """Let go of it; it goes on."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1


def require_linux() -> None:
    """Raises :class:`Unsupported` where there is no pidfd."""
    if sys.platform != "linux" or not hasattr(os, "pidfd_open"):
        raise Unsupported(f"the local gateway needs Linux, not {sys.platform}")


async def find(places: Places) -> HaproxyProcess | None:
    """The master that runs for this home, or None. Workers without a master are ended on the way."""
    pids = await asyncio.to_thread(belonging, places)
    if not pids:
        return None
    try:
        answer = await ask(places.master_socket, "show proc")
    except GatewayFailed:
        answer = ""
    for line in answer.splitlines():
        words = line.split()
        if len(words) > 1 and words[1] == "master" and words[0].isdigit() and int(words[0]) in pids:
            with contextlib.suppress(ProcessLookupError):
                return HaproxyProcess(int(words[0]))
    await end_orphans(places)
    return None


def belonging(places: Places) -> set[int]:
    """Pids of every HAProxy process, master and workers, that was started with this home's configuration."""
    found = set()
    config, home = str(places.config), str(places.home)
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            ours = config in process.cmdline() and process.environ().get("HEADWAY_HOME") == home
            if ours and process.status() != psutil.STATUS_ZOMBIE:
                found.add(process.pid)
    return found


async def end_orphans(places: Places) -> None:
    """Wait until nothing of this home's HAProxy runs; kill what stays."""
    deadline = asyncio.get_running_loop().time() + ORPHANS_TIMEOUT_S
    while pids := await asyncio.to_thread(belonging, places):
        if asyncio.get_running_loop().time() > deadline:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        await asyncio.sleep(0.02)


def check_port(host: str, port: int) -> None:
    """Raise :class:`AlreadyRunning` when somebody listens there, ``GatewayFailed`` when nobody can."""
    where = f"{host}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise AlreadyRunning(
                f"cannot serve models on {where}: another program listens there",
                hint="stop that program, or choose another port with HEADWAY_DATA_PORT",
            ) from None
        raise GatewayFailed(f"cannot serve models on {where}: {error.strerror or error}") from None


async def spawn(binary: str, places: Places, host: str, port: int) -> HaproxyProcess:
    """Start HAProxy on the configuration in its folder; returns once it takes connections.

    Raises :class:`AlreadyRunning` when the port is taken and :class:`GatewayFailed`, with what HAProxy says,
    when it does not come up.
    """
    check_port(host, port)
    trim_log(places.log)
    with places.log.open("ab") as output, open_query_log(places) as query_log:
        logged_before = output.tell()
        try:
            child = subprocess.Popen(  # noqa: ASYNC220 - returns once the program is loaded
                [binary, "-W", "-S", f"{places.master_socket},mode,600", "-f", str(places.config)],
                cwd=places.folder,
                env=_environment(places.home),
                stdin=query_log,  # LOG_FDS of its configuration; reloads keep them
                stdout=query_log,
                stderr=output,
                start_new_session=True,
            )
        except OSError as error:
            raise GatewayFailed(f"{binary} cannot be started: {error}") from None
    # The pidfd tells of its end from here on; Popen would only warn that it leaves a child behind.
    child.returncode = 0
    process = HaproxyProcess(child.pid)
    try:
        async with asyncio.timeout(START_TIMEOUT_S):
            await _until_it_serves(process, places)
    except (TimeoutError, GatewayFailed):
        process.send(signal.SIGKILL)
        await process.wait()
        said = places.log.read_bytes()[logged_before:].decode(errors="replace")
        raise GatewayFailed(f"HAProxy did not start: {messages_of(said)}", hint=f"see {places.log}") from None
    except BaseException:
        process.send(signal.SIGKILL)
        process.release()
        raise
    return process


async def _until_it_serves(process: HaproxyProcess, places: Places) -> None:
    while True:
        if process.ended:
            raise GatewayFailed("HAProxy ended at once")
        with contextlib.suppress(GatewayFailed):
            shown = await ask(places.master_socket, "show proc")
            info = await ask(places.stats_socket, "show info")
            # An older worker may still hold a socket of that name: the pid must be one of this master's.
            worker = next((line.split()[1] for line in info.splitlines() if line.startswith("Pid:")), "")
            if worker and worker in shown.split():
                return
        await asyncio.sleep(0.01)


def _environment(home: Path) -> dict[str, str]:
    """Nothing of ours but what tells whose process it is: no token or password ends up in there."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "TZ") if name in os.environ}
    return {**kept, "HEADWAY_HOME": str(home)}


def open_query_log(places: Places) -> BinaryIO:
    """The file that HAProxy appends its lines to. Where it cannot be opened traffic goes on without them."""
    path = places.query_log
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb", 0)
        file.seek(0, os.SEEK_END)  # HAProxy clears O_APPEND when it sets O_NONBLOCK: its position is what counts
        return file
    except OSError as error:
        log.error("the gateway's refusals will be missing from the query log: %s", error)
        return open(os.devnull, "wb", 0)


def has_query_log(process: HaproxyProcess, places: Places) -> bool:
    """Whether what it was started with is the file that the query log is read from now, if it is read."""
    if not places.logs_queries:
        return True
    with contextlib.suppress(OSError):
        return os.path.samestat(os.stat(f"/proc/{process.pid}/fd/0"), places.query_log.stat())
    return False


def trim_log(path: Path) -> None:
    """Empty the log when it has grown large; HAProxy appends, so it goes on at the new end."""
    with contextlib.suppress(FileNotFoundError):
        if path.stat().st_size > LOG_BYTES:
            os.truncate(path, 0)


async def check_config(binary: str, candidate: Path, folder: Path, home: Path) -> None:
    """``haproxy -c``: raises :class:`GatewayFailed` with its reasons when it would not start with ``candidate``."""
    checking = await asyncio.create_subprocess_exec(
        binary,
        *("-c", "-f", str(candidate)),
        cwd=folder,
        env=_environment(home),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    output, _ = await checking.communicate()
    if checking.returncode != 0:
        raise GatewayFailed(f"HAProxy refused the configuration: {messages_of(output.decode(errors='replace'))}")
