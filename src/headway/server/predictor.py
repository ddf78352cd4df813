"""The queue before the model: bounded, timed, emptied in batches. The heart of the server.

Requests that wait are predicted together; none waits in order to be together. The queue is emptied at the
end of the loop iteration in which requests came, so whatever arrived by then shares a call, and an idle
server answers at once. While a call runs on the worker's thread, the next batch gathers.

A batch whose call raises, or that does not answer row by row, is asked about again one request at a time,
so one bad row fails its own request only.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from time import perf_counter_ns
from typing import Final

from headway.domain.errors import DeadlineExceeded, HeadwayError, Overloaded
from headway.domain.query_segments import CLIENT_CLOSED, Flag
from headway.server.admission import Admission
from headway.server.batch_delay import BatchDelay
from headway.server.config import ServerOptions
from headway.server.execution import Answer, Execution, Outcome, Phases, Ticket
from headway.server.http import Response, error_response
from headway.server.placement import Placement
from headway.server.query_log import QueryLogWriter
from headway.server.stats_page import Load
from headway.server.telemetry import Telemetry

SWEEP_S: Final = 0.025
"""How late a 504 may be."""
STREAM_NS: Final = 50_000_000
"""A call runs on the loop only this soon after the one before. A lone request gains nothing by it, and should it be
the one that takes seconds, nobody's health check waits for it."""

REST_S: Final = 0.0015
"""While a call is under way and requests are refused, the loop sleeps so long between two looks at its sockets: what
came meanwhile is refused in one go. To wake for each takes more from the model than the refusing itself (Mogul and
Ramakrishnan, "Eliminating Receive Livelock", 1997): at twice the capacity a twentieth of all answers."""


