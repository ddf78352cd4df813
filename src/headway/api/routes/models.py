"""Models: what is deployed, and taking it away."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from headway.api.access import Caller, ModelName, covered
from headway.api.answers import answer
from headway.api.openapi import refusals
from headway.api.parts import Parts
from headway.api.samples import main_version, sample_in
from headway.api.schemas import Deleted, ModelSummary, ModelView, VersionNameText, VersionView
from headway.api.specs import spec_document
from headway.api.views import model_summary, model_view, version_view
from headway.domain.errors import NotFound


def add_routes(api: APIRouter, parts: Parts) -> None:
    """``/v1/models`` and what can be read of one model."""
    service, gateway = parts.service, parts.gateway

    @api.get(
        "/v1/models", tags=["models"], summary="List models", response_model=list[ModelSummary], responses=refusals()
    )
    async def list_models(caller: Caller) -> Response:
        """Every model that the token covers, by name."""
        visible = covered(caller)
        url = gateway.status().url
        found = [s for s in service.list() if visible is None or s.deployment.name in visible]
        return answer([model_summary(snapshot, url) for snapshot in found])

    @api.get(
        "/v1/models/{model}",
        tags=["models"],
        summary="Show a model",
        response_model=ModelView,
        responses=refusals(404),
    )
    async def get_model(model: ModelName) -> Response:
        """The deployment in full: its versions, traffic (wished and live) and replicas."""
        return answer(model_view(service.get(model), gateway.status().url))

    @api.delete(
        "/v1/models/{model}",
        tags=["models"],
        summary="Delete a model",
        status_code=202,
        response_model=Deleted,
        responses=refusals(404, 409),
    )
    async def delete_model(
        model: ModelName,
        cancel_jobs: Annotated[
            bool, Query(description="Cancel its open jobs, too; without it, a model that has some is not deleted.")
        ] = False,
    ) -> Response:
        """Take its routes away, let requests in flight finish, stop its replicas, forget it. Its events stay."""
        return answer(Deleted(model=model, cursor=await service.delete(model, cancel_jobs=cancel_jobs)), 202)

    @api.get(
        "/v1/models/{model}/versions",
        tags=["models"],
        summary="List a model's versions",
        response_model=list[VersionView],
        responses=refusals(404),
    )
    async def list_versions(model: ModelName) -> Response:
        """Every version, oldest first; failed ones with the reason."""
        deployment = service.get(model).deployment
        return answer([version_view(version, deployment) for version in deployment.versions])

    @api.get(
        "/v1/models/{model}/sample",
        tags=["models"],
        summary="Show a model's sample",
        responses={**refusals(404), 200: {"description": "A body that `/predict` takes, as the bundle holds it."}},
    )
    async def get_sample(
        model: ModelName,
        version: Annotated[
            VersionNameText | None, Query(description="Of this version; default: the one with most of the traffic.")
        ] = None,
    ) -> Response:
        """The example request that a version is tried with before it serves; `not_found` without one."""
        deployment = service.get(model).deployment
        name = version or main_version(deployment)
        found = deployment.version(name) if name else None
        body = None if found is None else sample_in(await parts.bundles.path(found.bundle_digest), found.spec)
        if body is None:
            raise NotFound(
                f"{model} has no sample", hint="put a sample.json beside the model, or name one: spec.model.sample"
            )
        return Response(body, media_type="application/json")

    @api.get(
        "/v1/models/{model}/spec",
        tags=["models"],
        summary="Show a model's spec",
        responses={**refusals(404), 200: {"description": "A ModelDeployment document (see `GET /v1/schema`)."}},
    )
    async def get_spec(model: ModelName) -> Response:
        """The ModelDeployment document of what is deployed, with defaults filled in; it can be applied again."""
        return answer(spec_document(service.get(model).deployment))
