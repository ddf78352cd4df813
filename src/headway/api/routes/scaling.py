"""Scaling: the policy by which replicas come and go, how it stands, what it decided and why."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Body, Query
from starlette.responses import Response

from headway.api.access import ModelName
from headway.api.answers import answer
from headway.api.openapi import refusals, taking_json
from headway.api.parts import Parts
from headway.api.scaling_views import decision_view, explanation, scaling_view, split_of, usage_view
from headway.api.schemas import VersionNameText
from headway.api.schemas_scaling import DecisionPage, ExplainView, ScalingBody, ScalingChange, ScalingView, UsageView
from headway.domain.names import check_version_name
from headway.domain.query_conditions import check_span, instant_ns
from headway.domain.replicas import Role
from headway.domain.scaling_document import parse_scaling

LIMIT = 100
MAX_LIMIT = 1000
EXAMPLE = {
    "minReplicas": 1,
    "maxReplicas": 12,
    "triggers": [{"type": "cpu", "target": "80%"}, {"type": "latency", "quantile": "p95", "threshold": "900ms"}],
}

Version = Annotated[VersionNameText | None, Query(description="Only decisions about this version.")]
Changed = Annotated[bool, Query(description="Only decisions that changed the number of replicas.")]
RoleText = Annotated[
    Role, Query(description="serve: about replicas that answer requests; work: about workers, which carry out jobs.")
]


def add_routes(api: APIRouter, parts: Parts) -> None:
    """``/v1/models/{model}/scaling``, ``…/usage``, ``…/decisions`` and ``…/explain``."""
    service, decisions = parts.service, parts.decisions

    @api.get(
        "/v1/models/{model}/scaling",
        tags=["scaling"],
        summary="Show how a model is scaled",
        response_model=ScalingView,
        responses=refusals(404),
    )
    async def get_scaling(model: ModelName) -> Response:
        """The policy with defaults filled in; of each version the wished and ready replicas and the latest decision."""
        snapshot = service.get(model)
        latest = {}
        if snapshot.deployment.scaling is not None:
            latest = await decisions.standing(model, split_of(snapshot.deployment))
        return answer(scaling_view(snapshot, latest))

    @api.put(
        "/v1/models/{model}/scaling",
        tags=["scaling"],
        summary="Set how a model is scaled",
        status_code=202,
        response_model=ScalingChange,
        responses=taking_json(404, 409, 422),
    )
    async def set_scaling(
        model: ModelName,
        body: Annotated[
            ScalingBody,
            Body(openapi_examples={"policy": {"value": {"scaling": EXAMPLE}}, "fixed": {"value": {"scaling": None}}}),
        ],
    ) -> Response:
        """Put a whole `spec.scaling` in force, or with null fix the number of replicas where it is."""
        scaling = None if body.scaling is None else parse_scaling(body.scaling)
        accepted = await service.set_scaling(model, scaling)
        deployment = accepted.deployment
        changed = ScalingChange(
            model=model,
            scaling=None if deployment.scaling is None else dict(deployment.scaling),
            replicas=deployment.replicas,
            cursor=accepted.cursor,
        )
        return answer(changed, 202)

    @api.get(
        "/v1/models/{model}/usage",
        tags=["scaling"],
        summary="Show what replicas use",
        response_model=UsageView,
        responses=refusals(404),
    )
    async def get_usage(model: ModelName) -> Response:
        """Counters of the ready replicas: processor time, memory, requests. Asked twice they give rates."""
        snapshot = service.get(model)
        return answer(usage_view(snapshot, await parts.usage.of(model)))

    @api.get(
        "/v1/models/{model}/decisions",
        tags=["scaling"],
        summary="Read scaling decisions",
        response_model=DecisionPage,
        responses=refusals(404),
    )
    async def read_decisions(
        model: ModelName,
        version: Version = None,
        since: Annotated[
            str | None, Query(description="Begin: so long ago (`30m`, `2h`), RFC 3339, or seconds since the epoch.")
        ] = None,
        until: Annotated[str | None, Query(description="End, written like `since`; default: now.")] = None,
        changed: Changed = False,
        role: RoleText = "serve",
        limit: Annotated[int, Query(ge=1, le=MAX_LIMIT, description="Only the newest so many.")] = LIMIT,
    ) -> Response:
        """Recorded decisions, oldest first: all that changed anything, and about one a minute that did not.

        Those of a deleted model stay until they are too old.
        """
        _check_version(version)
        since_s, until_s = _instant(since, "?since"), _instant(until, "?until")
        if since_s is not None and until_s is not None:
            check_span(round(since_s * 1e9), round(until_s * 1e9))
        found = await decisions.read(
            model, version=version, since=since_s, until=until_s, changed=changed, role=role, limit=limit
        )

        def content() -> Response:
            listed = [decision_view(record) for record in found]
            return answer(DecisionPage(model=model, since=since_s, until=until_s, decisions=listed))

        return await asyncio.to_thread(content)

    @api.get(
        "/v1/models/{model}/explain",
        tags=["scaling"],
        summary="Explain a scaling decision",
        response_model=ExplainView,
        responses=refusals(404),
    )
    async def explain(
        model: ModelName,
        at: Annotated[
            str | None, Query(description="When: so long ago (`10m`), RFC 3339, or seconds since the epoch.")
        ] = None,
        version: Version = None,
        changed: Changed = False,
        role: RoleText = "serve",
    ) -> Response:
        """The decision in force at that time, with all it was made from and its story in plain words.

        One of each version in the split (about workers: of each that has any or shall have), or the one of `version`.
        With `changed`: the last one until then that changed the number of replicas.
        """
        _check_version(version)
        at_s = _instant(at, "?at")
        moment = decisions.now() if at_s is None else at_s
        versions = [version] if version is not None else _versions(model, role)
        if at_s is None and not changed:
            found = await decisions.now_in_force(model, versions, role)
        else:
            found = await decisions.in_force(model, versions, moment, changed=changed, role=role)
        return answer(ExplainView(model=model, at=moment, decisions=[explanation(record) for record in found]))

    def _instant(text: str | None, where: str) -> float | None:
        return None if text is None else instant_ns(text, round(decisions.now() * 1e9), where=where) / 1e9

    def _versions(model: str, role: Role) -> list[str]:
        if role == "work" and (worked := decisions.worked(model)):
            return worked
        snapshot = service.find(model)
        return [] if snapshot is None else split_of(snapshot.deployment)


def _check_version(version: str | None) -> None:
    if version is not None:
        check_version_name(version, where="?version")
