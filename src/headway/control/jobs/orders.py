"""What a caller may ask of a job, checked. Pure: ``at`` is when the call came in, in seconds since the epoch.

Times are RFC 3339 (with an offset), or spans like ``90s``, ``10m``, ``2h`` from now. ``now`` is the moment at which the
gateway took the call, so a call that it has to send again asks for the same.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from headway.domain.errors import InvalidInput
from headway.domain.jobs import DEFAULT_PRIORITY, PRIORITIES
from headway.domain.quantities import span_seconds

DEFAULT_ROUTE: Final = "/predict"
_OPEN_INFERENCE: Final = re.compile(
    r"/v2/models/([A-Za-z0-9_-][A-Za-z0-9._-]{0,99})(/versions/[A-Za-z0-9_-][A-Za-z0-9._-]{0,99})?/infer"
)
ROUTES: Final = ("/predict", "/invocations", "/api/v1.0/predictions", "/api/v0.1/predictions")
FARTHEST_S: Final = 90 * 86_400.0
"""Times further away are refused."""
MOST_KEY_CHARS: Final = 200
GATEWAY_KEY: Final = "headway:"
"""Keys that begin so are the gateway's own, one for each call without a key."""
MOST_BATCH: Final = 10_000


@dataclass(frozen=True, slots=True)
class Order:
    """What all jobs of one call have in common."""

    model: str
    drawn: str | None
    """The version that the gateway drew for the call; None: the model has no split."""
    named: str | None
    """The version that the path names."""
    client: str = ""
    request_id: str = ""
    route: str = DEFAULT_ROUTE
    content_type: str = "application/json"
    content_encoding: str = ""
    key: str | None = None
    """Idempotency key."""
    webhook: str | None = None
    asked: str = ""
    """What the call asks for, in its own words: see ``NewJob.asked``."""


@dataclass(frozen=True, slots=True)
class Item:
    """One job of the call."""

    body: bytes
    priority: int = DEFAULT_PRIORITY
    not_before: float | None = None
    deadline_at: float | None = None
    asked: str = ""
    """As ``Order.asked``, of this job alone."""


def check_route(route: str, model: str) -> str:
    """The path of a server of ``model`` that predicts. Raises ``InvalidInput``."""
    found = _OPEN_INFERENCE.fullmatch(route)
    if route not in ROUTES and (found is None or found[1] != model):
        known = ", ".join((*ROUTES, f"/v2/models/{model}/infer"))
        raise InvalidInput(
            f"{route[:80]!r} is no route that predicts with {model}", where="route", hint=f"routes: {known}"
        )
    return route


def check_priority(text: str, where: str = "priority") -> int:
    """0 to 9. Raises ``InvalidInput``."""
    if len(text) == 1 and text.isascii() and text.isdigit() and int(text) in PRIORITIES:
        return int(text)
    raise InvalidInput(f"{text[:20]!r} is no priority", where=where, hint=f"0 to {PRIORITIES[-1]}; larger is sooner")


def check_key(key: str) -> str:
    """A caller's idempotency key. Raises ``InvalidInput``."""
    if not 1 <= len(key) <= MOST_KEY_CHARS or not key.isascii() or not key.isprintable():
        raise InvalidInput(f"must be 1 to {MOST_KEY_CHARS} printable ASCII characters", where="Idempotency-Key")
    if key.startswith(GATEWAY_KEY):
        raise InvalidInput(f"must not begin with {GATEWAY_KEY!r}", where="Idempotency-Key")
    return key


def moment(text: str, where: str, at: float) -> float:
    """Seconds since the epoch. Raises ``InvalidInput`` for what is no time, or too far away."""
    found = _moment(text.strip(), where, at)
    if abs(found - at) > FARTHEST_S:
        raise InvalidInput(f"{text[:40]!r} is more than {FARTHEST_S / 86_400:.0f} days away", where=where)
    return found


def _moment(text: str, where: str, at: float) -> float:
    hint = "write 2030-01-31T12:00:00Z, or a span from now: 90s, 10m, 2h, 1d"
    if len(text) <= 20:
        try:
            return at + span_seconds(text)
        except ValueError:
            pass
    try:
        parsed = datetime.fromisoformat(text) if 16 <= len(text) <= 40 else None
    except ValueError:
        parsed = None
    if parsed is None or parsed.tzinfo is None:
        raise InvalidInput(f"{text[:40]!r} is no time", where=where, hint=hint)
    return parsed.timestamp()


def check_times(item: Item, at: float) -> Item:
    """``item``, if its times fit one another. Raises ``InvalidInput``."""
    if item.deadline_at is not None and item.deadline_at <= max(at, item.not_before or at):
        raise InvalidInput("the deadline has to come after the call and after notBefore", where="deadline")
    return item
