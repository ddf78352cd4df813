"""LocustGenerator: users of a closed loop that are Locust's, in processes of its own.

Locust patches the standard library for gevent, so it never lives in a process of ours. Its own command line runs, with
our plugin as the first locustfile and the user's as the second, so that whatever such a file may do it does here, too.
Several workers: a master and that many worker processes, on this machine or, through a door, on others.
"""

from __future__ import annotations

import asyncio
import importlib.util
import re
import socket
import sys
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec

from headway.adapters.loadgen.children import Children, first_of
from headway.adapters.loadgen.hub import Door, Hub
from headway.adapters.loadgen.locust_worker import PART, options, to_master
from headway.adapters.loadgen.sharded import all_here, raise_lost
from headway.adapters.loadgen.wire import PLACE, LocustPart
from headway.domain.errors import GatewayFailed, HeadwayError, InvalidInput, MissingExtra
from headway.ports.load_generator import GeneratorState, Load

DRAIN_S: Final = 10.0
LOG_LINES: Final = 200
_RAISED: Final = re.compile(r"^(?:\w+\.)*(?P<what>\w+(?:: .*)?)$")


def check_installed() -> None:
    """Raises ``MissingExtra`` without Locust."""
    if importlib.util.find_spec("locust") is None:
        raise MissingExtra("users are Locust's, which is not installed", hint="pip install 'headway[loadtest]'")


class LocustGenerator:
    """The ``LoadGenerator`` port for closed loops.

    ``locustfile``: the user's own, else users send the load's requests. ``workers``: 0 for one process. ``web_port``:
    where Locust's own page is to be seen while it runs. With a ``door`` the workers come from other machines.
    """

    def __init__(
        self,
        *,
        locustfile: Path | None = None,
        workers: int = 0,
        web_port: int | None = None,
        timeout_s: float = 30.0,
        door: Door | None = None,
    ) -> None:
        self._locustfile = locustfile
        self._workers = workers
        self._web_port = web_port
        self._timeout_s = timeout_s
        self._door = door
        self._state = GeneratorState(in_flight=None)
        self._hub: Hub | None = None
        self._stopped = asyncio.Event()

    @property
    def name(self) -> str:
        return "locust"

    async def run(self, load: Load) -> None:
        """See the port. Raises ``MissingExtra`` without Locust, ``InvalidInput`` for a locustfile that it refuses."""
        check_installed()
        self._stopped = asyncio.Event()
        await _reach(load.target.url)
        async with Hub(load, self._door) as hub, Children(hub.folder / "log") as children:
            self._hub = hub
            try:
                if self._door is not None:
                    await first_of(
                        all_here(hub, self._workers, self._door.patience_s), self._stopped.wait(), raising=True
                    )
                if not self._stopped.is_set():
                    await self._send(load, hub, children)
                await children.end()
                await hub.drain(DRAIN_S)
            finally:
                self._state, self._hub = hub.state(), None
            if not self._stopped.is_set():
                self._raise(hub, children)

    def _raise(self, hub: Hub, children: Children) -> None:
        if any(children.codes()):
            if hub.began_s is None:
                raise refusal(children.said(LOG_LINES), self._locustfile)
            if not hub.all_done():
                raise HeadwayError(
                    f"a process of Locust ended before the load did: {children.ends()}",
                    details={"log_tail": children.said()},
                )
            told = f"Locust ended with {children.ends()}, as its locustfile may want"
            self._state = replace(self._state, notes=(*self._state.notes, told))
        raise_lost(hub, self._workers)

    async def _send(self, load: Load, hub: Hub, children: Children) -> None:
        part = self._part(load)
        path = hub.folder / "part"
        path.touch(mode=0o600)
        path.write_bytes(msgspec.msgpack.encode(part))
        for command in self._commands(load):
            await children.start([sys.executable, "-m", "locust", *command], {PLACE: hub.path, PART: str(path)})
        if self._door is not None:
            part.port = self._door.locust_port
            part.locustfile = None if self._locustfile is None else self._locustfile.read_bytes()
        for worker in hub.workers()[: self._workers]:
            await hub.give(worker, part)
        await first_of(children.wait_first(), hub.until(lambda: bool(hub.lost())), self._stopped.wait())

    def state(self) -> GeneratorState:
        return self._state if self._hub is None else self._hub.state()

    def stop(self) -> None:
        self._stopped.set()

    def _commands(self, load: Load) -> list[list[str]]:
        """Options of each process; the one whose end is the load's comes first."""
        common = options(load.target.url, self._locustfile)
        shown = (
            ["--headless", "--only-summary"]
            if self._web_port is None
            else ["--autostart", "--autoquit", "0", "--web-host", "127.0.0.1", "--web-port", str(self._web_port)]
        )
        first = [*common, *shown, "--stop-timeout", str(ceil(self._timeout_s))]
        if not self._workers:
            return [first]
        host, port = ("127.0.0.1", _free_port()) if self._door is None else (self._door.host, self._door.locust_port)
        here = ["--master-bind-host", host, "--master-bind-port", str(port)]
        master = [*first, "--master", *here, "--expect-workers", str(self._workers)]
        worker = [*common, *to_master(host, port)]
        return [master, *(worker for _ in range(self._workers if self._door is None else 0))]

    def _part(self, load: Load) -> LocustPart:
        return LocustPart(
            url=load.target.url,
            token=load.target.token,
            shape=load.shape,
            requests=list(load.requests),
            timeout_s=self._timeout_s,
            own_users=self._locustfile is None,
        )


def refusal(said: str, locustfile: Path | None) -> InvalidInput:
    """Why Locust would not begin, from what it ``said``: what the user's file raised and where, if that can be read."""
    where = None if locustfile is None else str(locustfile)
    if locustfile is not None and ("No User class found" in said or "load_locustfile_pytest" in said):
        return InvalidInput(
            "it has no users", where=where, hint="a class derived from HttpUser or FastHttpUser, with a @task"
        )
    lines = said.splitlines()
    if locustfile is not None and "Traceback (most recent call last):" in said:
        frame = f'File "{locustfile.absolute()}", line '
        places = [line.split(frame, 1)[1].split(",")[0] for line in lines if frame in line]
        raised = [found["what"] for line in lines if (found := _RAISED.match(line)) and not line.startswith(" ")]
        if places and raised:
            return InvalidInput(raised[-1], where=f"{where}:{places[-1]}")
    return InvalidInput("Locust would not begin", where=where, details={"log_tail": "\n".join(lines[-15:])})


async def _reach(url: str) -> None:
    place = urlsplit(url)
    port = place.port or (443 if place.scheme == "https" else 80)
    try:
        async with asyncio.timeout(10):
            _, writer = await asyncio.open_connection(place.hostname, port)
        writer.close()
    except OSError as error:
        raise GatewayFailed(
            f"nothing answers at {url}: {str(error) or type(error).__name__}",
            hint="headway info tells how the gateway is",
        ) from None


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
