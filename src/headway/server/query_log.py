"""The query log's writer: one row per request, in the kernel's hands before its answer is.

The records of one call of ``predict`` go out as one block of columns, half of which are there already for the metrics:
64 requests that were predicted together cost one encoding and one system call. Fields: ``ROW`` and ``CALL_FIELDS`` of
:mod:`headway.domain.query_segments`; files: :mod:`headway.server.segments`.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns, time_ns
from typing import Any, Final

import msgspec

from headway.domain.feedback import Feedback
from headway.domain.query_segments import (
    ARM_SHIFT,
    ARMS,
    BLOCK,
    ID_BYTES,
    MAX_BLOCK_ROWS,
    ROW,
    VERSION,
    Flag,
    Kind,
)
from headway.server.config import ServerConfig
from headway.server.execution import Outcome, Phases, Ticket
from headway.server.http import Request, Response
from headway.server.payloads import PayloadSampler
from headway.server.segments import FLUSH_INTERVAL_S, Segments

SEGMENT_BYTES: Final = 16 * 1024 * 1024
SEGMENT_AGE_S: Final = 300.0
MAX_CLIENTS: Final = 10_000
"""Names of clients that one process tells apart."""
MAX_BATCH: Final = 2**16 - 1
"""As a row can tell it."""
MIN_CALL: Final = 8
"""Below this many requests, rows are hardly dearer to write and far cheaper to read."""

_FORMAT_OF: Final = {
    "/predict": "rows",
    "/invocations": "mlflow",
    "/api/v1.0/predictions": "seldon",
    "/api/v0.1/predictions": "seldon",
    "/v2/models/infer": "open_inference",
}
"""By route, as metrics name it."""
ROUTES: Final = ("", *_FORMAT_OF)
FORMATS: Final = ("", *dict.fromkeys(_FORMAT_OF.values()))

_PLACES: Final = {route: (ROUTES.index(route), FORMATS.index(form)) for route, form in _FORMAT_OF.items()}
_NOWHERE: Final = (0, 0)
_ARM_PLACES: Final = {name.encode(): place for place, name in enumerate(ARMS)}
_ARM_FLAGS: Final = {name: place << ARM_SHIFT for name, place in _ARM_PLACES.items()}
_encode_into: Final = msgspec.msgpack.Encoder().encode_into


def writer_of(config: ServerConfig, columns: Sequence[str] | None) -> QueryLogWriter | None:
    """The writer that ``config`` asks for; ``columns`` are those that the model knows."""
    if config.query_log_dir is None:
        return None
    folder = Path(config.query_log_dir)
    writer = QueryLogWriter(folder, model=config.model, version=config.version, replica=config.replica_id)
    if config.payloads is not None and config.payload_dir is not None:
        kept = Path(config.payload_dir) / config.model
        writer.payloads = PayloadSampler(
            kept, config.payloads, stream=writer.stream, version=config.version, columns=columns
        )
    return writer


class QueryLogWriter:
    """The log of one process. ``start`` and ``stop`` are idempotent; used from the loop's thread only."""

    def __init__(
        self,
        directory: Path,
        *,
        model: str,
        version: str,
        replica: str,
        wall_ns: Callable[[], int] = time_ns,
        segment_bytes: int = SEGMENT_BYTES,
        segment_age_s: float = SEGMENT_AGE_S,
    ) -> None:
        self.payloads: PayloadSampler | None = None
        """Where requests go that are kept whole."""
        self.stream = f"{replica}.{secrets.token_hex(6)}"
        head = {
            "format": VERSION,
            "model": model,
            "version": version,
            "replica": replica,
            "stream": self.stream,
            "pid": os.getpid(),
            "routes": ROUTES,
            "formats": FORMATS,
        }
        self.segments = Segments(
            directory / model,
            head,
            wall_ns=wall_ns,
            most_bytes=segment_bytes,
            most_age_ns=int(segment_age_s * 1e9),
        )
        self._clients: dict[bytes, int] = {}
        self.feedback_taken = 0
        self._cold = int(Flag.COLD_START)
        # Used again and again, because a new one's memory is cold.
        self._lone = bytearray(BLOCK.size + ROW.size)
        self._whole = bytearray(BLOCK.size)
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin the first segment."""
        if self._timer is None:
            self.segments.open(perf_counter_ns())
            self._timer = loop.call_later(FLUSH_INTERVAL_S, self._look, loop)
            if self.payloads is not None:
                self.payloads.start()

    def stop(self) -> None:
        """End the log; all of it is on the disk when this returns."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.segments.close(perf_counter_ns())
            if self.payloads is not None:
                self.payloads.stop()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        self.segments.look(perf_counter_ns())
        self._timer = loop.call_later(FLUSH_INTERVAL_S, self._look, loop)

    def answered(self, request: Request, status: int, bytes_out: int, flags: int = 0) -> None:
        """A request that no call of ``predict`` answered: refused, shed, expired, given up."""
        now_ns = perf_counter_ns()
        ticket = request.work
        queued_ns, rows = (0, 0) if ticket is None else (ticket.queued_ns, ticket.rows)
        arm = request.headers.get(b"x-headway-arm")
        block = self._lone
        ROW.pack_into(
            block,
            BLOCK.size,
            request.received_ns,
            queued_ns,
            0,
            0,
            now_ns,
            request.wire_bytes or len(request.body),
            bytes_out,
            rows,
            0,
            status,
            flags if arm is None else flags | _ARM_FLAGS.get(arm, 0),
            *_PLACES.get(request.route, _NOWHERE),
            0 if arm is None else self._client(request, now_ns),
            request.request_id,
        )
        self.segments.records(Kind.ROWS, 1, block, now_ns)
        if len(request.request_id) > ID_BYTES:
            self._long_ids([request], now_ns)

    def predicted(
        self,
        tickets: Sequence[Ticket],
        requests: Sequence[Request],
        routes: Sequence[str],
        responses: Sequence[Response],
        statuses: Sequence[int],
        outcome: Outcome,
        phases: Phases | None,
    ) -> None:
        """The requests that one call of ``predict`` answered, with their answers.

        ``phases`` are theirs, when it was these requests, all of them, that it was called for.
        """
        flags, self._cold = self._cold, 0
        count = len(requests)
        if phases is None or not MIN_CALL <= count <= MAX_BLOCK_ROWS or routes.count(routes[0]) < count:
            self._rows(tickets, responses, statuses, outcome, flags)
        else:
            self._call(requests, routes[0], responses, statuses, outcome, phases, flags)
        if self.payloads is not None:
            self._sample(self.payloads, tickets, responses)

    def feedback(self, feedback: Sequence[Feedback]) -> bool:
        """Write feedback, all or nothing; False: it could not be written."""
        items = [(one.request_id, one.metric, one.value, one.at_ns) for one in feedback]
        block = {"first": self.feedback_taken, "items": items}
        if not self.segments.kept(Kind.FEEDBACK, block, perf_counter_ns()):
            return False
        self.feedback_taken += len(feedback)
        return True

    def _rows(
        self,
        tickets: Sequence[Ticket],
        responses: Sequence[Response],
        statuses: Sequence[int],
        outcome: Outcome,
        flags: int,
    ) -> None:
        started_ns, predicted_ns, batch = outcome.started_ns, outcome.predicted_ns, min(outcome.requests, MAX_BATCH)
        block = (
            self._lone if len(tickets) == 1 else bytearray(BLOCK.size + ROW.size * min(len(tickets), MAX_BLOCK_ROWS))
        )
        place = BLOCK.size
        long = False
        for ticket, response, status in zip(tickets, responses, statuses, strict=True):
            request = ticket.request
            request_id = request.request_id
            arm = request.headers.get(b"x-headway-arm")
            ROW.pack_into(
                block,
                place,
                request.received_ns,
                ticket.queued_ns,
                started_ns,
                predicted_ns,
                ticket.encoded_ns or predicted_ns,
                request.wire_bytes or len(request.body),
                len(response.body),
                ticket.rows,
                batch,
                status,
                flags if arm is None else flags | _ARM_FLAGS.get(arm, 0),
                *_PLACES.get(request.route, _NOWHERE),
                0 if arm is None else self._client(request, predicted_ns),
                request_id,
            )
            place += ROW.size
            if len(request_id) > ID_BYTES:
                long = True
            if place == len(block):
                self.segments.records(Kind.ROWS, (place - BLOCK.size) // ROW.size, block, perf_counter_ns())
                place = BLOCK.size
        if place > BLOCK.size:
            del block[place:]
            self.segments.records(Kind.ROWS, (place - BLOCK.size) // ROW.size, block, perf_counter_ns())
        if long:
            self._long_ids([ticket.request for ticket in tickets], perf_counter_ns())

    def _call(
        self,
        requests: Sequence[Request],
        route: str,
        responses: Sequence[Response],
        statuses: Sequence[int],
        outcome: Outcome,
        phases: Phases,
        flags: int,
    ) -> None:
        arms: Sequence[Any] = [request.headers.get(b"x-headway-arm") for request in requests]
        clients: Sequence[int] = ()
        if arms.count(None) == len(arms):
            arms = ()
        else:
            now_ns = outcome.predicted_ns
            clients = [
                0 if arm is None else self._client(request, now_ns) for arm, request in zip(arms, requests, strict=True)
            ]
            arms = [_ARM_PLACES.get(arm, 0) for arm in arms]
        _encode_into(
            (
                outcome.started_ns,
                outcome.predicted_ns,
                outcome.requests,
                flags,
                *_PLACES.get(route, _NOWHERE),
                phases.decode,
                phases.queue,
                phases.encode,
                [request.wire_bytes or len(request.body) for request in requests],
                [len(response.body) for response in responses],
                outcome.parts,
                statuses,
                [request.request_id for request in requests],
                arms,
                clients,
            ),
            self._whole,
            BLOCK.size,
        )
        self.segments.records(Kind.CALL, len(requests), self._whole, perf_counter_ns())

    def _sample(self, payloads: PayloadSampler, tickets: Sequence[Ticket], responses: Sequence[Response]) -> None:
        first = self.segments.next_seq - len(tickets)
        for place, (ticket, response) in enumerate(zip(tickets, responses, strict=True)):
            if payloads.chosen:
                request = ticket.request
                payloads.offer(
                    first + place, request.request_id, request.route, response.status, request.body, response.body
                )

    def _client(self, request: Request, now_ns: int) -> int:
        """The place of the client's name in the list of names; the segment is told of a new one. 0: none, or too many.

        For requests whose arm is known: both headers are the gateway's, which always names the arm.
        """
        name = request.headers.get(b"x-headway-client")
        if name is None:
            return 0
        place = self._clients.get(name)
        if place is None:
            if len(self._clients) >= MAX_CLIENTS:
                return 0
            text = name.decode("utf-8", "replace")
            self.segments.note(Kind.NAMES, {"clients": [text]}, now_ns)
            self.segments.names.append(text)
            place = self._clients[name] = len(self._clients) + 1
        return place

    def _long_ids(self, requests: Sequence[Request], now_ns: int) -> None:
        """Whole request ids of those of the last ``requests`` whose row holds a cut one."""
        first = self.segments.next_seq - len(requests)
        ids = {
            str(first + place): request.request_id.decode()
            for place, request in enumerate(requests)
            if len(request.request_id) > ID_BYTES
        }
        self.segments.note(Kind.LONG_ID, ids, now_ns)
