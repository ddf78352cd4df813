"""Sampled payloads: what some requests asked and what was answered, as JSON lines beside the query log.

Off unless the spec asks for it. The decision is made on the loop, everything else on a thread: redaction, encoding,
writing. What the thread cannot keep up with is dropped and counted.

A line is an object: ``ts_ns``, ``stream``, ``seq`` (those of the query log's record), ``request_id``, ``version``,
``route``, ``status``, ``input``, ``output``. ``input`` and ``output`` are JSON values; text that is no JSON is
``{"text": ...}``, other bytes are ``{"base64": ...}``, and what may not be kept is ``{"omitted": "<why>"}``.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, Full, Queue
from time import time_ns
from typing import Any, Final, NamedTuple

import msgspec

from headway.server.config import PayloadOptions
from headway.server.redaction import redact

log = logging.getLogger("headway.server")

QUEUED: Final = 256
FILE_BYTES: Final = 16 * 1024 * 1024
SUFFIX: Final = ".payloads.jsonl"


class _Sample(NamedTuple):
    ts_ns: int
    seq: int
    request_id: str
    route: str
    status: int
    body: bytes
    answer: bytes


class PayloadSampler:
    """Keeps a share of requests with their answers. ``start`` and ``stop`` are idempotent."""

    def __init__(
        self,
        folder: Path,
        options: PayloadOptions,
        *,
        stream: str,
        version: str,
        columns: Sequence[str] | None,
        chance: Callable[[], float] = random.random,
        wall_ns: Callable[[], int] = time_ns,
    ) -> None:
        self._folder = folder
        self._options = options
        self._stream = stream
        self._version = version
        self._columns = columns
        self._chance = chance
        self._wall_ns = wall_ns
        self._samples: Queue[_Sample | None] = Queue(QUEUED)
        self._thread: threading.Thread | None = None
        self._file = 0
        self.kept = 0
        self.dropped = 0
        """Chosen, but the thread was behind or the disk refused."""

    def start(self) -> None:
        """Begin to write."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="headway-payloads", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Write what waits and end."""
        if self._thread is not None:
            self._samples.put(None)
            self._thread.join()
            self._thread = None

    @property
    def chosen(self) -> bool:
        """Whether the next request is one to keep."""
        return self._chance() < self._options.sample

    def offer(self, seq: int, request_id: bytes, route: str, status: int, body: bytes, answer: bytes) -> None:
        """Keep one request. Never blocks, never raises."""
        try:
            self._samples.put_nowait(
                _Sample(self._wall_ns(), seq, request_id.decode("latin-1"), route, status, body, answer)
            )
        except Full:
            self.dropped += 1

    # -- the thread --------------------------------------------------------------------------------

    def _run(self) -> None:
        while (sample := self._samples.get()) is not None:
            lines = [sample, *self._waiting()]
            try:
                self._write([self._line(item) for item in lines])
                self.kept += len(lines)
            except OSError as error:
                if not self.dropped:
                    log.error("sampled payloads cannot be written (said once): %s", error.strerror or error)
                self.dropped += len(lines)

    def _waiting(self) -> list[_Sample]:
        found: list[_Sample] = []
        with contextlib.suppress(Empty):
            while len(found) < QUEUED:
                sample = self._samples.get_nowait()
                if sample is None:
                    self._samples.put(None)
                    break
                found.append(sample)
        return found

    def _line(self, sample: _Sample) -> bytes:
        return msgspec.json.encode(
            {
                "ts_ns": sample.ts_ns,
                "stream": self._stream,
                "seq": sample.seq,
                "request_id": sample.request_id,
                "version": self._version,
                "route": sample.route,
                "status": sample.status,
                "input": self._payload(sample.body, self._columns),
                "output": self._payload(sample.answer, None),
            }
        )

    def _payload(self, body: bytes, columns: Sequence[str] | None) -> Any:
        options = self._options
        if len(body) > options.max_bytes:
            return {"omitted": f"{len(body)} bytes, more than {options.max_bytes}"}
        try:
            value = msgspec.json.decode(body)
        except (msgspec.MsgspecError, RecursionError):
            if options.redact:
                return {"omitted": "not JSON, so fields cannot be redacted"}
            try:
                return {"text": body.decode()}
            except UnicodeDecodeError:
                return {"base64": base64.b64encode(body).decode()}
        return redact(value, options.redact, columns) if options.redact else value

    def _write(self, lines: Sequence[bytes]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._folder / f"{self._stream}-{self._file}{SUFFIX}"
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            before = os.fstat(opened).st_size
            data = b"".join(line + b"\n" for line in lines)
            if os.write(opened, data) != len(data):
                os.ftruncate(opened, before)
                raise OSError("No space left on device")
            if before + len(data) >= FILE_BYTES:
                self._file += 1
        finally:
            os.close(opened)
