"""WorkersApi: what workers say and are told (:mod:`headway.domain.job_wire`), on a socket of their own."""

from __future__ import annotations

import asyncio
from typing import Final, TypeVar

import msgspec
from starlette.types import Receive, Scope, Send

from headway.api.answers import failure
from headway.api.boundary import Boundary
from headway.api.jobs.calls import Call
from headway.control.jobs.dispatch import MOST_JOBS, MOST_WAIT_S, Dispatch
from headway.domain.errors import InvalidInput, NotFound
from headway.domain.job_wire import (
    CLAIM,
    MEDIA_TYPE,
    REPORT,
    ClaimAnswer,
    ClaimRequest,
    Report,
    ReportAnswer,
    WireBeat,
    WireError,
    WireJob,
    WireOutcome,
)
from headway.domain.jobs import Beat, JobError, Lease, Outcome, Progress
from headway.domain.names import MODEL_NAME, VERSION_NAME
from headway.ports.job_store import JobLeases

T = TypeVar("T")
MOST_CLAIM_BYTES: Final = 16 * 1024
MOST_REPORT_BYTES: Final = 1024**3 + 64 * 1024 * 1024
"""The largest result there may be, and some more."""
MOST_NAME: Final = 200
MOST_TEXT: Final = 4_000
"""Characters of what a model says of an error: each of its events has it, too."""
_KIND: Final = MEDIA_TYPE.encode()

_claims: Final = msgspec.msgpack.Decoder(ClaimRequest)
_reports: Final = msgspec.msgpack.Decoder(Report)
_encode: Final = msgspec.msgpack.Encoder().encode


class WorkersApi:
    """Claims go through the dispatch, reports straight to the store."""

    def __init__(self, dispatch: Dispatch, leases: JobLeases) -> None:
        self._dispatch = dispatch
        self._leases = leases

    def bounded(self) -> Boundary:
        """The whole application: faults become answers."""
        return Boundary(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(scope, receive, send)
        match call.method, scope["path"]:
            case "POST", path if path == CLAIM:
                await self._claim(call)
            case "POST", path if path == REPORT:
                await self._report(call)
            case _:
                error = NotFound("there is nothing here but POST /claim and POST /report")
                await failure(error)(scope, receive, send)

    async def _claim(self, call: Call) -> None:
        wish = _decoded(_claims, await call.body(MOST_CLAIM_BYTES))
        if not MODEL_NAME.fullmatch(wish.model) or not VERSION_NAME.fullmatch(wish.version):
            raise InvalidInput("model and version have to be names", where="claim")
        if not 0 < len(wish.worker) <= MOST_NAME or not 1 <= wish.most <= MOST_JOBS or not 0 <= wish.wait_s <= 3600:
            raise InvalidInput("worker, most or wait_s is out of bounds", where="claim")
        claiming = asyncio.ensure_future(
            self._dispatch.claim(
                wish.worker, wish.model, wish.version, most=wish.most, wait_s=min(wish.wait_s, MOST_WAIT_S)
            )
        )
        gone = asyncio.ensure_future(call.gone())
        try:
            await asyncio.wait({claiming, gone}, return_when=asyncio.FIRST_COMPLETED)
            for _ in range(2):  # turns of the loop in which a worker that leaves just now is noticed
                await asyncio.sleep(0)
            if gone.done():
                if claiming.done():
                    self._dispatch.give_back(claiming.result())
                return  # else cancelled below: what is claimed for it meanwhile is given back
            jobs = [_wire_job(lease) for lease in claiming.result()]
        finally:
            for one in (claiming, gone):
                one.cancel()
            await asyncio.gather(claiming, gone, return_exceptions=True)
        answer = ClaimAnswer(jobs=jobs, lease_s=self._dispatch.lease_s)
        await call.answer(_encode(answer), kind=_KIND)

    async def _report(self, call: Call) -> None:
        report = _decoded(_reports, await call.body(MOST_REPORT_BYTES))
        beats = [_beat(beat) for beat in report.beats]
        outcomes = [_outcome(outcome) for outcome in report.outcomes]
        accepted, verdicts = await asyncio.gather(
            self._leases.finish(outcomes) if outcomes else _nothing(),
            self._leases.renew(report.worker, beats, self._dispatch.lease_s) if beats else _nothing(),
        )
        if any(outcome.given_back for outcome in outcomes):
            self._dispatch.given_back()
        await call.answer(_encode(ReportAnswer(verdicts=list(verdicts), accepted=list(accepted))), kind=_KIND)


async def _nothing() -> list[T]:
    return []


def _decoded(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"the body is not what it should be: {error}"[:300]) from None


def _wire_job(lease: Lease) -> WireJob:
    job = lease.job
    return WireJob(
        job_id=job.job_id,
        token=lease.token,
        attempt=job.attempts,
        route=job.route,
        content_type=job.content_type,
        content_encoding=job.content_encoding,
        request_id=job.request_id,
        client=job.client,
        body=lease.body,
        timeout_s=job.timeout_s,
        max_result_bytes=job.max_result_bytes,
        last=job.attempts >= job.retry.max_attempts,
    )


def _beat(beat: WireBeat) -> Beat:
    progress = Progress(beat.fraction, beat.note[:1000]) if beat.told else None
    return Beat(beat.job_id, beat.token, progress)


def _outcome(outcome: WireOutcome) -> Outcome:
    return Outcome(
        job_id=outcome.job_id,
        token=outcome.token,
        error=None if outcome.error is None else _error(outcome.error),
        status=outcome.status,
        content_type=outcome.content_type,
        body=outcome.body,
        given_back=outcome.given_back,
        canceled=outcome.canceled,
    )


def _error(error: WireError) -> JobError:
    where, hint = (text and text[:MOST_TEXT] for text in (error.where, error.hint))
    message = error.message[:MOST_TEXT]
    return JobError(error.code, message, where, hint, tuple(error.exception), error.retry_after_s)
