"""The template: a process that has loaded a model, serves nothing, and is forked for each new replica.

A fork takes milliseconds and shares the memory of what was loaded, page by page, until somebody writes to it. The
process stays without threads; it waits for a runtime's requests (:mod:`headway.server.template_wire`) on the Unix
socket that its config names. A model that cannot be forked (:mod:`headway.server.fork_safety`) is not loaded in vain:
this process then becomes the first replica that is asked for.

The end of a forked replica is its own: it outlives the template, and its exit status is kept for the runtime to ask.
While no runtime is connected nobody will ask, and statuses are thrown away. After SIGTERM the template waits for its
replicas before it ends, because exit handlers that ``load`` registered may clear away what they use.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Final

import msgspec

from headway.server import template_mark
from headway.server.config import ServerConfig, read_config
from headway.server.failures import log_traceback
from headway.server.fork_safety import connections, has_children, obstacle
from headway.server.listener import loop_factory
from headway.server.listening import open_socket, remove_socket, socket_inode
from headway.server.log_file import open_log
from headway.server.model import LoadedModel
from headway.server.startup import freeze, guard, load
from headway.server.template_child import Birth, be_replica
from headway.server.template_wire import (
    Ended,
    Fork,
    Forked,
    Hello,
    Listening,
    NotForked,
    Notice,
    Reap,
    Request,
    encode,
)

log = logging.getLogger("headway.server")

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
SEND_WITHIN_S: Final = 2.0
"""For a runtime to take a notice; one that does not is gone."""
MOST_ENDED: Final = 256
"""Exit statuses that are kept."""
_decode = msgspec.json.Decoder(Request).decode


def boot_template(config_file: Path) -> int:
    """Load the model that ``config_file`` names and be its template; the exit code, as of a replica's start."""
    try:
        config = read_config(config_file)
    except (OSError, msgspec.MsgspecError) as error:
        sys.stderr.write(f"headway.server: {config_file}: {error}\n")
        return 2
    log_file = open_log(config)
    if log_file is not None:
        log_file.start()
    stages = ["serve"]

    def run() -> int:
        control = open_socket(config.listen)
        try:
            template_mark.check()
        except template_mark.MarkFault as fault:  # found out before anything is loaded in vain
            return Template(config, None, control, 0.0, str(fault)).run()
        before = connections()
        started = perf_counter()
        model = load(config, stages)
        load_s = perf_counter() - started
        stages.append("serve")
        if log_file is not None:
            log_file.stop()  # from here on no thread may be alive here
        model.rest()
        loop_factory()  # what every replica imports is imported once
        freeze(model)
        found = _obstacle(before)
        if found is not None:
            log.warning("replicas cannot be forked from this process: %s", found)
        return Template(config, model, control, load_s, found).run()

    return guard(config, stages, run)


def _obstacle(known: set[int]) -> str | None:
    if has_children():
        return "loading started processes, which replicas cannot share"
    return obstacle(known)


@dataclass(slots=True)
class _Child:
    pid: int
    report: int
    """Reading end of the pipe on which it says how far it is; -1 when that is closed."""


