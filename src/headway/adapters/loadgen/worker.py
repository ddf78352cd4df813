"""A process that sends a part of a load: asks the hub for it, sends it, tells the hub.

Started by :class:`ShardedLoadGenerator` on this machine, or by somebody else on another. There the part may also be
Locust's: then this process becomes a worker of Locust's.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from typing import Final

import msgspec
import uvloop

from headway.adapters.loadgen.generator import HttpLoadGenerator
from headway.adapters.loadgen.locust_worker import become_locust
from headway.adapters.loadgen.wire import HEAD, PLACE, TOKEN, Batch, Hello, LocustPart, Part, frame
from headway.domain.errors import HeadwayError, StartTimeout
from headway.ports.load_generator import Load, LoadTarget

EVERY_S: Final = 0.1
AGAIN_S: Final = 0.5


class _Teller:
    """Sends what is new to the hub; ends the process when the hub is gone."""

    def __init__(self, load: Load, generator: HttpLoadGenerator, writer: asyncio.StreamWriter) -> None:
        self._load = load
        self._generator = generator
        self._writer = writer
        self._told = 0
        self._faults: dict[str, int] = {}
        self.began_s: float | None = None
        self._cpu_s = 0.0

    def began(self, at_s: float) -> None:
        self.began_s, self._cpu_s = at_s, time.process_time()

    async def tell(self, failure: str = "", *, done: bool = False) -> None:
        samples, began_s = self._load.samples, self.began_s or 0.0
        since, self._told = self._told, len(samples)
        state = self._generator.state()
        faults = {why: count - self._faults.get(why, 0) for why, count in samples.faults.items()}
        self._faults = dict(samples.faults)
        batch = Batch(
            began_s=self.began_s,
            due_s=[at + began_s for at in samples.due_s[since : self._told]],
            sent_s=[at + began_s for at in samples.sent_s[since : self._told]],
            done_s=[at + began_s for at in samples.done_s[since : self._told]],
            status=list(samples.status[since : self._told]),
            faults={why: count for why, count in faults.items() if count and not why.startswith("HTTP ")},
            users=state.users,
            sent=state.sent,
            waited=state.waited,
            in_flight=state.in_flight,
            oldest_s=state.oldest_s,
            cpu_s=time.process_time() - self._cpu_s if self.began_s is not None else 0.0,
            failure=failure,
            done=done,
        )
        self._writer.write(frame(batch))
        await self._writer.drain()

    async def keep_telling(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            await self.tell()


async def _send(part: Part, link: socket.socket) -> int:
    opened = asyncio.open_unix_connection if link.family is socket.AF_UNIX else asyncio.open_connection
    reader, writer = await opened(sock=link)
    generator = HttpLoadGenerator(timeout_s=part.timeout_s, part=(part.place, part.parts), begin_at_s=part.begin_at_s)
    load = Load(
        target=LoadTarget(part.model, part.url, part.token),
        shape=part.shape,
        requests=[part.requests[place] for place in part.turns],
        began=lambda at_s: teller.began(at_s),
    )
    teller = _Teller(load, generator, writer)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, generator.stop)
    telling = asyncio.create_task(teller.keep_telling())
    sending = asyncio.create_task(generator.run(load))
    told_to_end = asyncio.create_task(reader.read())
    try:
        # Telling ends only when the hub is gone: then nobody wants the load any more.
        await asyncio.wait({telling, sending, told_to_end}, return_when=asyncio.FIRST_COMPLETED)
        generator.stop()
        await sending
    except HeadwayError as error:
        await teller.tell(error.message)
    finally:
        for task in (telling, told_to_end):
            task.cancel()
        await asyncio.gather(telling, told_to_end, return_exceptions=True)
    await teller.tell(done=True)
    writer.close()
    return 0


def work(place: str, token: str = "", patience_s: float = 0.0) -> int:
    """Ask the hub at ``place`` for a part and send it; an exit code.

    For ``patience_s`` nobody there means: not yet. Raises ``StartTimeout`` after that, and when the hub wants no more
    workers.
    """
    link = _dialed(place, time.monotonic() + patience_s)
    link.sendall(frame(Hello(token=token, now_s=time.monotonic(), wants_part=True)))
    try:
        (size,) = HEAD.unpack(_exactly(link, HEAD.size))
        part = msgspec.msgpack.decode(_exactly(link, size), type=Part | LocustPart)
    except EOFError:
        raise StartTimeout(f"the master at {place} has no work to give") from None
    if isinstance(part, LocustPart):
        become_locust(part, place.rpartition(":")[0], link)
    gc.freeze()
    gc.set_threshold(100_000, 10, 10)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_send(part, link))


def _dialed(place: str, until_s: float) -> socket.socket:
    """A connection. Names may begin to be known later, as those of Kubernetes are."""
    while True:
        try:
            if place.startswith("/"):
                link = socket.socket(socket.AF_UNIX)
                link.connect(place)
                return link
            host, _, port = place.rpartition(":")
            return _lasting(socket.create_connection((host.strip("[]"), int(port)), timeout=10))
        except OSError as error:
            if time.monotonic() >= until_s:
                raise StartTimeout(f"no master answers at {place}: {error.strerror or error}") from None
        time.sleep(AGAIN_S)


def _lasting(link: socket.socket) -> socket.socket:
    """Waits for the part for as long as the others need; a master that vanished is noticed nevertheless."""
    link.settimeout(None)
    link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return link


def _exactly(link: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        piece = link.recv(min(size - len(parts), 1 << 20))
        if not piece:
            raise EOFError
        parts += piece
    return bytes(parts)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sys.exit(work(os.environ[PLACE], os.environ.get(TOKEN, "")))
