"""Bodies of the control API, shared by the API itself and the Python client. All under ``/v1``.

Weights are whole percents that sum to 100. Instants are seconds since the epoch (UTC).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from headway.domain import names
from headway.domain.tokens import Scope


def _named(rule: str) -> WithJsonSchema:
    """Describe a text by the pattern that ``headway.domain.names`` checks it with."""
    return WithJsonSchema({"type": "string", "pattern": f"^{rule}$"})


def _whole(value: object) -> object:
    """``3.0`` is an integer to JSON Schema, and some clients have no other numbers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WholeNumber = Annotated[int, BeforeValidator(_whole)]
ModelNameText = Annotated[str, _named(names.MODEL_NAME.pattern)]
VersionNameText = Annotated[str, _named(names.VERSION_NAME.pattern)]
TokenNameText = Annotated[str, _named(names.TOKEN_NAME.pattern)]
DigestText = Annotated[str, _named(names.DIGEST.pattern)]
ScopeText = Annotated[str, WithJsonSchema({"type": "string", "enum": list(Scope)})]


class Body(BaseModel):
    """A request body: unknown fields are refused, and so are values of another type (``"3"`` is no number)."""

    model_config = ConfigDict(extra="forbid", strict=True)


class View(BaseModel):
    """An answer: readers ignore fields they do not know, so that an older client can talk to a newer server."""

    model_config = ConfigDict(extra="ignore")


class Urls(View):
    """Where the model answers; ``pinned`` by version name."""

    production: str
    pinned: dict[str, str] = {}


class FailureView(View):
    code: str
    message: str
    where: str | None = None
    hint: str | None = None
    log_tail: str = ""


class ArmView(View):
    version: str
    weight: int


class StickyView(View):
    kind: str
    name: str


class ShadowView(View):
    version: str
    percent: int


class ScalingRange(View):
    """Bounds within which triggers move the replicas of each version in the split."""

    min_replicas: int
    max_replicas: int
    shadow: bool = False
    """Decisions are recorded and not carried out."""


class SourceView(View):
    uri: str
    resolved: str | None = None
    run_id: str | None = None
    tracking_uri: str | None = None


class VersionView(View):
    name: str
    digest: str
    bundle_digest: str
    state: str
    state_since: float
    created_at: float
    lock_digest: str | None = None
    python: str | None = None
    failure: FailureView | None = None
    source: SourceView | None = None
    """Where its files were fetched from; None: a folder."""
    weight: int | None = None
    """Its share of production traffic now; None when it is not in the split."""
    wished: int | None = None
    """Wished replicas now; None when it is not to run."""
    spec: dict[str, Any] = {}


class ReplicaView(View):
    name: str
    version: str
    phase: str
    ready: bool
    restarts: int
    pid: int | None = None
    reason: str | None = None
    failure: FailureView | None = None
    started_at: float | None = None
    ready_at: float | None = None
    rss_bytes: int | None = None


class JobsView(View):
    """How a model's jobs stand, as seen a moment ago."""

    queued: int
    """Due now."""
    delayed: int
    """Queued, and not due yet."""
    running: int
    workers: int
    """Wished, of all versions together."""
    min_workers: int
    """For each version that takes traffic."""
    max_workers: int
    """For each version with jobs."""
    version: str
    """``pinned`` or ``production``: which version runs a job."""


class TrialView(View):
    """A canary that is moved on the evidence, or the last one that was."""

    base: str
    version: str
    state: str
    """``running``, ``held``, ``promoted``, ``rolled_back`` or ``stopped``."""
    reason: str
    """Why it is held or ended."""
    share: int
    """Of the version in the present step, in percent."""
    steps: list[int]
    since: float | None
    """When the split of this step went live; evidence counts from then. None: not yet."""
    began_at: float
    ended_at: float | None
    rules: dict[str, Any]


class ModelView(View):
    """A deployment in full."""

    name: str
    state: str
    message: str
    created_at: float
    generation: int
    replicas: int
    """Wished per version in the split; with ``scaling`` only what a version begins with, see ``VersionView.wished``."""
    scaling: ScalingRange | None = None
    """None: the number of replicas is fixed."""
    ready_replicas: int
    target: list[ArmView]
    live: list[ArmView]
    previous: list[ArmView]
    sticky: StickyView | None = None
    shadow: ShadowView | None = None
    urls: Urls
    versions: list[VersionView]
    replica_list: list[ReplicaView]
    jobs: JobsView | None = None
    """None: this installation carries out no jobs."""
    worker_list: list[ReplicaView] = []
    trial: TrialView | None = None
    """None: there is no canary that is moved on the evidence, and was none."""


