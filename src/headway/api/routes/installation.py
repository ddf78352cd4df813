"""The installation itself: what it is, what it understands, whether it is well, and stopping it."""

from __future__ import annotations

from fastapi import APIRouter, FastAPI
from starlette.background import BackgroundTask
from starlette.responses import Response

from headway.api.access import Administrator, Caller, covered
from headway.api.answers import answer
from headway.api.openapi import public_refusals, refusals
from headway.api.parts import Parts
from headway.api.schemas import Health, InfoView, Stopping
from headway.domain.spec import json_schema


def add_routes(api: APIRouter, parts: Parts, described: FastAPI) -> None:
    """Everything that is of no single model."""

    @api.get(
        "/healthz",
        tags=["installation"],
        summary="Say whether the control plane answers",
        response_model=Health,
        responses=public_refusals(400, 500),
    )
    async def healthz() -> Response:
        """Needs no token and tells nothing else."""
        return answer(Health())

    @api.get(
        "/v1/info",
        tags=["installation"],
        summary="Show the installation",
        response_model=InfoView,
        responses=refusals(),
    )
    async def info(caller: Caller) -> Response:
        """Version, addresses, gateway, and how many models and replicas there are that the token covers."""
        view = parts.info()
        visible = covered(caller)
        if visible is not None:
            own = [s for s in parts.service.list() if s.deployment.name in visible]
            view = view.model_copy(update={"models": len(own), "replicas": sum(len(s.replicas) for s in own)})
        return answer(view)

    @api.get(
        "/v1/schema",
        tags=["installation"],
        summary="Show the JSON Schema of ModelDeployment",
        responses={**refusals(), 200: {"description": "A JSON Schema (2020-12)."}},
    )
    async def schema(caller: Caller) -> Response:
        """The schema that deployment documents are checked against."""
        return answer(json_schema())

    @api.get(
        "/v1/openapi.json",
        tags=["installation"],
        summary="Show this API's description",
        responses={**refusals(), 200: {"description": "An OpenAPI 3.1 document."}},
    )
    async def openapi(caller: Caller) -> Response:
        """The document you are reading."""
        return answer(described.openapi())

    @api.post(
        "/v1/shutdown",
        tags=["installation"],
        summary="Stop everything",
        status_code=202,
        response_model=Stopping,
        responses=refusals(),
    )
    async def shutdown(caller: Administrator) -> Response:
        """Stop replicas, gateway and control plane. What is deployed stays recorded and serves after the next start."""

        async def after_answer() -> None:
            # A coroutine, so that it runs on the event loop and not in a thread of the framework's pool.
            parts.shutdown()

        return answer(Stopping(), 202, after=BackgroundTask(after_answer))
