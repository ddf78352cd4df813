"""Rollouts: new versions, and which version gets how much traffic."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body
from starlette.responses import Response

from headway.api.access import ModelName
from headway.api.answers import answer
from headway.api.openapi import refusals, taking_json
from headway.api.parts import Parts
from headway.api.ports import Accepted
from headway.api.scaling_views import scaling_range
from headway.api.schemas import (
    Change,
    DeployAnswer,
    DiffAnswer,
    DiffBody,
    DiffLine,
    PromoteBody,
    ScaleBody,
    TrafficBody,
)
from headway.api.schemas_deploy import DeployBody, DeployTogetherBody, TrialBody, VersionBody
from headway.api.views import arm_views, urls, urls_with
from headway.domain.deployments import Deployment, Source
from headway.domain.errors import InvalidInput, InvalidSpec
from headway.domain.names import check_digest, check_version_name
from headway.domain.spec import ModelDeployment, parse
from headway.domain.trials import STEPS, TrialRules, rules_of

BUNDLE = "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"
SPEC = {"apiVersion": "headway.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": "iris"}, "spec": {}}
TOGETHER = [
    {"bundle": BUNDLE, "spec": {**SPEC, "spec": {"arm": {"weight": 100 - weight}, "env": []}}} for weight in (10, 90)
]


def add_routes(api: APIRouter, parts: Parts) -> None:
    """What changes a model."""
    service, gateway = parts.service, parts.gateway

    def deployed(accepted: Accepted) -> Response:
        deployment, version = accepted.deployment, accepted.version
        url = gateway.status().url
        answered = DeployAnswer(
            model=deployment.name,
            version=version or "",
            digest=deployment.version(version).digest if version else "",
            unchanged=accepted.unchanged,
            cursor=accepted.cursor,
            urls=urls_with(deployment, url, version) if version else urls(deployment, url),
            versions=[*accepted.versions],
        )
        return answer(answered, 200 if accepted.unchanged else 202)

    def changed(accepted: Accepted, note: str | None = None) -> Response:
        deployment = accepted.deployment
        view = Change(
            model=deployment.name,
            target=arm_views(deployment.target),
            replicas=deployment.replicas,
            cursor=accepted.cursor,
            scaling=scaling_range(deployment),
            note=note,
        )
        return answer(view, 202)

    @api.post(
        "/v1/models/{model}/deploy",
        tags=["rollouts"],
        summary="Deploy a version",
        status_code=202,
        response_model=DeployAnswer,
        responses={
            200: {"model": DeployAnswer, "description": "This content is what serves already; nothing was started."},
            **taking_json(404, 409, 422),
        },
    )
    async def deploy(
        model: ModelName,
        body: Annotated[
            DeployBody,
            Body(openapi_examples={"canary": {"value": {"bundle": BUNDLE, "spec": SPEC, "canary": 10}}}),
        ],
    ) -> Response:
        """Make an uploaded bundle a version and start its rollout; the version that serves goes on serving until
        the new one is ready, and for good when it never becomes so. With `auto`, the share of a canary is raised in
        steps on the evidence, and taken back on harm; see `GET /v1/models/{model}/comparison`.
        """
        spec = _parse_for(model, body)
        rules = None if body.auto is None else _rules(body.auto, body.canary)
        canary = body.canary if rules is None else rules.steps[0]
        return deployed(await service.deploy(spec, body.bundle, canary, rules, _source(body)))

    @api.post(
        "/v1/models/{model}/deploy-together",
        tags=["rollouts"],
        summary="Deploy several versions and their split",
        status_code=202,
        response_model=DeployAnswer,
        responses={
            200: {"model": DeployAnswer, "description": "All of it serves like this already; nothing was started."},
            **taking_json(404, 409, 422),
        },
    )
    async def deploy_together(
        model: ModelName,
        body: Annotated[DeployTogetherBody, Body(openapi_examples={"canary": {"value": {"versions": TOGETHER}}})],
    ) -> Response:
        """Make uploaded bundles versions and start one rollout to the split that their documents state in `spec.arm`:
        weights that sum to 100, and a shadow if there is one. What serves goes on serving until all are ready.
        """
        parts = [(_parse_for(model, one), one.bundle) for one in body.versions]
        sources = {one.bundle: source for one in body.versions if (source := _source(one)) is not None}
        return deployed(await service.deploy_together(parts, sources))

    @api.post(
        "/v1/models/{model}/diff",
        tags=["rollouts"],
        summary="Tell what a deploy would change",
        response_model=DiffAnswer,
        responses=taking_json(404, 409, 422),
    )
    async def diff(
        model: ModelName,
        body: Annotated[DiffBody, Body(openapi_examples={"diff": {"value": {"bundle": BUNDLE, "spec": SPEC}}})],
    ) -> Response:
        """Compare a document and a bundle with what is deployed. Changes nothing; the bundle need not be here."""
        found = service.diff(_parse_for(model, body), body.bundle)
        changes = [DiffLine(path=path, old=old, new=new) for path, old, new in found.changes]
        return answer(DiffAnswer(exists=found.exists, changes=changes, new_version=found.new_version))

    @api.put(
        "/v1/models/{model}/traffic",
        tags=["rollouts"],
        summary="Split the traffic",
        status_code=202,
        response_model=Change,
        responses=taking_json(404, 409),
    )
    async def set_traffic(
        model: ModelName,
        body: Annotated[TrafficBody, Body(openapi_examples={"split": {"value": {"weights": {"v1": 90, "v2": 10}}}})],
    ) -> Response:
        """Give each version its share of production requests, in whole percents that sum to 100.

        A version that is not named leaves the split and drains; one at 0 keeps running.
        """
        for version in body.weights:
            check_version_name(version, where="weights")
        return changed(await service.set_traffic(model, body.weights))

    @api.post(
        "/v1/models/{model}/promote",
        tags=["rollouts"],
        summary="Promote a version",
        status_code=202,
        response_model=Change,
        responses=taking_json(404, 409),
    )
    async def promote(
        model: ModelName,
        body: Annotated[
            PromoteBody | None, Body(openapi_examples={"newest": {"value": {}}, "named": {"value": {"version": "v2"}}})
        ] = None,
    ) -> Response:
        """Give a version all the traffic: the named one, or the newest one in the split."""
        version = body.version if body is not None else None
        if version is not None:
            check_version_name(version, where="version")
        return changed(await service.promote(model, version))

    @api.post(
        "/v1/models/{model}/rollback",
        tags=["rollouts"],
        summary="Roll back",
        status_code=202,
        response_model=Change,
        responses=refusals(404, 409),
    )
    async def rollback(model: ModelName) -> Response:
        """Return to the split before the last rollout; a rollout that is under way is called off."""
        return changed(await service.rollback(model))

    @api.put(
        "/v1/models/{model}/scale",
        tags=["rollouts"],
        summary="Scale",
        status_code=202,
        response_model=Change,
        responses=taking_json(404, 409),
    )
    async def scale(
        model: ModelName,
        body: Annotated[ScaleBody, Body(openapi_examples={"three": {"value": {"replicas": 3}}})],
    ) -> Response:
        """Wish for a number of replicas of each version in the split.

        Where triggers scale the model, they may change it again; the answer's `note` says so.
        """
        accepted = await service.scale(model, body.replicas)
        return changed(accepted, _elastic_note(accepted.deployment))


def _rules(auto: TrialBody, canary: int | None) -> TrialRules:
    """What the body says, with its steps."""
    given = auto.model_dump(exclude={"steps"})
    if auto.steps is not None:
        if canary is not None and auto.steps[:1] != [canary]:
            raise InvalidInput(
                f"the canary gets {canary} %, the first step is {', '.join(map(str, auto.steps[:1])) or 'none'}",
                where="auto.steps",
                hint="leave one of the two out",
            )
        return rules_of({**given, "steps": auto.steps})
    first = STEPS[0] if canary is None else canary
    return rules_of({**given, "steps": [first, *(step for step in STEPS if step > first)]})


def _elastic_note(deployment: Deployment) -> str | None:
    bounds = scaling_range(deployment)
    if bounds is None:
        return None
    if bounds.shadow:
        return "the autoscaler is in shadow mode: it leaves this number as it is"
    return f"the autoscaler may change it again, between {bounds.min_replicas} and {bounds.max_replicas}"


def _source(body: DeployBody | VersionBody) -> Source | None:
    return None if body.source is None else Source(**body.source.model_dump())


def _parse_for(model: str, body: DeployBody | DiffBody | VersionBody) -> ModelDeployment:
    check_digest(body.bundle, where="bundle")
    spec = parse(body.spec)
    if spec.metadata.name != model:
        raise InvalidSpec(
            f"the document is of model {spec.metadata.name}, the path says {model}",
            where="metadata.name",
            hint="they must be the same",
        )
    return spec
