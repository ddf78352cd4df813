"""The whole error tree of Headway, at a glance.

Every error has a ``code`` (stable, machine readable), from which the HTTP ``status`` and the CLI
``exit_code`` follow. Standard library only: the model server imports this module too.

The JSON form, the same on every listener (control API, gateway, model server)::

    {"error": {"code": "model_not_found", "message": "…", "where": "…", "hint": "…", "details": {…}}}

``where`` (the place in the user's input), ``hint`` (what to do) and ``details`` appear when known.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any, ClassVar


class HeadwayError(Exception):
    """Root of the tree; raised itself only for faults of Headway's own.

    ``message`` says what is wrong, ``where`` names the place in the input (``spec.traffic[1].weight``,
    ``model.py:12``), ``hint`` says what to do about it.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 70
    raised: type[BaseException] | None = None
    """The class of what the user's code raised, where that is what this error tells of."""

    def __init__(
        self,
        message: str,
        *,
        where: str | None = None,
        hint: str | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint
        self.details = dict(details or {})

    def to_dict(self) -> dict[str, Any]:
        """The JSON form given in the module's docstring."""
        known = {"where": self.where, "hint": self.hint, "details": self.details}
        return {"error": {"code": self.code, "message": self.message, **{k: v for k, v in known.items() if v}}}

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text} ({self.hint})" if self.hint else text


# -- the caller's input is wrong -------------------------------------------------------------


class InvalidInput(HeadwayError):
    """The input breaks a rule; sending it again unchanged cannot succeed."""

    code, status, exit_code = "invalid_input", 400, 2


class InvalidName(InvalidInput):
    """A model, version, replica or token name that breaks the naming rule."""

    code = "invalid_name"


class InvalidSpec(InvalidInput):
    """A deployment document that does not fit the schema."""

    code = "invalid_spec"


class InvalidTraffic(InvalidInput):
    """Weights that do not sum to 100, name a version twice, or name none."""

    code = "invalid_traffic"


class InvalidBundle(InvalidInput):
    """A model folder or uploaded archive that cannot become a version."""

    code = "invalid_bundle"


class InvalidRequest(InvalidInput):
    """A prediction request whose body cannot be turned into the model's input."""

    code = "invalid_request"


class MethodNotAllowed(InvalidInput):
    """The path exists, the method does not."""

    code, status = "method_not_allowed", 405


class PayloadTooLarge(InvalidInput):
    """A body, header or archive above its limit."""

    code, status = "payload_too_large", 413


class HeadersTooLarge(PayloadTooLarge):
    """The request line or the header fields are above their limits (RFC 6585, 431)."""

    code, status = "headers_too_large", 431


class RequestTimeout(InvalidInput):
    """The client sent its request too slowly (RFC 9110, 408)."""

    code, status = "request_timeout", 408


class MalformedHttp(InvalidInput):
    """Bytes that are not an HTTP/1.x request, or one with two possible readings (RFC 9112)."""

    code = "malformed_http"


class UnsupportedMediaType(InvalidInput):
    """A content type or content encoding that is not accepted here."""

    code, status = "unsupported_media_type", 415


class Unsupported(InvalidInput):
    """Valid, but not supported by this release or this runtime. Never silently ignored."""

    code, status, exit_code = "unsupported", 422, 6


# -- who may do it ---------------------------------------------------------------------------


class Unauthenticated(HeadwayError):
    """No token, or one that is unknown, revoked or expired."""

    code, status, exit_code = "unauthenticated", 401, 4


class Forbidden(HeadwayError):
    """A valid token whose scope does not cover this."""

    code, status, exit_code = "forbidden", 403, 4


class InsecureListener(HeadwayError):
    """A listener beyond loopback was asked for while no token exists."""

    code, status, exit_code = "insecure_listener", 400, 2


# -- it is not there, or in the way ------------------------------------------------------------


class NotFound(HeadwayError):
    """Nothing at that path or of that name."""

    code, status, exit_code = "not_found", 404, 3


class ModelNotFound(NotFound):
    """No deployment of that name."""

    code = "model_not_found"


class VersionNotFound(NotFound):
    """The model has no such version."""

    code = "version_not_found"


class ReplicaNotFound(NotFound):
    """No such replica."""

    code = "replica_not_found"


class BundleNotFound(NotFound):
    """No bundle of that digest is stored; upload it first."""

    code = "bundle_not_found"


class JobNotFound(NotFound):
    """No job of that id: never submitted, of another model, or past the time that results are kept."""

    code = "job_not_found"


class TokenNotFound(NotFound):
    """No token of that name."""

    code = "token_not_found"


class Conflict(HeadwayError):
    """The current state does not allow it now."""

    code, status, exit_code = "conflict", 409, 5


