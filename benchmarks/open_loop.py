"""An open-loop HTTP generator for the benchmarks: requests leave at their own times, answered or not.

A closed-loop client slows down with the system it measures and so hides stalls (Tene, *How NOT to Measure
Latency*, on coordinated omission). Here every request has a scheduled time, and its latency counts from it.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

REUSE_S = 2.0
"""Connections idle for longer are not used again, as in every client's pool: a server closes idle connections
after a while (here 5 s), and a request sent in that very moment is lost by the rules of HTTP/1.1 keep-alive."""


@dataclass(slots=True)
class Answer:
    """One request's fate; ``status`` 0 means no answer, ``error`` then says why."""

    scheduled_at: float
    latency_s: float
    status: int
    headers: dict[str, str]
    body: bytes
    fresh: bool
    error: str = ""


@dataclass(slots=True)
class Report:
    """What came of a run."""

    answers: list[Answer] = field(default_factory=list)
    late_sends: int = 0
    """Requests that the generator itself sent more than 100 ms late: then its figures are not to be trusted."""

    def statuses(self) -> Counter[int]:
        return Counter(answer.status for answer in self.answers)

    def failed(self) -> list[Answer]:
        return [answer for answer in self.answers if answer.status != 200]

    def quantile_ms(self, q: float) -> float:
        ordered = sorted(answer.latency_s for answer in self.answers)
        return ordered[min(len(ordered) - 1, int(q * len(ordered)))] * 1e3 if ordered else float("nan")


class _Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.reusable = True
        self.used_at = 0.0

    async def exchange(self, payload: bytes) -> tuple[int, dict[str, str], bytes]:
        self.writer.write(payload)
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status_line, *lines = head.split("\r\n")
        headers = {k.strip().lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}
        body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        self.used_at = time.monotonic()
        self.reusable = headers.get("connection", "").lower() != "close"
        return int(status_line.split(" ")[1]), headers, body

    def close(self) -> None:
        self.writer.close()


class OpenLoop:
    """``rate_per_s`` POSTs to one URL path, every second one on a fresh connection, the others kept alive.

    ``bodies`` are sent in turn.
    """

    def __init__(
        self, host: str, port: int, path: str, bodies: Sequence[bytes], *, rate_per_s: float, timeout_s: float = 30.0
    ) -> None:
        self._host, self._port = host, port
        self._rate = rate_per_s
        self._timeout_s = timeout_s
        head = f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
        heads = [f"{head}Content-Length: {len(body)}\r\n" for body in bodies]
        self._kept = [f"{h}\r\n".encode() + body for h, body in zip(heads, bodies, strict=True)]
        self._fresh = [f"{h}Connection: close\r\n\r\n".encode() + body for h, body in zip(heads, bodies, strict=True)]
        self._idle: list[_Connection] = []
        self.report = Report()

    async def run(self, stop: Callable[[], bool]) -> Report:
        """Send until ``stop()``; returns when the last answer is in."""
        start = time.monotonic()
        tasks: set[asyncio.Task[None]] = set()
        count = 0
        while not stop():
            due = start + count / self._rate
            now = time.monotonic()
            if due > now:
                await asyncio.sleep(due - now)
            elif now - due > 0.1:
                self.report.late_sends += 1
            task = asyncio.create_task(self._one(due, count))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            count += 1
        await asyncio.gather(*tasks)
        for connection in self._idle:
            connection.close()
        return self.report

    def _take_idle(self) -> _Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if time.monotonic() - connection.used_at < REUSE_S:
                return connection
            connection.close()
        return None

    async def _one(self, due: float, count: int) -> None:
        fresh = count % 2 == 0
        payload = (self._fresh if fresh else self._kept)[count % len(self._kept)]
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(self._timeout_s):
                kept = None if fresh else self._take_idle()
                if kept is None:
                    reader, writer = await asyncio.open_connection(self._host, self._port)
                    connection = _Connection(reader, writer)
                else:
                    connection = kept
                status, headers, body = await connection.exchange(payload)
            answer = Answer(due, time.monotonic() - due, status, headers, body, fresh)
            if connection.reusable and not fresh:
                self._idle.append(connection)
            else:
                connection.close()
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
            answer = Answer(due, time.monotonic() - due, 0, {}, b"", fresh, f"{type(error).__name__}: {error}")
            if connection is not None:
                connection.close()
        self.report.answers.append(answer)
