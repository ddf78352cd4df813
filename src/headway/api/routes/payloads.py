"""Sampled payloads: what some requests asked and what was answered, where a deployment asks for it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import Response

from headway.api.access import ModelName
from headway.api.answers import answer
from headway.api.openapi import refusals
from headway.api.parts import Parts
from headway.api.routes.query_log import Since, Until, span_ns
from headway.api.schemas import View
from headway.domain.query_log import Payload

LIMIT = 100
MAX_LIMIT = 1000


class PayloadView(View):
    """One request that was kept whole, without the values of redacted fields."""

    at: float
    ts_ns: int
    """When it was kept, exactly: nanoseconds since the epoch."""
    version: str
    stream: str
    seq: int
    """With ``stream``: names its record in the log."""
    request_id: str
    route: str
    status: int
    input: Any
    """A JSON value; ``{"text": …}``, ``{"base64": …}`` for other bodies, ``{"omitted": why}`` for those not kept."""
    output: Any


class PayloadList(View):
    """The newest of the span, oldest first."""

    model: str
    since: float
    until: float
    payloads: list[PayloadView]


def add_routes(api: APIRouter, parts: Parts) -> None:
    """``/v1/models/{model}/payloads``."""

    @api.get(
        "/v1/models/{model}/payloads",
        tags=["query log"],
        summary="Read sampled payloads",
        response_model=PayloadList,
        responses={200: {"description": "Requests that were kept whole, oldest first."}, **refusals(404)},
    )
    async def read_payloads(
        model: ModelName,
        since: Since = "1h",
        until: Until = None,
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Only the newest so many.")] = LIMIT,
    ) -> Response:
        """Requests with their answers, of a deployed model or a deleted one. None unless its spec asks to keep some."""
        service = parts.payloads
        since_ns, until_ns = span_ns(since, until, service.now_ns())
        found = await service.newest(model, since_ns, until_ns, limit)

        def content() -> Response:
            listed = [_values(payload) for payload in found]
            return answer({"model": model, "since": since_ns / 1e9, "until": until_ns / 1e9, "payloads": listed})

        return await asyncio.to_thread(content)


def _values(payload: Payload) -> dict[str, Any]:
    """A ``PayloadView``."""
    return {"at": payload.ts_ns / 1e9, **{name: getattr(payload, name) for name in Payload.__slots__}}
