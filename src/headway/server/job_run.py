"""One job in a worker's hands, from the claim to what is reported of it; and the calls that carry jobs out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import monotonic, perf_counter_ns
from typing import Final, Literal

from headway.domain.errors import HeadwayError, ModelFailed, ResultTooLarge, Retry, Unsupported
from headway.domain.job_wire import WireBeat, WireError, WireJob, WireOutcome
from headway.server import job_context
from headway.server.codecs.open_inference import HEADER_LENGTH
from headway.server.execution import Execution, Outcome, Ticket
from headway.server.failures import well_formed
from headway.server.http import Request, Response
from headway.server.job_alarm import Alarm
from headway.server.model import LoadedModel

LATE_S: Final = 1.0
"""The worker itself ends at the time limit, and can say where the model was; the kernel follows so much later."""
ARM: Final = b"job"


class JobRun:
    """The ``Peer`` of a request that is a job. Times are ``time.monotonic``."""

    __slots__ = (
        "_settled",
        "_told",
        "beat_at",
        "beaten_at",
        "began_at",
        "call",
        "deadline_at",
        "job",
        "request",
        "stop_at",
        "verdict",
    )

    def __init__(
        self, job: WireJob, now: float, settled: Callable[[JobRun, Response], None], told: Callable[[], None]
    ) -> None:
        self.job = job
        self.deadline_at = now + job.timeout_s
        self.beat_at = now
        """When it is to be reported that it is still worked at."""
        self.beaten_at = now
        """When that was last known to have arrived; at first, when it was claimed."""
        self.began_at: float | None = None
        """When it was handed to the model's queue."""
        self.request: Request | None = None
        self.call: job_context.Call | None = None
        """The call of ``predict`` that it is in."""
        self.verdict: Literal["cancel", "lost"] | None = None
        self.stop_at: float | None = None
        """When the process is to end if ``predict`` has not returned; set with the verdict."""
        self._settled = settled
        self._told = told

    @property
    def suspect(self) -> bool:
        """It may have taken a worker along before, or would be lost for good with this one: to be run alone."""
        return self.job.attempt > 1 or self.job.last

    def begin(self, now: float) -> Request:
        """The request that it is to the application."""
        job = self.job
        path, _, query = job.route.encode().partition(b"?")
        headers = {b"content-type": job.content_type.encode("latin-1", "replace"), b"x-headway-arm": ARM}
        for name, value in (
            (b"content-encoding", job.content_encoding),
            (b"x-request-id", job.request_id),
            (b"x-headway-client", job.client),
        ):
            if value:
                headers[name] = value.encode()
        self.began_at = now
        self.request = Request(b"POST", path, job.body, headers, self, perf_counter_ns(), query=query)
        return self.request

    def settle(self, request: Request, response: Response) -> None:
        """See :class:`headway.server.http.Peer`."""
        self._settled(self, response)

    def charge(self, request: Request, size: int) -> None:
        """Jobs are bounded by how many are claimed."""

    def told(self) -> None:
        """The model has spoken of its progress, on a thread of its own."""
        self._told()

    def beat(self) -> WireBeat:
        """That it is still worked at."""
        call, job = self.call, self.job
        if call is None or not call.spoke:
            return WireBeat(job_id=job.job_id, token=job.token)
        call.take()
        return WireBeat(job_id=job.job_id, token=job.token, fraction=call.fraction, note=call.note, told=True)

    def outcome(self, response: Response) -> WireOutcome:
        """How the attempt ended with ``response``."""
        job, error = self.job, response.error
        if error is None and response.status >= 300:
            error = ModelFailed(f"answered with status {response.status}")
        if error is None and any(name == HEADER_LENGTH for name, _ in response.headers):
            # It says where the tensors begin, and of a result only the body is kept.
            error = Unsupported(
                "jobs give tensors as JSON, not as binary data", hint="leave out binary_data_output and binary_data"
            )
        if error is None and len(response.body) > job.max_result_bytes:
            error = ResultTooLarge(
                f"the result has {len(response.body)} bytes, and results of this model may have {job.max_result_bytes}",
                hint="store it elsewhere and return where, or raise spec.jobs.maxResultSize",
            )
        if error is not None:
            return self.failed(error)
        return WireOutcome(
            job_id=job.job_id,
            token=job.token,
            status=response.status,
            content_type=response.content_type.decode(),
            body=response.body,
        )

    def failed(self, error: HeadwayError) -> WireOutcome:
        """The attempt ended with ``error``."""
        told = WireError(
            code=error.code,
            message=well_formed(error.message),
            where=error.where and well_formed(error.where),
            hint=error.hint and well_formed(error.hint),
            exception=() if error.raised is None else tuple(map(_name, error.raised.__mro__[:-1])),
            retry_after_s=error.after_s if isinstance(error, Retry) else None,
        )
        return WireOutcome(job_id=self.job.job_id, token=self.job.token, error=told)

    def canceled(self) -> WireOutcome:
        """It was called off."""
        return WireOutcome(job_id=self.job.job_id, token=self.job.token, canceled=True)

    def given_back(self) -> WireOutcome:
        """Somebody else is to take it."""
        return WireOutcome(job_id=self.job.job_id, token=self.job.token, given_back=True)


class JobExecution(Execution):
    """Calls the model for jobs: under their time limit, and with what :mod:`headway.jobs` needs to know."""

    def __init__(self, model: LoadedModel) -> None:
        super().__init__(model)
        self.alarm: Alarm | None = None

    def run(self, tickets: Sequence[Ticket]) -> Outcome:
        """See :class:`Execution`."""
        runs = [ticket.request.peer for ticket in tickets if isinstance(ticket.request.peer, JobRun)]
        if not runs:
            return super().run(tickets)
        call = job_context.Call(tuple(run.job.job_id for run in runs), runs[0].told)
        for run in runs:
            run.call = call
        call.canceled = all(run.verdict is not None for run in runs)
        if self.alarm is not None:
            self.alarm.arm(min(run.deadline_at for run in runs) - monotonic() + LATE_S)
        began = monotonic()
        job_context.begin(call)
        try:
            return super().run(tickets)
        finally:
            job_context.end()
            if self.alarm is not None:
                self.alarm.disarm()
            call.job_s = (monotonic() - began) / len(runs)


def _name(kind: type) -> str:
    """``TimeoutError``, ``requests.exceptions.ConnectionError``."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
