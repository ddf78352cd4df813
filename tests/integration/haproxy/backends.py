"""Replicas for gateway tests: a tiny HTTP/1.1 server on a Unix socket, in this process or in one of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from headway.ports.gateway import Gateway
from tests.waiting import eventually


async def until(fact: Callable[[], Awaitable[bool]], *, what: str = "") -> None:
    """Wait for a fact that takes asking."""
    await eventually(fact, what=what)  # type: ignore[arg-type]


async def until_drained(gateway: Gateway, replica: str) -> None:
    """Wait until ``gateway`` says that nothing can reach ``replica`` any more."""

    async def drained() -> bool:
        return await gateway.drained([replica]) == {replica}

    await until(drained, what=f"{replica} is drained")


class Replica:
    """Answers with who it is and what it got. ``hold`` keeps predictions waiting until ``let_go``.

    A request's header ``x-do`` chooses something else than 200: a status, ``die`` (break the connection),
    ``never`` (no answer).
    """

    def __init__(self, socket: Path, name: str = "") -> None:
        self.socket = socket
        self.name = name or socket.stem
        self.seen: list[dict[str, Any]] = []
        self.ready = True
        self._free = asyncio.Event()
        self._free.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def address(self) -> str:
        return f"unix:{self.socket}"

    async def __aenter__(self) -> Replica:
        self._server = await asyncio.start_unix_server(self._accept, str(self.socket), backlog=1024)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.die()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.socket.unlink(missing_ok=True)

    def die(self) -> None:
        """As if killed: connections break, the socket's file stays behind."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in self._writers:
            writer.transport.abort()
        for task in self._tasks:
            task.cancel()

    def hold(self) -> None:
        self._free.clear()

    def let_go(self) -> None:
        self._free.set()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        self._writers.add(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while await self._one(reader, writer):
                pass
        writer.transport.abort()
        self._writers.discard(writer)

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *fields = head.rstrip("\r\n").split("\r\n")
        method, target, _ = line.split(" ")
        headers = {name.lower(): value for name, value in (f.split(": ", 1) for f in fields if ": " in f)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        status = 200
        if target.startswith("/health/"):
            status = 200 if self.ready else 503
        else:
            self.seen.append({"method": method, "path": target, "headers": headers, "body": body})
            await self._free.wait()
            match headers.get("x-do", ""):
                case "die":
                    writer.transport.abort()
                    return False
                case "never":
                    await asyncio.Event().wait()
                case number if number:
                    status = int(number)
        told = {"replica": self.name, "path": target, "headers": headers, "size": len(body)}
        answer = json.dumps(told).encode()
        writer.write(f"HTTP/1.1 {status} X\r\ncontent-length: {len(answer)}\r\n".encode())
        writer.write(
            b"content-type: application/json\r\nx-headway-replica: " + self.name.encode() + b"\r\n\r\n" + answer
        )
        await writer.drain()
        return True


class ReplicaProcess:
    """The same in a process of its own, for what only a real SIGKILL shows."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"unix:{self.socket}"

    async def start(self) -> None:
        self.socket.unlink(missing_ok=True)
        root = str(Path(__file__).parents[3])
        code = (
            f"import sys; sys.path.insert(0, {root!r}); "
            f"from tests.integration.haproxy.backends import serve; serve({str(self.socket)!r})"
        )
        self._process = subprocess.Popen([sys.executable, "-c", code])  # noqa: ASYNC220
        await until(self._answers, what=f"{self.socket.name} serves")

    async def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_unix_connection(str(self.socket))
            writer.close()
            await writer.wait_closed()
            return True
        return False

    def kill(self) -> None:
        """SIGKILL, and gone."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None


def serve(path: str) -> None:
    """Be a replica until killed."""

    async def run() -> None:
        async with Replica(Path(path)):
            await asyncio.Event().wait()

    asyncio.run(run())


class Answer:
    """One HTTP answer."""

    def __init__(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.status = status
        self.fields = headers
        self.headers = dict(headers)
        self.body = body

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error code of Headway's JSON form."""
        return str(self.json()["error"]["code"])

    @property
    def replica(self) -> str:
        return str(self.json()["replica"])

    def __repr__(self) -> str:
        return f"<{self.status} {self.body[:200]!r}>"


class Connection:
    """A client connection that stays open and never retries: what breaks, breaks the test."""

    def __init__(self, port: int | None = None, socket: Path | None = None) -> None:
        self._port, self._socket = port, socket
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None and self._streams[0].at_eof():
            await self.close()
        if self._streams is None:
            if self._socket is not None:
                self._streams = await asyncio.open_unix_connection(str(self._socket))
            else:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        return self._streams

    @property
    def open(self) -> bool:
        return self._streams is not None and not self._streams[0].at_eof()

    async def send(self, raw: bytes, *, head: bool = False) -> Answer:
        """Send bytes as they are and read one answer."""
        reader, writer = await self._open()
        writer.write(raw)
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            await writer.drain()
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").rstrip("\r\n").split("\r\n")
        pairs = [(name.lower(), value) for name, value in (f.split(": ", 1) for f in lines[1:])]
        headers = dict(pairs)
        body = b"" if head else await reader.readexactly(int(headers.get("content-length", "0")))
        if headers.get("connection") == "close":
            await self.close()
        return Answer(int(lines[0].split(" ")[1]), pairs, body)

    async def call(
        self, path: str, *, method: str = "POST", body: bytes = b"[[1]]", headers: dict[str, str] | None = None
    ) -> Answer:
        fields = {"host": "test", "content-length": str(len(body)), **(headers or {})}
        lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        return await self.send(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body)

    async def close(self) -> None:
        if self._streams is not None:
            writer = self._streams[1]
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


async def call(port: int, path: str, **kwargs: Any) -> Answer:
    """One request on a connection of its own."""
    async with Connection(port) as connection:
        return await connection.call(path, **kwargs)


class Load:
    """Requests all the time, on kept and on fresh connections, counting what came back."""

    def __init__(self, port: int, path: str, *, clients: int = 8) -> None:
        self._port, self._path, self._clients = port, path, clients
        self.replicas: Counter[str] = Counter()
        self.failures: list[str] = []
        self._stop = asyncio.Event()

    @property
    def answered(self) -> int:
        return self.replicas.total()

    async def _client(self, fresh: bool) -> None:
        connection = Connection(self._port)
        while not self._stop.is_set():
            try:
                answer = await connection.call(self._path)
                if answer.status == 200:
                    self.replicas[answer.replica] += 1
                else:
                    self.failures.append(repr(answer))
            except (OSError, asyncio.IncompleteReadError) as error:
                self.failures.append(repr(error))
                await connection.close()
            if fresh:
                await connection.close()
        await connection.close()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        tasks = [asyncio.create_task(self._client(n % 2 == 0)) for n in range(self._clients)]
        try:
            yield self
        finally:
            self._stop.set()
            await asyncio.gather(*tasks)

    async def some(self, count: int = 100) -> None:
        """Until ``count`` more requests were answered."""
        goal = self.answered + count
        await eventually(lambda: self.answered >= goal or self.failures, what=f"{count} answers")