class StaleWrite(Conflict):
    """Somebody else changed the deployment since it was read; read again and retry."""

    code = "stale_write"


class IdempotencyConflict(Conflict):
    """The idempotency key was used for another request."""

    code = "idempotency_conflict"


class JobNotFinished(Conflict):
    """The job has no result yet."""

    code = "job_not_finished"


class JobNotSucceeded(Conflict):
    """The job has ended without a result; ``details`` tell its state and its last error."""

    code = "job_not_succeeded"


class AlreadyRunning(Conflict):
    """Another control plane holds this home directory, or the port is taken."""

    code = "already_running"


# -- a deploy did not succeed ------------------------------------------------------------------


class DeployFailed(HeadwayError):
    """A version never became ready. The version before it still serves."""

    code, status, exit_code = "deploy_failed", 422, 7


class EnvironmentFailed(DeployFailed):
    """The requirements could not be resolved or installed."""

    code = "environment_failed"


class LoadFailed(DeployFailed):
    """Importing the model's code or its ``load`` raised, exited, or found a package missing."""

    code = "load_failed"


class SamplePredictionFailed(DeployFailed):
    """The sample input was not predicted: ``predict`` raised or its answer cannot be encoded."""

    code = "sample_prediction_failed"


class StartTimeout(DeployFailed):
    """The replica did not become ready within its startup probe's time."""

    code = "start_timeout"


class OutOfMemory(DeployFailed):
    """The replica went over its memory limit."""

    code = "out_of_memory"


# -- serving -----------------------------------------------------------------------------------


class ModelFailed(HeadwayError):
    """The user's ``predict`` raised or returned what cannot be encoded."""

    code, status, exit_code = "model_failed", 500, 1


class Overloaded(HeadwayError):
    """The bounded queue is full; come back after ``Retry-After`` seconds."""

    code, status, exit_code = "overloaded", 429, 1


class NotReady(HeadwayError):
    """No replica can take the request now."""

    code, status, exit_code = "not_ready", 503, 1


class Retry(HeadwayError):
    """The model cannot answer now and asks to be asked again, a job for its next attempt."""

    code, status, exit_code = "retry_later", 503, 1

    def __init__(
        self, message: str = "the model asks to be asked again", *, after_s: float | None = None, **place: Any
    ) -> None:
        super().__init__(message, **place)
        self.after_s = after_s
        if after_s is not None:
            self.details["retry_after_s"] = max(1, ceil(after_s))


class DeadlineExceeded(HeadwayError):
    """The time limit passed before the answer was there."""

    code, status, exit_code = "deadline_exceeded", 504, 1


class JobTimedOut(DeadlineExceeded):
    """An attempt took longer than one attempt may; its worker was ended."""

    code = "job_timed_out"


class WorkerLost(HeadwayError):
    """The worker ended, or was not heard of, while it ran the job."""

    code, status, exit_code = "worker_lost", 500, 1


class ResultTooLarge(ModelFailed):
    """The result is larger than results may be."""

    code = "result_too_large"


class PromiseBroken(HeadwayError):
    """What was measured is not what was promised."""

    code, status, exit_code = "promise_broken", 422, 1


class VerdictRefused(HeadwayError):
    """The measurement says nothing about the promise: its generator was saturated, or nothing was measured."""

    code, status, exit_code = "verdict_refused", 422, 10


# -- the surroundings --------------------------------------------------------------------------


class ControlUnreachable(HeadwayError):
    """The control API does not answer; is ``headway up`` running?"""

    code, status, exit_code = "control_unreachable", 503, 8


class GatewayFailed(HeadwayError):
    """The gateway refused a configuration or does not run; the one before stays in force."""

    code, status, exit_code = "gateway_failed", 500, 9


class StorageFailed(HeadwayError):
    """State could not be read or written: no space, no permission, a damaged file."""

    code, status, exit_code = "storage_failed", 500, 9


class SignalLost(HeadwayError):
    """What replicas are scaled by could not be read; they stay as many as they are."""

    code, status, exit_code = "signal_lost", 502, 9


class BrokerFailed(HeadwayError):
    """The message broker cannot be reached or refused; jobs stay in the database and are found there."""

    code, status, exit_code = "broker_failed", 502, 9


class MissingBinary(HeadwayError):
    """A program Headway needs is not on this machine."""

    code, status, exit_code = "missing_binary", 500, 9


class MissingExtra(HeadwayError):
    """An optional dependency is not installed; the message names the extra."""

    code, status, exit_code = "missing_extra", 500, 9


def tree(root: type[HeadwayError] = HeadwayError) -> list[type[HeadwayError]]:
    """Every class of the tree, parents before children, in order of definition."""
    return [root, *(found for child in root.__subclasses__() for found in tree(child))]
