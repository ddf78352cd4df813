"""A job server in memory that speaks the workers' wire (``headway.domain.job_wire``), and whose lies can be told apart.

It leases, fences by tokens, hears beats and outcomes, and tries nothing again unless a job says so; a test reads what
it was told. Served on a Unix socket by :class:`ServedJobs`, on a thread of its own, which can be killed and come back.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from headway.domain.job_wire import (
    CLAIM,
    REPORT,
    ClaimAnswer,
    ClaimRequest,
    Report,
    ReportAnswer,
    WireBeat,
    WireJob,
    WireOutcome,
)
from headway.domain.jobs import BeatVerdict
from tests.waiting import PATIENCE_S, wait_until


@dataclass
class StoredJob:
    """One job and all that was said of it."""

    job_id: str
    body: bytes
    route: str = "/predict"
    content_type: str = "application/json"
    timeout_s: float = 60.0
    max_result_bytes: int = 1 << 20
    max_attempts: int = 1
    client: str = ""
    state: str = "queued"
    attempts: int = 0
    token: int = 0
    lease_until: float = 0.0
    cancel: bool = False
    lost: bool = False
    """Its lease is somebody else's by now."""
    outcome: WireOutcome | None = None
    """The accepted one that ended it."""
    told: list[WireOutcome] = field(default_factory=list)
    """All of them."""
    beats: list[WireBeat] = field(default_factory=list)
    workers: list[str] = field(default_factory=list)

    @property
    def result(self) -> Any:
        """Its result as JSON."""
        assert self.outcome is not None, self
        assert self.outcome.error is None, self.outcome
        return json.loads(self.outcome.body)


