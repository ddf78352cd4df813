"""Bodies of the control API about capacity plans. Instants are seconds since the epoch (UTC)."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from headway.api.schemas import Body, View


class BasisView(View):
    """What a plan was made of, or would be made of now."""

    version: str
    digest: str
    resources: dict[str, Any]
    """``cpu`` (cores, null: a core per worker), ``memory``, ``workers``."""
    requests: str
    """Digest of the requests that were sent; empty: not told."""


class PlanBody(Body):
    version: str = Field(max_length=20)
    """The version that was measured."""
    requests: str = Field(max_length=100)
    """Digest of the requests that were sent."""
    document: dict[str, Any]
    """What was measured and what follows from it."""


class PlanView(View):
    """A stored plan."""

    number: int
    at: float
    basis: BasisView
    stale: list[str]
    """What has changed since, in plain words; empty: the plan still holds."""
    document: dict[str, Any]


class PlanPage(View):
    """The newest plans, newest first, and what a plan made now would be of."""

    model: str
    now: BasisView
    plans: list[PlanView]
