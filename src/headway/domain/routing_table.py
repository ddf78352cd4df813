"""The whole of what a gateway is told, as plain data. Built by ``headway.routing``, applied by adapters.

A table is complete and comparable: an adapter that is given an equal table does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from headway.domain.names import version_number

WEIGHT_TOTAL = 100


@dataclass(frozen=True, slots=True, order=True)
class Arm:
    """A version's share of production traffic, in percent; the arms of one model sum to 100."""

    version: str
    weight: int


def bucket_plan(arms: Iterable[Arm]) -> tuple[str, ...]:
    """Which version takes each of the 100 buckets: as many as its weight, contiguous, older versions first.

    A request falls into a random bucket, a sticky one always into the same. Contiguous runs in a fixed order
    keep most users where they are when weights move: from 90/10 to 80/20 exactly the ten buckets 80 to 89
    change hands. Empty for no arms.
    """
    ordered = sorted(arms, key=lambda arm: version_number(arm.version))
    return tuple(arm.version for arm in ordered for _ in range(arm.weight))


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """One ready replica: ``address`` is ``unix:/path`` or ``host:port``."""

    replica_id: str
    address: str


@dataclass(frozen=True, slots=True)
class VersionRoute:
    """One version's replicas and how they are called. No endpoints: the gateway answers 503 ``not_ready``."""

    version: str
    endpoints: tuple[Endpoint, ...]
    max_concurrency: int = 256
    """Requests in flight per replica; more wait in the gateway's queue."""
    timeout_s: float = 30.0
    """For one request, waiting in the gateway's queue included in it separately (same bound)."""
    max_body_bytes: int = 32 * 1024 * 1024
    """A request that announces a larger body is refused with 413."""
    hold_s: float = 0.0
    """How long a request waits for a first replica when none can be reached; 0: it is refused at once with 503."""
    workers: int = 1
    """Processes of one replica, behind one address. When one of several dies, the replica lives."""


@dataclass(frozen=True, slots=True)
class Sticky:
    """The same value of a header or cookie always meets the same version while the split stays."""

    kind: str
    """``header`` or ``cookie``. Without the header the arm is random; without the cookie one is set."""
    name: str


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that gets a copy of ``percent`` % of production requests; its answers are thrown away."""

    version: str
    percent: int = 100


@dataclass(frozen=True, slots=True)
class ModelRoute:
    """All routes of one model. ``versions`` holds every running version: arms, shadow, pinned ones."""

    model: str
    arms: tuple[Arm, ...]
    versions: tuple[VersionRoute, ...]
    sticky: Sticky | None = None
    shadow: Shadow | None = None


@dataclass(frozen=True, slots=True)
class GatewayToken:
    """A token that may call models through the gateway. Only its SHA-256 is known here."""

    name: str
    sha256: str
    models: tuple[str, ...] | None
    """None: every model."""
    expires_at: int | None
    """Seconds since the epoch; None: never."""


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """Everything. ``require_token`` False lets requests without a token pass; a bad token never passes."""

    models: tuple[ModelRoute, ...] = ()
    tokens: tuple[GatewayToken, ...] = field(default=(), repr=False)
    require_token: bool = False
    jobs: str | None = None
    """Address of the job server, as of an endpoint; None: jobs are off."""
