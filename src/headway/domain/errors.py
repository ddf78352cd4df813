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

    def __init_subclass__(cls, *, code: str, status: int | None = None, exit_code: int | None = None) -> None:
        """What is not given is the parent's."""
        cls.code = code
        if status is not None:
            cls.status = status
        if exit_code is not None:
            cls.exit_code = exit_code

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


class InvalidInput(HeadwayError, code="invalid_input", status=400, exit_code=2):
    """The input breaks a rule; sending it again unchanged cannot succeed."""


class InvalidName(InvalidInput, code="invalid_name"):
    """A model, version, replica or token name that breaks the naming rule."""


class InvalidSpec(InvalidInput, code="invalid_spec"):
    """A deployment document that does not fit the schema."""


class InvalidTraffic(InvalidInput, code="invalid_traffic"):
    """Weights that do not sum to 100, name a version twice, or name none."""


class InvalidBundle(InvalidInput, code="invalid_bundle"):
    """A model folder or uploaded archive that cannot become a version."""


class InvalidRequest(InvalidInput, code="invalid_request"):
    """A prediction request whose body cannot be turned into the model's input."""


class MethodNotAllowed(InvalidInput, code="method_not_allowed", status=405):
    """The path exists, the method does not."""


class PayloadTooLarge(InvalidInput, code="payload_too_large", status=413):
    """A body, header or archive above its limit."""


class HeadersTooLarge(PayloadTooLarge, code="headers_too_large", status=431):
    """The request line or the header fields are above their limits (RFC 6585, 431)."""


class RequestTimeout(InvalidInput, code="request_timeout", status=408):
    """The client sent its request too slowly (RFC 9110, 408)."""


class MalformedHttp(InvalidInput, code="malformed_http"):
    """Bytes that are not an HTTP/1.x request, or one with two possible readings (RFC 9112)."""


class UnsupportedMediaType(InvalidInput, code="unsupported_media_type", status=415):
    """A content type or content encoding that is not accepted here."""


class Unsupported(InvalidInput, code="unsupported", status=422, exit_code=6):
    """Valid, but not supported by this release or this runtime. Never silently ignored."""


# -- who may do it ---------------------------------------------------------------------------


class Unauthenticated(HeadwayError, code="unauthenticated", status=401, exit_code=4):
    """No token, or one that is unknown, revoked or expired."""


class Forbidden(HeadwayError, code="forbidden", status=403, exit_code=4):
    """A valid token whose scope does not cover this."""


class InsecureListener(HeadwayError, code="insecure_listener", status=400, exit_code=2):
    """A listener beyond loopback was asked for while no token exists."""


# -- it is not there, or in the way ------------------------------------------------------------


class NotFound(HeadwayError, code="not_found", status=404, exit_code=3):
    """Nothing at that path or of that name."""


class ModelNotFound(NotFound, code="model_not_found"):
    """No deployment of that name."""


class VersionNotFound(NotFound, code="version_not_found"):
    """The model has no such version."""


class ReplicaNotFound(NotFound, code="replica_not_found"):
    """No such replica."""


class BundleNotFound(NotFound, code="bundle_not_found"):
    """No bundle of that digest is stored; upload it first."""


class JobNotFound(NotFound, code="job_not_found"):
    """No job of that id: never submitted, of another model, or past the time that results are kept."""


class ImageNotFound(NotFound, code="image_not_found"):
    """The registry has no such image, or hides it from who asked."""


class TokenNotFound(NotFound, code="token_not_found"):
    """No token of that name."""


class SourceNotFound(NotFound, code="source_not_found"):
    """The MLflow server knows no such model, version, alias or run, or it holds no model there."""


class Conflict(HeadwayError, code="conflict", status=409, exit_code=5):
    """The current state does not allow it now."""


class StaleWrite(Conflict, code="stale_write"):
    """Somebody else changed the deployment since it was read; read again and retry."""


class IdempotencyConflict(Conflict, code="idempotency_conflict"):
    """The idempotency key was used for another request."""


class JobNotFinished(Conflict, code="job_not_finished"):
    """The job has no result yet."""


class JobNotSucceeded(Conflict, code="job_not_succeeded"):
    """The job has ended without a result; ``details`` tell its state and its last error."""


class AlreadyRunning(Conflict, code="already_running"):
    """Another control plane holds this home directory, or the port is taken."""


# -- a deploy did not succeed ------------------------------------------------------------------


class DeployFailed(HeadwayError, code="deploy_failed", status=422, exit_code=7):
    """A version never became ready. The version before it still serves."""


class EnvironmentFailed(DeployFailed, code="environment_failed"):
    """The requirements could not be resolved or installed."""


class LoadFailed(DeployFailed, code="load_failed"):
    """Importing the model's code or its ``load`` raised, exited, or found a package missing."""


class SamplePredictionFailed(DeployFailed, code="sample_prediction_failed"):
    """The sample input was not predicted: ``predict`` raised or its answer cannot be encoded."""