class ModelSummary(View):
    """A deployment in a list."""

    name: str
    state: str
    message: str
    live: list[ArmView]
    replicas: int
    scaling: ScalingRange | None = None
    wished: int | None = None
    """Wished replicas of all versions in the live split together; None: an older server, which does not say."""
    ready_replicas: int
    created_at: float
    url: str


class DeployAnswer(View):
    model: str
    version: str
    digest: str
    unchanged: bool
    """True: this content is what serves already; nothing was started."""
    cursor: int
    """Follow the rollout with ``GET /v1/events?after=<cursor>&model=<model>``."""
    urls: Urls
    versions: list[str] = []
    """Those of several documents, in their order; ``version`` is the one with the largest share."""


class DiffBody(Body):
    bundle: DigestText
    """Digest of the local bundle; need not be uploaded."""
    spec: dict[str, Any]


class DiffLine(View):
    path: str
    """``spec.scaling.minReplicas``, ``bundle``."""
    old: Any = None
    new: Any = None


class DiffAnswer(View):
    exists: bool
    changes: list[DiffLine]
    new_version: bool
    """True when applying it would make a new version."""


class TrafficBody(Body):
    weights: dict[VersionNameText, Annotated[WholeNumber, Field(ge=0, le=100)]]
    """Every version of the split, by name; 0 keeps a version running without production traffic."""


class PromoteBody(Body):
    version: VersionNameText | None = None
    """Default: the newest version in the split."""


class ScaleBody(Body):
    replicas: WholeNumber = Field(ge=0, le=1000)


class Change(View):
    """Answer of traffic, promote, rollback, scale: the change is accepted and on its way."""

    model: str
    target: list[ArmView]
    replicas: int
    cursor: int
    scaling: ScalingRange | None = None
    """None: the number of replicas is fixed."""
    note: str | None = None
    """What else one should know, in a sentence."""


class Deleted(View):
    """Answer of delete: the model drains and is gone with the event ``deployment_deleted.v1``."""

    model: str
    cursor: int


class BundleView(View):
    """Answer of a bundle upload; ``created`` is false when it was here already."""

    digest: str
    created: bool


class Stopping(View):
    """Answer of shutdown."""

    stopping: bool = True


class Health(View):
    """Answer of ``/healthz``: the control plane's process answers."""

    status: str = "ok"


class ErrorDetail(View):
    code: str
    """One of ``docs/reference/errors.md``."""
    message: str
    where: str | None = None
    """The place in the input."""
    hint: str | None = None
    """What to do about it."""
    details: dict[str, Any] | None = None


class ErrorBody(View):
    """Every answer with a status of 400 or above."""

    error: ErrorDetail


class EventView(View):
    cursor: int
    at: float
    type: str
    model: str | None = None
    version: str | None = None
    replica: str | None = None
    data: dict[str, Any] = {}


class TokenBody(Body):
    name: TokenNameText
    scope: ScopeText = "predict"
    models: Annotated[list[ModelNameText], Field(json_schema_extra={"minItems": 1})] | None = None
    """Leave it out to cover all of them; an admin token always does."""
    expires_in_s: float | None = Field(default=None, gt=0, json_schema_extra={"maximum": 3_153_600_000})


class TokenView(View):
    name: str
    scope: str
    models: list[str] | None
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    state: str
    """``active``, ``expired`` or ``revoked``."""


class TokenCreated(TokenView):
    token: str
    """The secret, shown this once."""


class RelayView(View):
    """How events get to the broker."""

    exchange: str
    connected: bool
    relayed: int
    """Cursor of the last event that the broker has confirmed."""
    waiting: int
    lag_s: float
    """Age of the oldest event that waits; 0 when none does."""
    problem: str | None


class InfoView(View):
    """``GET /v1/info``: the installation at a glance."""

    version: str
    pid: int
    started_at: float
    home: str
    control_url: str
    gateway_url: str
    gateway_running: bool
    gateway_pid: int | None
    gateway_version: str
    gateway_adopted: bool
    models: int
    replicas: int
    require_token: bool
    relay: RelayView | None = None
    """None: events are told to no broker."""
    python: str = ""
    """Version of the interpreter that models run with; empty from a server that does not say."""