class JobWireServer:
    """The answers. Used on one loop; state may be looked at from anywhere."""

    def __init__(self, lease_s: float = 3.0) -> None:
        self.lease_s = lease_s
        """What workers are told: they beat four times as often."""
        self.honoured_s = 120.0
        """How long a lease holds after its last beat all the same: who beats late is on a busy machine, not dead."""
        self.jobs: dict[str, StoredJob] = {}
        self.claims: list[int] = []
        """How many were asked for, each time."""
        self.reports = 0
        self.refused: list[WireOutcome] = []
        self._ids = (f"{number:026d}" for number in itertools.count(1))
        self._work = asyncio.Event()

    def add(self, body: Any = None, **fields: Any) -> StoredJob:
        """A new job whose body is ``body``, bytes or JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body if body is not None else [[1.0]]).encode()
        job = StoredJob(next(self._ids), raw, **fields)
        self.jobs[job.job_id] = job
        return job

    def stir(self) -> None:
        """There may be work: to be called on the loop after :meth:`add`."""
        self._work.set()

    async def answer(self, path: str, body: bytes) -> bytes:
        """To ``body`` posted to ``path``."""
        if path == CLAIM:
            return msgspec.msgpack.encode(await self.claim(msgspec.msgpack.decode(body, type=ClaimRequest)))
        assert path == REPORT, path
        return msgspec.msgpack.encode(self.report(msgspec.msgpack.decode(body, type=Report)))

    async def claim(self, request: ClaimRequest) -> ClaimAnswer:
        self.claims.append(request.most)
        deadline = time.monotonic() + request.wait_s
        while True:
            self.sweep()
            due = [job for job in self.jobs.values() if job.state == "queued"][: request.most]
            left_s = deadline - time.monotonic()
            if due or left_s <= 0:
                break
            self._work.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left_s, 0.2)):  # wait_for may swallow the end of a worker that hung up
                    await self._work.wait()
        return ClaimAnswer(jobs=[self._lease(job, request.worker) for job in due], lease_s=self.lease_s)

    def unclaim(self, answer: ClaimAnswer) -> None:
        """It did not arrive: as a job server that sees its worker hang up."""
        for leased in answer.jobs:
            job = self.jobs[leased.job_id]
            job.state, job.attempts = "queued", job.attempts - 1

    def sweep(self) -> None:
        """Leases that have run out."""
        for job in self.jobs.values():
            if job.state == "running" and job.lease_until < time.monotonic():
                job.state = "queued" if job.attempts < job.max_attempts else "lost"

    def report(self, report: Report) -> ReportAnswer:
        self.reports += 1
        accepted = [self._end(outcome) for outcome in report.outcomes]
        verdicts = [self._hear(beat) for beat in report.beats]
        self._work.set()
        return ReportAnswer(verdicts=verdicts, accepted=accepted)

    def _lease(self, job: StoredJob, worker: str) -> WireJob:
        job.state, job.attempts, job.token = "running", job.attempts + 1, job.token + 1
        job.lease_until = time.monotonic() + self.honoured_s
        job.workers.append(worker)
        return WireJob(
            job_id=job.job_id,
            token=job.token,
            attempt=job.attempts,
            route=job.route,
            content_type=job.content_type,
            request_id=f"request-{job.job_id[-4:]}",
            client=job.client,
            body=job.body,
            timeout_s=job.timeout_s,
            max_result_bytes=job.max_result_bytes,
            last=1 < job.max_attempts <= job.attempts,
        )

    def _hear(self, beat: WireBeat) -> BeatVerdict:
        job = self.jobs[beat.job_id]
        job.beats.append(beat)
        if job.lost or job.state != "running" or beat.token != job.token:
            return "lost"
        job.lease_until = time.monotonic() + self.honoured_s
        return "cancel" if job.cancel else "go_on"

    def _end(self, outcome: WireOutcome) -> bool:
        job = self.jobs[outcome.job_id]
        job.told.append(outcome)
        if job.lost or job.state != "running" or outcome.token != job.token:
            self.refused.append(outcome)
            return False
        if outcome.given_back:
            job.state, job.attempts = "queued", job.attempts - 1
        elif outcome.error is not None and job.attempts < job.max_attempts:
            job.state = "queued"
        else:
            job.outcome = outcome
            job.state = "canceled" if outcome.canceled else "succeeded" if outcome.error is None else "failed"
        return True


class ServedJobs:
    """A :class:`JobWireServer` on ``socket``, for tests that do not run on a loop."""

    def __init__(self, socket: Path, lease_s: float = 3.0) -> None:
        self.address = f"unix:{socket}"
        self._socket = socket
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="job server", daemon=True)
        self._thread.start()
        self.server: JobWireServer = self._call(self._make(lease_s))
        self._listener: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    def add(self, body: Any = None, **fields: Any) -> StoredJob:
        """See :meth:`JobWireServer.add`; a worker that waits gets it."""
        job = self.server.add(body, **fields)
        self._loop.call_soon_threadsafe(self.server.stir)
        return job

    def add_many(self, count: int, body: Any = None, **fields: Any) -> list[StoredJob]:
        """So many alike."""
        jobs = [self.server.add(body, **fields) for _ in range(count)]
        self._loop.call_soon_threadsafe(self.server.stir)
        return jobs

    def until(self, state: str, *jobs: StoredJob) -> None:
        """Until all of ``jobs`` are in ``state``."""

        def fact() -> bool:
            self._loop.call_soon_threadsafe(self.server.sweep)
            return all(job.state == state for job in jobs)

        wait_until(fact, what=f"{state}: {jobs[:2]}")

    def up(self) -> None:
        """Listen."""
        self._call(self._up())

    def kill(self) -> None:
        """Listen no more, and hang up on everybody; what is stored stays."""
        self._call(self._down())

    def close(self) -> None:
        """End it for good."""
        self.kill()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @classmethod
    @contextlib.contextmanager
    def running(cls, socket: Path, lease_s: float = 3.0) -> Iterator[ServedJobs]:
        """One that listens, for as long as the block."""
        served = cls(socket, lease_s)
        served.up()
        try:
            yield served
        finally:
            served.close()

    async def _make(self, lease_s: float) -> JobWireServer:
        return JobWireServer(lease_s)

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    async def _up(self) -> None:
        self._listener = await asyncio.start_unix_server(self._serve, self._socket)

    async def _down(self) -> None:
        if self._listener is not None:
            self._listener.close()
            for writer in tuple(self._open):
                writer.transport.abort()
            tasks = [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._socket.unlink(missing_ok=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            async for path, body in _requests(reader):
                answering = asyncio.ensure_future(self.server.answer(path, body))
                gone = asyncio.ensure_future(_gone(reader))
                await asyncio.wait({answering, gone}, return_when=asyncio.FIRST_COMPLETED)
                gone.cancel()
                if not answering.done():  # it hung up while it waited
                    answering.cancel()
                    return
                told = answering.result()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(told), told))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open.discard(writer)
            writer.close()


async def _gone(reader: asyncio.StreamReader) -> None:
    while not reader.at_eof():  # noqa: ASYNC110 - a stream reader tells its end to nobody
        await asyncio.sleep(0.01)


async def _requests(reader: asyncio.StreamReader) -> AsyncIterator[tuple[str, bytes]]:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().splitlines()[1:] if line)
        yield head.split(b" ")[1].decode(), await reader.readexactly(int(fields["content-length"]))
