"""Bodies of the control API that start a rollout."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, WithJsonSchema

from headway.api.schemas import Body, DigestText, WholeNumber
from headway.domain.trials import AtMost

SourceText = Annotated[str, Field(min_length=1, max_length=2048)]


class MarginsBody(Body):
    """How much worse a version may be and still count as no worse."""

    latency: float = Field(default=0.10, ge=0, le=10)
    """Share of the base's p50 and p95."""
    latency_floor_s: float = Field(default=0.001, ge=0, le=3600)
    """Or so much, if that is more."""
    errors: float = Field(default=0.005, ge=0, le=1)
    """Share of requests."""
    outcome: float | None = Field(default=None, ge=0)
    """In the metric's own unit; left out: a tenth of the standard deviation of the base's values."""


class TrialBody(Body):
    """Raise the canary's share in steps on the evidence, and take it back on harm."""

    steps: list[Annotated[WholeNumber, Field(ge=1, le=100)]] | None = Field(default=None, max_length=50)
    """Shares in percent, rising, from the canary's to 100; left out: of 5, 10, 25, 50, 100 those above it."""
    at_least_s: float = Field(default=60.0, gt=0, le=30 * 86_400)
    """How long each step takes at least."""
    at_most_s: float = Field(default=3600.0, gt=0, le=30 * 86_400)
    """After so long in a step without enough evidence, ``then``."""
    then: Annotated[str, WithJsonSchema({"type": "string", "enum": list(AtMost)})] = "hold"
    confidence: float = Field(default=0.95, ge=0.5, lt=1)
    """That a version which is no worse is not rolled back."""
    margins: MarginsBody = MarginsBody()
    metrics: Annotated[list[str], Field(max_length=20)] | None = None
    """Feedback that each step waits for; left out: whatever feedback comes."""


class SourceBody(Body):
    """``uri`` as it was asked for, ``resolved`` what an alias stood for, the MLflow run, the server (no passwords)."""

    uri: SourceText
    resolved: SourceText | None = None
    run_id: SourceText | None = None
    tracking_uri: SourceText | None = None


class DeployBody(Body):
    """Make ``bundle`` (uploaded before) a version under ``spec`` and start its rollout.

    ``spec`` is a ModelDeployment document (JSON); ``canary`` gives the new version that share of the
    traffic instead of all of it; with ``auto`` that is the first step of a trial.
    """

    bundle: DigestText
    spec: dict[str, Any]
    canary: WholeNumber | None = Field(default=None, ge=1, le=99)
    auto: TrialBody | None = None
    """Left out: the canary stays as it is until somebody moves it."""
    source: SourceBody | None = None
    """Where the files were fetched from; kept with the version, for people."""


class VersionBody(Body):
    bundle: DigestText
    """Uploaded before."""
    spec: dict[str, Any]
    """A ModelDeployment document (JSON) that states ``spec.arm``."""
    source: SourceBody | None = None
    """As in :class:`DeployBody`."""


class DeployTogetherBody(Body):
    """Several versions of a model and, in each document's ``spec.arm``, its share of the traffic."""

    versions: list[VersionBody] = Field(min_length=1, max_length=20)
