"""``spec.jobs``: how a model's jobs are kept, carried out and tried again. It makes no new version."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from headway.domain.jobs import RetryPolicy
from headway.domain.quantities import byte_count, seconds
from headway.domain.scaling_spec import Count, Pause, Positive
from headway.domain.spec_part import Part
from headway.domain.spec_values import Bytes, Duration, EnvName

MOST_TIMEOUT_S = 7 * 86_400.0
MOST_KEPT_S = 90 * 86_400.0
MOST_RESULT = 1024**3
ExceptionName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]*$", max_length=200)]


class JobBackoff(Part):
    """The wait before the next attempt: ``initial`` times ``factor`` for each attempt before, at most ``max``."""

    initial: Duration = "1s"
    factor: float = Field(default=2.0, ge=1, le=10)
    max: Duration = "5m"
    jitter: float = Field(default=0.2, ge=0, le=1, description="The wait is longer or shorter by up to this share.")


class JobWorkers(Part):
    """Processes that carry jobs out. Their number follows the queue, for each version that has jobs."""

    min: Count = Field(default=0, description="Fewest for each version that takes traffic; 0: none while idle.")
    max: int = Field(default=8, ge=1, le=1000, description="Most for each version with jobs.")
    target: Positive = Field(default=1.0, description="Jobs, queued and running, per worker.")
    cooldown: Pause = Field(default="30s", description="Without a job, until the last worker goes.")
    scale_down_window: Pause = Field(
        default="30s", description="Of the wishes in this time the largest counts before workers go."
    )


class JobWebhooks(Part):
    secret_from_env: EnvName | None = Field(
        default=None,
        description="Variable of the control plane whose value signs webhooks; left out, a secret of the home's own.",
    )
    allow_private: bool = Field(
        default=False, description="true: webhooks may lead to loopback, private and link-local addresses."
    )
    max_tries: int = Field(default=10, ge=1, le=100, description="Then the delivery is given up.")


class Jobs(Part):
    max_attempts: int = Field(default=3, ge=1, le=1000, description="Attempts before a job has failed for good.")
    retry_on: list[ExceptionName] = Field(
        default=["Exception"],
        max_length=50,
        description="Exceptions of the model's that are worth another attempt; subclasses count. A lost worker "
        "always is, wrong input never.",
    )
    backoff: JobBackoff = JobBackoff()
    timeout: Duration = Field(default="1h", description="Time limit of one attempt; then its worker is killed.")
    version: Literal["pinned", "production"] = Field(
        default="pinned",
        description="pinned: a job runs on the version that took it in; production: on what takes traffic by then.",
    )
    max_queued: int = Field(default=10_000, ge=1, le=10_000_000, description="Jobs that may wait; beyond it 429.")
    result_ttl: Duration = Field(default="24h", description="How long a job and its result are kept after its end.")
    max_result_size: Bytes = Field(default="64Mi", description="A larger result fails the job.")
    grace_period: Pause = Field(
        default="10m", description="What a running job may still take when its worker is to go; then it is given back."
    )
    workers: JobWorkers = JobWorkers()
    webhooks: JobWebhooks = JobWebhooks()

    @model_validator(mode="after")
    def _sane(self) -> Jobs:
        if not 1.0 <= seconds(self.timeout) <= MOST_TIMEOUT_S:
            raise ValueError("timeout must be at least 1s and at most 168h")
        if not 1.0 <= seconds(self.result_ttl) <= MOST_KEPT_S:
            raise ValueError("resultTtl must be at least 1s and at most 2160h")
        if byte_count(self.max_result_size) > MOST_RESULT:
            raise ValueError("maxResultSize must be at most 1Gi")
        if seconds(self.backoff.initial) > seconds(self.backoff.max):
            raise ValueError("backoff.initial must be at most backoff.max")
        if self.workers.min > self.workers.max:
            raise ValueError("workers.min must be at most workers.max")
        return self

    def retry(self) -> RetryPolicy:
        """As it is stored with each job."""
        return RetryPolicy(
            max_attempts=self.max_attempts,
            initial_s=seconds(self.backoff.initial),
            factor=self.backoff.factor,
            most_s=seconds(self.backoff.max),
            jitter=self.backoff.jitter,
            retry_on=tuple(self.retry_on),
        )

    def document(self) -> dict[str, Any] | None:
        """As it is stored with the deployment: JSON with defaults filled in; None when there is nothing else."""
        return None if self == Jobs() else self.model_dump(mode="json", by_alias=True)

    @property
    def timeout_s(self) -> float:
        return seconds(self.timeout)

    @property
    def result_ttl_s(self) -> float:
        return seconds(self.result_ttl)

    @property
    def max_result_bytes(self) -> int:
        return byte_count(self.max_result_size)

    @property
    def grace_s(self) -> float:
        return seconds(self.grace_period)
