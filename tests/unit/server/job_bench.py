"""A worker without a process: a job server in memory, a wire that can be cut, an alarm and an end that do nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from headway.server.app import Application
from headway.server.config import FailureReport, ServerConfig
from headway.server.job_boot import for_jobs
from headway.server.job_run import JobExecution
from headway.server.job_worker import JobWorker
from headway.server.model import LoadedModel
from tests.job_wire_server import JobWireServer, StoredJob
from tests.waiting import eventually

T = TypeVar("T")


class Wire:
    """The ``Link`` to a job server on the same loop."""

    def __init__(self, server: JobWireServer) -> None:
        self._server = server
        self.cut = False
        self._asking: asyncio.Future[bytes] | None = None

    async def ask(self, path: str, question: msgspec.Struct, answer: type[T], within_s: float) -> T:
        if self.cut:
            raise ConnectionRefusedError("nobody there")
        self._asking = asyncio.ensure_future(self._server.answer(path, msgspec.msgpack.encode(question)))
        try:
            told = await asyncio.wait_for(asyncio.shield(self._asking), within_s)
        except (TimeoutError, asyncio.CancelledError):
            if self._asking.cancelled():
                raise ConnectionResetError("hung up") from None
            self._asking.cancel()
            raise
        if self.cut:
            raise ConnectionResetError("the answer was lost")
        return msgspec.msgpack.decode(told, type=answer)

    def hush(self) -> None:
        if self._asking is not None:
            self._asking.cancel()

    def close(self) -> None:
        """Nothing is held."""


class WrittenAlarm:
    """Rings for nobody."""

    def __init__(self) -> None:
        self.armed: list[float] = []
        self.disarmed = 0

    def arm(self, seconds: float) -> None:
        self.armed.append(seconds)

    def disarm(self) -> None:
        self.disarmed += 1


class JobBench:
    """A worker around ``subject``; works as long as the block."""

    def __init__(self, subject: Any, *, grace_s: float = 30.0, lease_s: float = 0.2, **options: Any) -> None:
        self.config = for_jobs(
            ServerConfig(
                replica_id="iris-v1-bcdfg",
                model="iris",
                version="v1",
                digest="0" * 64,
                bundle_path=str(Path(__file__).parent),
                listen="unix:/nowhere",
                job_server="unix:/nowhere",
                worker_name="iris-v1-bcdfg.3",
                job_grace_s=grace_s,
                **options,
            )
        )
        self.server = JobWireServer(lease_s)
        self.claims, self.reports = Wire(self.server), Wire(self.server)
        self.alarm = WrittenAlarm()
        self.ended: list[tuple[int, FailureReport | None]] = []
        execution = JobExecution(LoadedModel(subject, Path(__file__).parent, name="Subject"))
        self.app = Application(self.config, execution, asyncio.get_running_loop())
        links = self.claims, self.reports
        self.worker = JobWorker(self.config, self.app, execution, *links, self.alarm, self._end)

    def _end(self, code: int, report: FailureReport | None) -> None:
        self.ended.append((code, report))

    async def __aenter__(self) -> Self:
        self.worker.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.worker.drain()
        self.app.predictor.stop()

    def add(self, body: Any = None, **fields: Any) -> StoredJob:
        """A new job."""
        job = self.server.add(body, **fields)
        self.server.stir()
        return job

    async def until(self, state: str, *jobs: StoredJob) -> None:
        """Until all of ``jobs`` are in ``state``."""
        await eventually(lambda: all(job.state == state for job in jobs), what=f"{state}: {jobs[:2]}")

    async def done(self, body: Any = None, **fields: Any) -> StoredJob:
        """A new job that has ended."""
        job = self.add(body, **fields)
        await eventually(lambda: job.outcome is not None, what=str(job))
        return job