class Worker:
    """One thread that runs one execution at a time."""

    def __init__(self, execution: Execution, loop: asyncio.AbstractEventLoop) -> None:
        self._execution = execution
        self._loop = loop
        self._jobs: SimpleQueue[tuple[list[Ticket], Callable[[list[Ticket], Outcome], None]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._calling = threading.Lock()
        """Held while a call is under way: taken on the loop, given back on the thread."""

    def submit(self, tickets: list[Ticket], done: Callable[[list[Ticket], Outcome], None]) -> None:
        """Run ``tickets``; ``done`` is called on the loop."""
        if self._thread is None:
            # A daemon: a call that never returns must not keep the process from ending.
            self._thread = threading.Thread(target=self._run, name="headway-predict", daemon=True)
            self._thread.start()
        self._calling.acquire(blocking=False)
        self._jobs.put((tickets, done))

    def leave_to(self, seconds: float) -> None:
        """Leave interpreter and processor to the call under way for so long, or until it ends."""
        if self._calling.acquire(timeout=seconds):
            self._calling.release()

    def stop(self) -> None:
        """End the thread after the call it is in."""
        self._jobs.put(None)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            tickets, done = job
            outcome = self._execution.run(tickets)
            self._calling.release()
            try:
                self._loop.call_soon_threadsafe(done, tickets, outcome)
            except RuntimeError:  # the loop is closed: nobody waits for answers
                return


class Predictor:
    """Takes tickets, answers their requests."""

    def __init__(
        self,
        execution: Execution,
        options: ServerOptions,
        telemetry: Telemetry,
        loop: asyncio.AbstractEventLoop,
        query_log: QueryLogWriter | None = None,
    ) -> None:
        self._model = execution.model
        self._options = options
        self._telemetry = telemetry
        self._query_log = query_log
        self._loop = loop
        self._execution = execution
        self._worker = Worker(self._execution, loop)
        self.placement = Placement(elsewhere=execution.model.companion is not None)
        self._delay = BatchDelay(options.max_batch_delay_s, options.latency_target_s)
        self._admission = Admission(options.max_queue, options.latency_target_s)
        self._timeout_ns = int(options.timeout_s * 1e9)
        self._queue: deque[Ticket] = deque()
        self._alone: deque[Ticket] = deque()
        """Tickets of a batch that failed as one; they go one by one, on the worker's thread."""
        self._running: list[Ticket] = []
        self._busy = False
        self._flush_due = False
        self._delayed: asyncio.TimerHandle | None = None
        """The flush that waits for a fuller batch."""
        self._sweep_due = False
        self.waiting = 0
        self._last_call_ns = 0
        self._rest_due = False
        self._began_ns = 0
        self._request_s = 0.001
        """Mean service time of one request, batching included."""
        self.on_predicted: Callable[[Ticket, Response], None] | None = None
        """Told of every answer of the model, after it was given."""
        self.on_load: Callable[[], None] = _nobody
        """Told that there is work after a pause, then every :data:`SWEEP_S` until there is none."""
        self._gone_ns = 0
        """Time in the queue of those that left it without a prediction."""

    @property
    def in_flight(self) -> int:
        """Requests being predicted."""
        return len(self._running) + len(self._alone)

    def ticket_deadline_ns(self, now_ns: int, asked_ms: int | None) -> int:
        """The sooner of the server's own limit and the one the client asks for."""
        limit = self._timeout_ns if asked_ms is None else min(self._timeout_ns, asked_ms * 1_000_000)
        return now_ns + limit

    def admit(self) -> None:
        """Whether one more may be queued; asked before its body is looked at, so that refusing stays cheap.

        Raises ``Overloaded`` with a computed ``retry_after_s`` when there is no room or no time.
        """
        admission = self._admission
        if (self.waiting >= admission.queue.room or admission.watching) and self._refuses():
            raise Overloaded(
                f"{self.waiting} requests wait already",
                hint="retry after the given time",
                details={"retry_after_s": self.retry_after_s()},
            )

    def submit(self, ticket: Ticket) -> None:
        """Queue it, after :meth:`admit`."""
        self.waiting += 1
        ticket.queue = self
        ticket.request.work = ticket
        self._queue.append(ticket)
        if not self._busy and not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)
        elif self._delayed is not None and self.waiting >= self._full():
            self._delayed.cancel()
            self._delayed = None
            self._loop.call_soon(self._flush)
        if not self._sweep_due:
            self._sweep_due = True
            self._loop.call_later(SWEEP_S, self._sweep)
            self._loop.call_soon(self.on_load)  # after the flush: nobody waits for it

    def load(self, now_ns: int) -> Load:
        """What is there now, for the stats page."""
        began_ns = self._began_ns
        in_flight = waiting = flown = waited = 0
        for ticket in (*(t for t in self._queue if t.queue is not None), *self._alone):
            if not ticket.answered:
                waiting += 1
                flown += now_ns - ticket.request.received_ns
                waited += now_ns - ticket.queued_ns
        for ticket in self._running:
            waited += max(0, began_ns - ticket.queued_ns)
            if not ticket.answered:
                in_flight += 1
                flown += now_ns - ticket.request.received_ns
        return Load(in_flight + waiting, waiting, flown, waited + self._gone_ns)

    def _refuses(self) -> bool:
        if not self._busy and self.waiting >= self._full() and not self.placement.on_loop:
            # Thousands may have arrived at once: reading and refusing them must not keep the model idle.
            self._flush()
        now_ns = perf_counter_ns()
        running = len(self._running)
        running_for_s = (now_ns - self._began_ns) / 1e9 if running else None
        most_rows = self._options.max_batch_size if self._model.together else 1
        refused = self._admission.refuses(now_ns, self.waiting, most_rows, running_for_s, running, self._last_call_ns)
        if refused and self._busy and not self._rest_due:
            self._rest_due = True
            self._loop.call_soon(self._rest)
        return refused

    def _rest(self) -> None:
        """At the end of a loop iteration in which requests were refused."""
        self._rest_due = False
        if self._busy:
            self._worker.leave_to(REST_S)

    def _full(self) -> int:
        """So many make a batch for which no more can be waited."""
        return min(self._options.max_batch_size, self._admission.queue.room)

    def retry_after_s(self) -> int:
        """Whole seconds until the present queue is worked off, 1 to 60."""
        return max(1, min(60, math.ceil(self.waiting * self._request_s)))

    def forget(self, ticket: Ticket) -> None:
        """A waiting ticket's client is gone."""
        self._leave(ticket)
        now_ns = perf_counter_ns()
        self._gone_ns += now_ns - ticket.queued_ns
        self._telemetry.abandoned += 1
        self._telemetry.abandoned_ns += now_ns - ticket.request.received_ns
        if self._query_log is not None:
            self._query_log.answered(ticket.request, CLIENT_CLOSED, 0)

    def stop(self) -> None:
        """End the worker's thread."""
        self._worker.stop()

    # -- batches -----------------------------------------------------------------------------------

    def _flush(self) -> None:
        self._flush_due = False
        self._delayed = None
        if self._busy:
            return
        now_ns = perf_counter_ns()
        if self._queue and not self._alone:
            wait_s = self._delay.wait_s(self.waiting, self._full(), (now_ns - self._queue[0].queued_ns) / 1e9)
            if wait_s > 0:
                self._flush_due = True
                self._delayed = self._loop.call_later(wait_s, self._flush)
                return
        single = bool(self._alone)
        batch = self._collect(now_ns)
        if not batch:
            return
        self._running = batch
        self._began_ns = now_ns
        if self.placement.on_loop and not single and now_ns - self._last_call_ns < STREAM_NS:
            self._finish(batch, self._execution.run(batch))
        else:
            self._busy = True
            self._worker.submit(batch, self._finish_on_loop)

    def _collect(self, now_ns: int) -> list[Ticket]:
        """The next tickets to predict together: the oldest one, and those behind it that fit to it."""
        while self._alone:
            ticket = self._alone.popleft()
            if not self._dead(ticket, now_ns):
                return [ticket]
            if ticket.abandoned and not ticket.answered:
                self.forget(ticket)
        queue, batch, passed = self._queue, list[Ticket](), list[Ticket]()
        rows, limit, key = 0, self._options.max_batch_size, None
        while queue:
            ticket = queue.popleft()
            if ticket.queue is None:  # left already
                continue
            if self._dead(ticket, now_ns):
                continue
            if not batch:
                key = ticket.inputs.key
            elif ticket.inputs.key != key or rows + ticket.rows > limit:
                passed.append(ticket)
                continue
            self._leave(ticket)
            batch.append(ticket)
            rows += ticket.rows
            if rows >= limit or key is None or not self._model.together:
                break
        queue.extendleft(reversed(passed))
        return batch

    def _leave(self, ticket: Ticket) -> None:
        if ticket.queue is not None:
            ticket.queue = None
            self.waiting -= 1

    def _dead(self, ticket: Ticket, now_ns: int) -> bool:
        """Whether nobody needs its answer any more; an expired one is answered here."""
        if ticket.abandoned or ticket.answered:
            self._leave(ticket)
            return True
        if ticket.deadline_ns <= now_ns:
            self._expire(ticket)
            return True
        return False

    def _finish_on_loop(self, batch: list[Ticket], outcome: Outcome) -> None:
        self._busy = False
        self._finish(batch, outcome)

    def _finish(self, batch: list[Ticket], outcome: Outcome) -> None:
        self._running = []
        self._last_call_ns = outcome.predicted_ns
        spent_ns = outcome.predicted_ns - outcome.started_ns
        self.placement.observe(spent_ns / 1e9)
        if outcome.answers is None:
            self._alone.extend(batch)
        else:
            phases = self._account(batch, outcome, spent_ns)
            if self._options.latency_target_s is not None:
                slowest_s = (perf_counter_ns() - batch[0].request.received_ns) / 1e9
                self._delay.answered(slowest_s)
                self._admission.answered(slowest_s)
            self._answer(batch, outcome.answers, outcome, phases)
        if (self._queue or self._alone) and not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _account(self, batch: list[Ticket], outcome: Outcome, spent_ns: int) -> Phases:
        telemetry = self._telemetry
        telemetry.predict.observe(spent_ns)
        telemetry.batch_rows.observe(outcome.rows)
        telemetry.batch_requests.observe(len(batch))
        started_ns, before_ns = outcome.started_ns, outcome.predicted_ns
        decoded = [ticket.queued_ns - ticket.request.received_ns for ticket in batch]
        queued = [started_ns - ticket.queued_ns for ticket in batch]
        encoded = []
        telemetry.decode.observe_all(decoded)
        telemetry.queue.observe_all(queued)
        for ticket in batch:
            if ticket.encoded_ns:
                encoded.append(ticket.encoded_ns - before_ns)
                before_ns = ticket.encoded_ns
        telemetry.encode.observe_all(encoded)
        if outcome.measurements is not None:
            telemetry.custom.record(outcome.measurements)
        call_s = (before_ns - started_ns) / 1e9
        if self._admission.watching or not self.placement.on_loop:  # calls on the loop are short, and nobody waits
            self._admission.called(len(batch), outcome.rows, call_s)
        per_request_s = call_s / len(batch)
        self._request_s += 0.1 * (per_request_s - self._request_s)
        return Phases(decoded, queued, encoded)

    # -- answers -----------------------------------------------------------------------------------

    def _answer(self, batch: list[Ticket], answers: list[Answer], outcome: Outcome, phases: Phases) -> None:
        tickets, responses, statuses = list[Ticket](), list[Response](), list[int]()
        for ticket, answer in zip(batch, answers, strict=True):
            if not ticket.answered:
                ticket.answered = True
                response = error_response(answer, ticket.request) if isinstance(answer, HeadwayError) else answer
                tickets.append(ticket)
                responses.append(response)
                statuses.append(CLIENT_CLOSED if ticket.abandoned else response.status)
        if not tickets:
            return
        requests = [ticket.request for ticket in tickets]
        routes = [request.route for request in requests]
        if self._query_log is not None:
            whole = phases if len(tickets) == len(phases.encode) == len(batch) else None
            self._query_log.predicted(tickets, requests, routes, responses, statuses, outcome, whole)
        self._telemetry.answered_all(requests, routes, statuses)
        for request, response in zip(requests, responses, strict=True):
            request.peer.settle(request, response)
        if self.on_predicted is not None:
            for ticket, response in zip(tickets, responses, strict=True):
                self.on_predicted(ticket, response)

    def _expire(self, ticket: Ticket) -> None:
        if ticket.queue is not None:
            self._gone_ns += perf_counter_ns() - ticket.queued_ns
        self._leave(ticket)
        ticket.answered = True
        self._telemetry.expired += 1
        request = ticket.request
        limit_ms = round((ticket.deadline_ns - ticket.queued_ns) / 1e6)  # less what it took to decode
        response = error_response(DeadlineExceeded(f"no answer within {limit_ms} ms"), request)
        self._telemetry.gave_up(request, response.status)
        if self._query_log is not None:
            self._query_log.answered(request, response.status, len(response.body), Flag.EXPIRED)
        request.peer.settle(request, response)

    def _sweep(self) -> None:
        """Answer 504 to whoever has waited too long, a call that is running included."""
        now_ns = perf_counter_ns()
        for tickets in (self._queue, self._alone, self._running):
            for ticket in tuple(tickets):
                if ticket.deadline_ns <= now_ns and not ticket.answered and not ticket.abandoned:
                    self._expire(ticket)
        self._sweep_due = bool(self._queue or self._alone or self._running)
        if self._sweep_due:
            self._loop.call_later(SWEEP_S, self._sweep)
        self.on_load()


def _nobody() -> None:
    """Nobody wants to know."""
