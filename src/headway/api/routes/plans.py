"""Capacity plans: kept, and told whether they still hold."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Body, Query
from starlette.responses import Response

from headway.api.access import ModelName
from headway.api.answers import answer
from headway.api.openapi import refusals, taking_json
from headway.api.parts import Parts
from headway.api.schemas_plans import BasisView, PlanBody, PlanPage, PlanView
from headway.control.plans import Standing
from headway.domain.plans import Basis

LIMIT = 1
MAX_LIMIT = 20
EXAMPLE = {"version": "v1", "requests": "sha256:…", "document": {"promise": "p95<1s"}}


def add_routes(api: APIRouter, parts: Parts) -> None:
    """``/v1/models/{model}/plans``."""
    plans = parts.plans

    @api.get(
        "/v1/models/{model}/plans",
        tags=["scaling"],
        summary="Read capacity plans",
        response_model=PlanPage,
        responses=refusals(404, 409),
    )
    async def read_plans(
        model: ModelName,
        requests: Annotated[
            str, Query(max_length=100, description="Digest of the requests that would be sent now, to compare.")
        ] = "",
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Only the newest so many.")] = LIMIT,
    ) -> Response:
        """The newest plans, newest first, each with what has changed since it was made."""
        now = plans.basis(model, requests)
        found = await plans.read(model, requests, limit)
        return answer(PlanPage(model=model, now=_basis(now), plans=[_view(one) for one in found]))

    @api.post(
        "/v1/models/{model}/plans",
        tags=["scaling"],
        summary="Keep a capacity plan",
        status_code=201,
        response_model=PlanView,
        responses=taking_json(404, 409),
    )
    async def add_plan(
        model: ModelName, body: Annotated[PlanBody, Body(openapi_examples={"plan": {"value": EXAMPLE}})]
    ) -> Response:
        """Keep what `headway plan` has measured, with the version, its resources and the requests it was made of."""
        return answer(_view(await plans.add(model, body.requests, body.version, body.document)), 201)


def _basis(basis: Basis) -> BasisView:
    return BasisView(**{**asdict(basis), "resources": dict(basis.resources)})


def _view(standing: Standing) -> PlanView:
    record = standing.record
    return PlanView(
        number=record.number,
        at=record.at,
        basis=_basis(record.basis),
        stale=list(standing.stale),
        document=dict(record.document),
    )
