"""Logs: what replicas print, of one or all of them, as it comes."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from headway.api.access import Caller, ModelName
from headway.api.answers import LiveStream
from headway.api.log_lines import Following, one_after_the_other, released
from headway.api.openapi import refusals
from headway.api.parts import Parts
from headway.api.schemas import VersionNameText
from headway.domain.errors import InvalidInput, ModelNotFound, ReplicaNotFound
from headway.domain.names import (
    REPLICA_SUFFIX_ALPHABET,
    REPLICA_SUFFIX_LENGTH,
    VERSION_NAME,
    check_version_name,
)
from headway.ports.runtime import Runtime

MAX_TAIL = 100_000


def add_routes(api: APIRouter, parts: Parts) -> None:
    """``/v1/models/{model}/logs``."""

    @api.get(
        "/v1/models/{model}/logs",
        tags=["logs"],
        summary="Read or follow logs",
        response_class=Response,
        responses={
            200: {
                "description": "Lines as printed; each led by `REPLICA | ` when several replicas are read.",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            },
            **refusals(404),
        },
    )
    async def read_logs(
        model: ModelName,
        caller: Caller,
        replica: Annotated[str | None, Query(description="Only this replica; it may be gone already.")] = None,
        version: Annotated[VersionNameText | None, Query(description="Only replicas of this version.")] = None,
        tail: Annotated[int | None, Query(ge=0, le=MAX_TAIL, description="Begin so many lines before the end.")] = None,
        follow: Annotated[bool, Query(description="Go on with what is printed from now on.")] = False,
    ) -> Response:
        """What the model's replicas print on stdout and stderr. Following, replicas that come later are included."""
        if replica is not None and version is not None:
            raise InvalidInput("a replica and a version exclude each other", where="?version", hint="give one of them")
        deployment = parts.service.get(model).deployment
        if version is not None:
            deployment.version(check_version_name(version, where="?version"))
        source = await _source(parts, model, replica, version, tail, follow)
        return LiveStream(
            source,
            media_type="text/plain; charset=utf-8",
            closing=parts.closing,
            allowed=lambda: parts.tokens.still_valid(caller),
            clock=parts.clock,
        )


async def _source(
    parts: Parts, model: str, replica: str | None, version: str | None, tail: int | None, follow: bool
) -> AsyncGenerator[bytes, None]:
    def present() -> list[str]:
        return [r.replica_id for r in parts.service.get(model).replicas if version in (None, r.version)]

    if replica is not None:
        if follow and replica in present():
            once = iter([[replica]])
            return Following(parts.runtime, parts.clock, tail, lambda: next(once, None)).stream()
        return await _begun(parts.runtime, model, replica, tail)
    if not follow:
        return one_after_the_other(parts.runtime, present(), tail)

    def wanted() -> list[str] | None:
        try:
            return present()
        except ModelNotFound:
            return None  # deleted meanwhile

    return Following(parts.runtime, parts.clock, tail, wanted).stream()


async def _begun(runtime: Runtime, model: str, replica: str, tail: int | None) -> AsyncGenerator[bytes, None]:
    """The log of one replica to its present end, begun, so that an unknown one is told before the answer starts."""
    if not _is_replica_of(model, replica):
        raise ReplicaNotFound(f"model {model} has no replica {replica[:80]!r}")
    chunks = runtime.logs(replica, tail_lines=tail, follow=False)
    first = await anext(chunks, b"")

    async def all_of_it() -> AsyncGenerator[bytes, None]:
        async with released(chunks):
            yield first
            async for chunk in chunks:
                yield chunk

    return all_of_it()


def _is_replica_of(model: str, replica: str) -> bool:
    suffix = f"[{REPLICA_SUFFIX_ALPHABET}]{{{REPLICA_SUFFIX_LENGTH}}}"
    return re.fullmatch(f"{re.escape(model)}-{VERSION_NAME.pattern}-{suffix}", replica) is not None
