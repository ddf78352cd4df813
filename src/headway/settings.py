"""Settings of a Headway installation: environment variables ``HEADWAY_…``, read once at start."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, SettingsConfigDict

from headway.domain.quantities import byte_count, span_seconds

DEFAULT_DATA_PORT = 8420
DEFAULT_CONTROL_PORT = 8421
UNLIMITED: Final = "unlimited"
LEAST_RETENTION_S: Final = 3600.0
LEAST_SIZE: Final = 64 * 1024 * 1024


def _checked(check: Callable[[str], None]) -> AfterValidator:
    """Text that ``check`` raises no ``ValueError`` for; its words are the whole message."""

    def run(text: str) -> str:
        try:
            check(text)
        except ValueError as error:
            raise PydanticCustomError("setting", "{problem}", {"problem": str(error)}) from None
        return text

    return AfterValidator(run)


def _check_store(text: str) -> None:
    if text.startswith("s3://"):
        found = urlsplit(text)
        if "@" in found.netloc:  # not shown: it may be a secret
            raise ValueError("the bucket's address cannot hold a key; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        if not found.netloc or found.query or found.fragment:
            raise ValueError(f"{text[:80]!r} names no bucket; write s3://BUCKET or s3://BUCKET/PREFIX")
    elif "://" in text:
        raise ValueError(f"{text[:80]!r} cannot hold the query log; give a folder or s3://BUCKET/PREFIX")
    elif not Path(text).expanduser().is_absolute():
        raise ValueError(f"{text[:80]!r} is not absolute; give a whole path or s3://BUCKET/PREFIX")


def _check_jobs_database(text: str) -> None:
    # What was given is not shown: it may hold a password.
    if not text.startswith("postgresql://") or not urlsplit(text).hostname:
        raise ValueError("jobs are stored in PostgreSQL or in the home; write postgresql://USER:PASSWORD@HOST/DATABASE")


def _check_webhook_secret(text: str) -> None:
    # What was given is not shown.
    if len(text) < 24:
        raise ValueError("a secret of webhooks has at least 24 characters; best whsec_ and 32 random bytes in Base64")


def _check_operator_database(text: str) -> None:
    if text.startswith("postgresql://") and urlsplit(text).hostname:
        return
    if "://" in text or not Path(text).is_absolute():
        raise ValueError("events are stored in PostgreSQL, postgresql://USER:PASSWORD@HOST/DATABASE, or a file, /PATH")


def _check_broker(text: str) -> None:
    if not text.startswith(("amqp://", "amqps://")) or not urlsplit(text).hostname:
        raise ValueError("the broker is RabbitMQ; write amqp://USER:PASSWORD@HOST/VHOST")


def _check_broker_name(text: str) -> None:
    # AMQP 0-9-1: a short string; names that begin with amq. are the broker's own.
    if not text or len(text.encode()) > 255 or text.startswith("amq."):
        raise ValueError(f"{text[:80]!r} is no name; 1 to 255 bytes that do not begin with amq.")


def _check_jobs_files(path: Path) -> Path:
    if not path.expanduser().is_absolute():
        raise PydanticCustomError("setting", "{problem}", {"problem": f"{str(path)[:80]!r} is not absolute"})
    return path.expanduser()


def _check_retention(text: str) -> None:
    if text != UNLIMITED and span_seconds(text) < LEAST_RETENTION_S:
        raise ValueError(f"{text} is too short; at least 1h, or {UNLIMITED}")


def _check_size(text: str) -> None:
    if text != UNLIMITED and byte_count(text) < LEAST_SIZE:
        raise ValueError(f"{text} is too small; at least 64Mi, or {UNLIMITED}")


class Settings(BaseSettings):
    """Every setting with its default; ``docs/reference/settings.md`` is checked against it."""

    model_config = SettingsConfigDict(env_prefix="HEADWAY_", extra="ignore", frozen=True)

    home: Path = Field(default_factory=lambda: Path.home() / ".headway", description="State, bundles, logs.")
    data_host: str = Field(default="127.0.0.1", description="Address of the data listener (the gateway).")
    data_port: int = Field(default=DEFAULT_DATA_PORT, ge=1, le=65535, description="Port of the data listener.")
    control_host: str = Field(default="127.0.0.1", description="Address of the control listener.")
    control_port: int = Field(default=DEFAULT_CONTROL_PORT, ge=1, le=65535, description="Port of the control API.")
    url: str | None = Field(default=None, description="Control API that the CLI talks to; default: this home's.")
    token: str | None = Field(
        default=None, repr=False, description="Token for the control API; default: this home's own admin token."
    )
    haproxy: str | None = Field(default=None, description="HAProxy binary to use instead of the shipped one.")
    keep_alive_s: float = Field(default=5.0, gt=0, description="How long the gateway keeps an idle connection open.")
    query_log: bool = Field(default=True, description="Whether requests are logged.")
    query_log_store: Annotated[str, _checked(_check_store)] | None = Field(
        default=None, description="Where compacted records are kept: a folder or s3://BUCKET/PREFIX; default: the home."
    )
    query_log_retention: Annotated[str, _checked(_check_retention)] = Field(
        default="30d", description="How long records are kept."
    )
    query_log_max_size: Annotated[str, _checked(_check_size)] = Field(
        default="20Gi", description="How much room compacted records may take; beyond it the oldest go."
    )
    payload_max_size: Annotated[str, _checked(_check_size)] = Field(
        default="1Gi", description="How much room sampled payloads may take; beyond it the oldest go."
    )
    decisions_retention: Annotated[str, _checked(_check_retention)] = Field(
        default="7d", description="How long scaling decisions are kept; the newest thousand of a version stay."
    )

    jobs: bool = Field(default=True, description="Whether jobs are taken and carried out.")
    jobs_database: Annotated[str, _checked(_check_jobs_database)] | None = Field(
        default=None, repr=False, description="Where jobs are stored: postgresql://…; default: a file in the home."
    )
    jobs_broker: Annotated[str, _checked(_check_broker)] | None = Field(
        default=None, repr=False, description="RabbitMQ that tells job servers of work: amqp://…; default: none."
    )
    jobs_max_workers: int | None = Field(
        default=None, ge=1, le=10_000, description="Workers of all models together; default: two for each core."
    )
    jobs_files: Annotated[Path, AfterValidator(_check_jobs_files)] | None = Field(
        default=None, description="Folder for large inputs and results of jobs; default: in the home."
    )
    jobs_webhook_secret: Annotated[str, _checked(_check_webhook_secret)] | None = Field(
        default=None, repr=False, description="Signs webhooks of jobs; default: a secret of the home's own."
    )
    events_broker: Annotated[str, _checked(_check_broker)] | None = Field(
        default=None, repr=False, description="RabbitMQ that is told of every event: amqp://…; default: none."
    )
    events_exchange: Annotated[str, _checked(_check_broker_name)] = Field(
        default="headway.events", description="Topic exchange that events are published to."
    )
    events_queue: Annotated[str, _checked(_check_broker_name)] | None = Field(
        default=None, description="Queue that is made for all events, so that none is lost before somebody listens."
    )

    operator_database: Annotated[str, _checked(_check_operator_database)] | None = Field(
        default=None,
        repr=False,
        description="Where headway operator keeps events: postgresql://… or a file; default: it keeps none.",
    )

    @property
    def home_path(self) -> Path:
        """``home``, absolute, with ``~`` resolved."""
        return self.home.expanduser().absolute()

    @property
    def control_url(self) -> str:
        """Where the CLI on this machine finds the control API."""
        host = self.control_host
        reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        return f"http://{reachable}:{self.control_port}"

    @property
    def most_workers(self) -> int:
        """``jobs_max_workers``, or two for each core: workers often wait, for a disk, a network, a lock."""
        return self.jobs_max_workers or 2 * (os.cpu_count() or 1)

    @property
    def query_log_max_age_s(self) -> float | None:
        """``query_log_retention`` in seconds; None: no limit."""
        return None if self.query_log_retention == UNLIMITED else span_seconds(self.query_log_retention)

    @property
    def decisions_max_age_s(self) -> float | None:
        """``decisions_retention`` in seconds; None: no limit."""
        return None if self.decisions_retention == UNLIMITED else span_seconds(self.decisions_retention)

    @property
    def query_log_max_bytes(self) -> int | None:
        """``query_log_max_size`` in bytes; None: no limit."""
        return None if self.query_log_max_size == UNLIMITED else byte_count(self.query_log_max_size)

    @property
    def payload_max_bytes(self) -> int | None:
        """``payload_max_size`` in bytes; None: no limit."""
        return None if self.payload_max_size == UNLIMITED else byte_count(self.payload_max_size)


def is_loopback(host: str) -> bool:
    """Whether a listener on ``host`` can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
