"""Tokens: who may call. For admins."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body
from starlette.responses import Response

from headway.api.access import Administrator, TokenName
from headway.api.answers import answer
from headway.api.openapi import refusals, taking_json
from headway.api.parts import Parts
from headway.api.schemas import TokenBody, TokenCreated, TokenView
from headway.api.views import token_view


def add_routes(api: APIRouter, parts: Parts) -> None:
    """``/v1/tokens``."""

    @api.get("/v1/tokens", tags=["tokens"], summary="List tokens", response_model=list[TokenView], responses=refusals())
    async def list_tokens(caller: Administrator) -> Response:
        """Every token, oldest first; revoked and expired ones too. Secrets are not kept and cannot be shown."""
        now = parts.clock.now()
        return answer([token_view(token, now) for token in parts.tokens.list()])

    @api.post(
        "/v1/tokens",
        tags=["tokens"],
        summary="Create a token",
        status_code=201,
        response_model=TokenCreated,
        responses=taking_json(409),
    )
    async def create_token(
        caller: Administrator,
        body: Annotated[
            TokenBody,
            Body(
                openapi_examples={
                    "an application": {"value": {"name": "shop", "scope": "predict", "models": ["iris"]}},
                    "a pipeline": {"value": {"name": "ci", "scope": "deploy", "expires_in_s": 7776000}},
                }
            ),
        ],
    ) -> Response:
        """A new token. The answer is the only place where its secret ever appears."""
        created = await parts.tokens.create(body.name, body.scope, models=body.models, lifetime_s=body.expires_in_s)
        view = token_view(created.token, parts.clock.now())
        return answer(TokenCreated(**view.model_dump(), token=created.secret), 201)

    @api.delete(
        "/v1/tokens/{name}",
        tags=["tokens"],
        summary="Revoke a token",
        response_model=TokenView,
        responses=refusals(404),
    )
    async def revoke_token(name: TokenName, caller: Administrator) -> Response:
        """Make a token void, here at once and at the gateway within moments. It stays listed."""
        return answer(token_view(await parts.tokens.revoke(name), parts.clock.now()))
