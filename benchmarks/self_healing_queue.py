"""A real Redis with an RQ queue for the benchmarks, and as many RQ workers as it is told."""

from __future__ import annotations

import multiprocessing
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

JOB_S = 2.0


def missing() -> str:
    """What keeps this from running; empty when nothing does."""
    return "" if shutil.which("redis-server") else "this needs redis-server: apt install redis-server"


def work(seconds: float) -> None:
    """What a job does."""
    time.sleep(seconds)


def _serve(port: int) -> None:
    from redis import Redis
    from rq import SimpleWorker

    SimpleWorker(["general"], connection=Redis(port=port)).work(logging_level="ERROR")


class Queue:
    """Entered without redis-server it does nothing, and must not be used."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._server: subprocess.Popen[bytes] | None = None
        self._queue: Any = None
        self._connection: Any = None
        self._workers: list[Any] = []
        self._leaving: list[Any] = []
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = int(probe.getsockname()[1])
        self.address = f"127.0.0.1:{self._port}"

    def __enter__(self) -> Queue:
        if missing():
            return self
        from redis import Redis
        from redis.exceptions import ConnectionError as Refused
        from rq import Queue as RqQueue

        command = [
            "redis-server",
            "--port",
            str(self._port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(self._root),
        ]
        self._server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._connection = Redis(port=self._port)
        deadline = time.monotonic() + 10
        while True:
            try:
                self._connection.ping()
                break
            except Refused:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        self._queue = RqQueue("general", connection=self._connection)
        sys.path.insert(0, str(Path(__file__).parent))  # for workers to find ``work``
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in [*self._workers, *self._leaving]:
            worker.kill()
            worker.join()
        if self._server is not None:
            self._server.terminate()
            self._server.wait(10)

    def submit(self) -> None:
        """One job."""
        self._queue.enqueue("self_healing_queue.work", JOB_S)

    def depth(self) -> float:
        """Jobs that are queued, started or scheduled."""
        started = self._queue.started_job_registry.get_job_count(cleanup=False)
        scheduled = self._queue.scheduled_job_registry.get_job_count(cleanup=False)
        return float(len(self._queue) + started + scheduled)

    def workers(self, count: int) -> None:
        """Have ``count`` of them; who is too many ends after the job under way."""
        fork = multiprocessing.get_context("fork")
        while len(self._workers) < count:
            worker = fork.Process(target=_serve, args=(self._port,))
            worker.start()
            self._workers.append(worker)
        while len(self._workers) > count:
            worker = self._workers.pop()
            worker.terminate()
            self._leaving.append(worker)
        self._leaving = [worker for worker in self._leaving if worker.is_alive()]
