"""A TCP relay in front of a service, to make the service go away, hang or cut off for one test alone."""

from __future__ import annotations

import asyncio
import contextlib


class Relay:
    """Listens on a port of its own and forwards; runs in the test's event loop."""

    def __init__(self, target_port: int, port: int) -> None:
        self.port = port
        self.accepted = 0
        """Connections so far."""
        self._target_port = target_port
        self._server: asyncio.Server | None = None
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._forgotten: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Relay:
        await self.up()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.down()
        for _ in range(5):  # connections that the kernel had accepted by then are handed over, and reset
            await asyncio.sleep(0)

    async def up(self) -> None:
        """Accept connections, and forward."""
        self._flowing.set()
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)

    async def down(self) -> None:
        """Refuse connections, and reset those that stand."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        await self.cut()

    def forget(self) -> None:
        """Reset each connection that stands when it is used again, as a machine does that crashed and is back."""
        self._forgotten |= self._writers

    async def cut(self) -> None:
        """Reset the connections that stand; new ones are accepted if it is up."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        self._forgotten.clear()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def hang(self) -> None:
        """Accept, and forward nothing."""
        self._flowing.clear()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._server is None:
            writer.transport.abort()
            return
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await self._flowing.wait()
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
                self._writers.add(far_writer)
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._forward(reader, far_writer))
                    both.create_task(self._forward(far_reader, writer))
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                if writer in self._forgotten:
                    break
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
