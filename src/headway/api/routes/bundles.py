"""Bundles: uploaded once, kept by digest."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from headway.api.access import Caller, Digest
from headway.api.answers import answer
from headway.api.bodies import check_content_length, media_type, refuse_content_encoding, too_large
from headway.api.openapi import refusals
from headway.api.parts import Parts
from headway.api.schemas import BundleView
from headway.domain.errors import BundleNotFound, UnsupportedMediaType

ARCHIVE_TYPES = ("application/gzip", "application/x-gzip", "application/x-tar", "application/octet-stream")


def add_routes(api: APIRouter, parts: Parts) -> None:
    """``/v1/bundles``."""

    @api.head(
        "/v1/bundles/{digest}",
        tags=["bundles"],
        summary="Ask for a bundle",
        responses={**refusals(404), 200: {"description": "It is here; no need to upload it.", "content": {}}},
    )
    async def has_bundle(digest: Digest, caller: Caller) -> Response:
        """Whether a bundle of that digest is here."""
        if not await parts.bundles.has(digest):
            raise BundleNotFound(f"no bundle {digest[:12]} is stored", hint="PUT it first")
        return Response(status_code=200)

    @api.put(
        "/v1/bundles/{digest}",
        tags=["bundles"],
        summary="Upload a bundle",
        status_code=201,
        response_model=BundleView,
        responses={
            200: {"model": BundleView, "description": "It was here already."},
            **refusals(413, 415),
        },
        openapi_extra={
            "requestBody": {
                "required": True,
                "description": "A tar archive, plain or gzip, whose files have that digest.",
                "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in ARCHIVE_TYPES},
            }
        },
    )
    async def put_bundle(digest: Digest, caller: Caller, request: Request) -> Response:
        """Store the files of an archive under their digest. It is unpacked as it arrives and kept only if every
        path is safe and the digest is right; uploading the same again is harmless.
        """
        refuse_content_encoding(request)
        kind, _ = media_type(request)
        if kind not in ARCHIVE_TYPES:
            raise UnsupportedMediaType(
                f"the body's content type is {kind[:80] or 'none'!r}",
                where="header Content-Type",
                hint="send a tar archive as application/gzip or application/x-tar",
            )
        check_content_length(request, parts.max_bundle_bytes)
        known = await parts.bundles.has(digest)
        await parts.bundles.put(digest, _chunks(request, parts.max_bundle_bytes))
        return answer(BundleView(digest=digest, created=not known), 200 if known else 201)


async def _chunks(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body as it arrives. Raises ``PayloadTooLarge`` at the first byte above ``limit``."""
    taken = 0
    async for chunk in request.stream():
        taken += len(chunk)
        if taken > limit:
            raise too_large(limit)
        if chunk:
            yield chunk