class StartTimeout(DeployFailed, code="start_timeout"):
    """The replica did not become ready within its startup probe's time."""


class OutOfMemory(DeployFailed, code="out_of_memory"):
    """The replica went over its memory limit."""


# -- serving -----------------------------------------------------------------------------------


class ModelFailed(HeadwayError, code="model_failed", status=500, exit_code=1):
    """The user's ``predict`` raised or returned what cannot be encoded."""


class Overloaded(HeadwayError, code="overloaded", status=429, exit_code=1):
    """The bounded queue is full; come back after ``Retry-After`` seconds."""


class NotReady(HeadwayError, code="not_ready", status=503, exit_code=1):
    """No replica can take the request now."""


class Retry(HeadwayError, code="retry_later", status=503, exit_code=1):
    """The model cannot answer now and asks to be asked again, a job for its next attempt."""

    def __init__(
        self, message: str = "the model asks to be asked again", *, after_s: float | None = None, **place: Any
    ) -> None:
        super().__init__(message, **place)
        self.after_s = after_s
        if after_s is not None:
            self.details["retry_after_s"] = max(1, ceil(after_s))


class DeadlineExceeded(HeadwayError, code="deadline_exceeded", status=504, exit_code=1):
    """The time limit passed before the answer was there."""


class JobTimedOut(DeadlineExceeded, code="job_timed_out"):
    """An attempt took longer than one attempt may; its worker was ended."""


class WorkerLost(HeadwayError, code="worker_lost", status=500, exit_code=1):
    """The worker ended, or was not heard of, while it ran the job."""


class ResultTooLarge(ModelFailed, code="result_too_large"):
    """The result is larger than results may be."""


class PromiseBroken(HeadwayError, code="promise_broken", status=422, exit_code=1):
    """What was measured is not what was promised."""


class VerdictRefused(HeadwayError, code="verdict_refused", status=422, exit_code=10):
    """The measurement says nothing about the promise: its generator was saturated, or nothing was measured."""


# -- the surroundings --------------------------------------------------------------------------


class ControlUnreachable(HeadwayError, code="control_unreachable", status=503, exit_code=8):
    """The control API does not answer; is ``headway up`` running?"""


class GatewayFailed(HeadwayError, code="gateway_failed", status=500, exit_code=9):
    """The gateway refused a configuration or does not run; the one before stays in force."""


class StorageFailed(HeadwayError, code="storage_failed", status=500, exit_code=9):
    """State could not be read or written: no space, no permission, a damaged file."""


class SignalLost(HeadwayError, code="signal_lost", status=502, exit_code=9):
    """What replicas are scaled by could not be read; they stay as many as they are."""


class BrokerFailed(HeadwayError, code="broker_failed", status=502, exit_code=9):
    """The message broker cannot be reached or refused; jobs stay in the database and are found there."""


class ClusterFailed(HeadwayError, code="cluster_failed", status=502, exit_code=9):
    """The Kubernetes API server does not answer, or answers that it cannot; ``details`` may say when to try again."""


class ClusterForbidden(ClusterFailed, code="cluster_forbidden", status=403, exit_code=4):
    """The Kubernetes API server refuses for lack of rights."""


class ClusterRefused(ClusterFailed, code="cluster_refused", status=422, exit_code=2):
    """The Kubernetes API server finds an object wrong; sending it again unchanged cannot succeed."""


class KindMissing(ClusterFailed, code="kind_missing", status=501, exit_code=9):
    """The Kubernetes API server does not know a kind: its CustomResourceDefinition is not installed."""


class WatchExpired(ClusterFailed, code="watch_expired", status=410):
    """What happened since the version that a watch goes on from is forgotten; list again."""


class RegistryFailed(HeadwayError, code="registry_failed", status=502, exit_code=9):
    """A registry of images cannot be reached, refused, or broke off."""

    def __init__(self, message: str, *, again: bool = False, **place: Any) -> None:
        """``again``: the same may succeed when it is done once more."""
        super().__init__(message, **place)
        self.again = again


class DigestMismatch(RegistryFailed, code="digest_mismatch"):
    """What was read is not what its digest promises: damaged on the way, or tampered with."""


class SourceFailed(HeadwayError, code="source_failed", status=502, exit_code=9):
    """The MLflow server that holds the model does not answer, or refuses."""


class MissingBinary(HeadwayError, code="missing_binary", status=500, exit_code=9):
    """A program Headway needs is not on this machine."""


class MissingExtra(HeadwayError, code="missing_extra", status=500, exit_code=9):
    """An optional dependency is not installed; the message names the extra."""


def tree(root: type[HeadwayError] = HeadwayError) -> list[type[HeadwayError]]:
    """Every class of the tree, parents before children, in order of definition."""
    return [root, *(found for child in root.__subclasses__() for found in tree(child))]
