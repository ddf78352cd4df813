"""The control API on a real socket, served from a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from headway.api.server import ControlServer, create_server
from tests.unit.api.world import World, make_world
from tests.waiting import PATIENCE_S

T = TypeVar("T")


@dataclass
class Served:
    """A world and the server in front of it."""

    world: World
    server: ControlServer
    loop: asyncio.AbstractEventLoop
    thread: threading.Thread
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do ``work`` on the server's loop, where everything of the world lives."""
        return asyncio.run_coroutine_threadsafe(work(), self.loop).result(PATIENCE_S)

    def stop(self) -> None:
        """Stop it and wait until it has stopped."""
        self.loop.call_soon_threadsafe(self.server.stop)
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive(), "the server did not stop"


@pytest.fixture
def served(scratch: object) -> Iterator[Served]:
    """Iris is deployed."""
    listener = socket.create_server(("127.0.0.1", 0))
    ready: list[Served] = []
    up = threading.Event()

    async def serve() -> None:
        world = await make_world()
        await world.deploy()
        server = create_server(world.app, host="127.0.0.1", port=0, closing=world.closing)
        port = listener.getsockname()[1]
        ready.append(Served(world, server, asyncio.get_running_loop(), threading.current_thread(), port))
        up.set()
        await server.serve(sockets=[listener])

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="control API")
    thread.start()
    assert up.wait(PATIENCE_S)
    yield ready[0]
    if thread.is_alive():
        ready[0].stop()