class Template:
    """Waits and forks. :meth:`run` returns in the template alone; children end in :func:`be_replica`."""

    def __init__(
        self, config: ServerConfig, model: LoadedModel | None, control: socket.socket, load_s: float, found: str | None
    ) -> None:
        self._config = config
        self._model = model
        self._control = control
        self._hello = Hello(load_s=load_s, obstacle=found)
        self._peer: socket.socket | None = None
        self._unread = b""
        self._children: dict[int, _Child] = {}
        self._ended: dict[int, Ended] = {}
        """Reaped, and not yet asked about."""
        self._stopping = False
        self._result: int | None = None
        """How this process ended as a replica."""
        self._wakeup = -1
        self._written = -1

    def run(self) -> int:
        """Until SIGTERM or SIGINT, and then until the last child has ended: 0. As a replica: its exit code."""
        self._wakeup, self._written = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        for number in SIGNALS:
            signal.signal(number, _noted)
        signal.set_wakeup_fd(self._written, warn_on_full_buffer=False)
        inode = socket_inode(self._config.listen)
        if self._model is not None:
            log.info("loaded; replicas start from here")
        while not (self._stopping and not self._children):
            self._turn()
            if self._result is not None:
                return self._result
        remove_socket(self._config.listen, inode)
        return 0

    def _turn(self) -> None:
        poll = select.poll()
        poll.register(self._wakeup, select.POLLIN)
        if not self._stopping:
            poll.register(self._control, select.POLLIN)
        if self._peer is not None:
            poll.register(self._peer, select.POLLIN)
        starting = {child.report: child for child in self._children.values() if child.report >= 0}
        for fd in starting:
            poll.register(fd, select.POLLIN)
        ready = {fd for fd, _ in poll.poll()}
        if self._wakeup in ready:
            self._take_signals()
        for fd in ready & starting.keys():
            self._progress(starting[fd])
        if self._peer is not None and self._peer.fileno() in ready:
            self._read()
            if self._result is not None:
                return
        if self._control.fileno() in ready and not self._stopping:
            self._accept()
        if self._peer is None:
            self._reap_all()
            self._ended.clear()

    # -- the runtime ---------------------------------------------------------------------------------

    def _accept(self) -> None:
        try:
            peer, _ = self._control.accept()
        except OSError:
            return
        self._hang_up()
        peer.settimeout(SEND_WITHIN_S)
        self._peer, self._unread = peer, b""
        self._tell(self._hello)

    def _hang_up(self) -> None:
        if self._peer is not None:
            self._peer.close()
            self._peer = None

    def _tell(self, notice: Notice) -> None:
        if self._peer is not None:
            try:
                self._peer.sendall(encode(notice))
            except OSError:
                self._hang_up()

    def _read(self) -> None:
        peer = self._peer
        assert peer is not None
        try:
            data = peer.recv(1 << 16)
        except OSError:
            data = b""
        if not data:
            self._hang_up()
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            if self._peer is not peer or self._result is not None:
                return
            try:
                request = _decode(line)
            except msgspec.MsgspecError as error:
                log.error("a request that is none (%s)", error)
                self._hang_up()
                return
            if isinstance(request, Reap):
                self._tell(self._status_of(request.pid))
            elif not self._gone(peer):
                self._fork(request)

    def _gone(self, peer: socket.socket) -> bool:
        """Whether who asked is there no more: nobody would look after the replica."""
        poll = select.poll()
        poll.register(peer, select.POLLRDHUP)
        return bool(poll.poll(0))

    # -- children ------------------------------------------------------------------------------------

    def _fork(self, request: Fork) -> None:
        serial = request.serial
        if self._stopping:
            self._tell(NotForked(serial=serial, message="the template is being stopped"))
            return
        if self._model is None:
            self._tell(NotForked(serial=serial, message=str(self._hello.obstacle)))
            return
        same = self._hello.obstacle is not None
        reading, writing = os.pipe2(os.O_CLOEXEC)
        birth = Birth(Path(request.config), self._model, self._config, self._hello.load_s, os.getpid(), writing, same)
        if same:
            self._become(birth, serial, reading)
            return
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        # Blocked until the child has taken the handlers away: they are its template's.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            os.close(reading)
            os.close(writing)
            self._tell(NotForked(serial=serial, message=f"the template cannot be forked: {error}"))
            return
        if pid == 0:
            code = 70
            try:
                self._forget(reading)
                code = be_replica(birth)
            except BaseException as error:
                log_traceback(error, "a forked process could not become a replica")
            finally:
                os._exit(code)  # not up through the template's frames, nor through its exit handlers
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(writing)
        self._children[pid] = _Child(pid, reading)
        if os.read(reading, 1):  # a few hundred microseconds: it has a session and a name of its own
            self._tell(Forked(serial=serial, pid=pid, same=False))
        else:
            self._tell(NotForked(serial=serial, message="the new process ended at once"))

    def _become(self, birth: Birth, serial: int, reading: int) -> None:
        """Be the replica, in this process."""
        self._tell(Forked(serial=serial, pid=os.getpid(), same=True))
        Path(self._config.listen.removeprefix("unix:")).unlink(missing_ok=True)
        self._forget(reading)
        self._result = be_replica(birth)

    def _forget(self, reading: int) -> None:
        """Close what is the template's alone."""
        signal.set_wakeup_fd(-1)
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        self._hang_up()
        self._control.close()
        for fd in (self._wakeup, self._written, reading, *(c.report for c in self._children.values())):
            if fd >= 0:
                os.close(fd)

    def _progress(self, child: _Child) -> None:
        listens = bool(os.read(child.report, 1))
        os.close(child.report)
        child.report = -1
        if listens:
            self._tell(Listening(pid=child.pid))

    # -- ends ----------------------------------------------------------------------------------------

    def _take_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            numbers = set(os.read(self._wakeup, 4096))
            if numbers & {signal.SIGTERM, signal.SIGINT}:
                self._stopping = True
        if self._stopping:
            self._reap_all()

    def _status_of(self, pid: int) -> Ended:
        """Of a child that has ended: reaped now, so until now its number was nobody else's."""
        self._reap(pid)
        return self._ended.pop(pid, Ended(pid=pid, code=None, signal=None))

    def _reap_all(self) -> None:
        for pid in list(self._children):
            self._reap(pid)

    def _reap(self, pid: int) -> None:
        if pid not in self._children:
            return
        try:
            found, status = os.waitpid(pid, os.WNOHANG)
        except ChildProcessError:
            found, status = pid, 0
        if not found:
            return
        child = self._children.pop(pid)
        if child.report >= 0:
            os.close(child.report)
        code = os.waitstatus_to_exitcode(status)
        self._ended[pid] = Ended(pid=pid, code=code if code >= 0 else None, signal=-code if code < 0 else None)
        while len(self._ended) > MOST_ENDED:
            self._ended.pop(next(iter(self._ended)))


def _noted(number: int, frame: object) -> None:
    """It is in the wakeup descriptor."""
