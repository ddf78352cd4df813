"""Boundary: nothing leaves the API but answers in the error tree's JSON form.

What a caller did wrong is told; what went wrong in here is logged with its trace and answered with a plain
``internal``.
"""

from __future__ import annotations

import asyncio
import difflib
import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from headway.api.answers import failure
from headway.domain.errors import HeadwayError, InvalidInput, MethodNotAllowed, NotFound, PayloadTooLarge

log = logging.getLogger(__name__)

LINGER_BYTES = 16 * 1024 * 1024
LINGER_S = 2.0
MAX_TOLD = 20
"""Validation errors told in one answer."""
INTERNAL = "something went wrong inside Headway; its log tells more"


class Boundary:
    """Outermost layer: faults become answers, unread request bodies are let in for a moment, headers are set.

    A client that is still sending its body when the connection closes may lose the answer that tells it why
    (a TCP reset discards what it has not yet read; RFC 9112, section 9.6). So a refusal is preceded by
    reading on for at most :data:`LINGER_BYTES` and :data:`LINGER_S`.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _RequestBody(scope, receive)
        started = False

        async def guarded_send(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                if message["status"] >= 400:
                    await body.linger()
                headers = MutableHeaders(scope=message)
                headers.setdefault("cache-control", "no-store")
                headers.setdefault("x-content-type-options", "nosniff")
            await send(message)

        try:
            await self._app(scope, body.receive, guarded_send)
        except ClientDisconnect:
            return
        except Exception as error:
            if started:
                raise  # the server cuts the connection: the client must not take half an answer for a whole one
            if isinstance(error, HeadwayError):
                response = _told(error)
            else:
                log.exception("%s %s failed", scope["method"], scope["path"])
                response = failure(HeadwayError(INTERNAL))
            await response(scope, receive, guarded_send)


class _RequestBody:
    """Knows whether the whole request body has been taken."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        headers = {name for name, _ in scope["headers"]}
        self._receive = receive
        self._taken = b"transfer-encoding" not in headers and b"content-length" not in headers
        # A client that waits for "100 Continue" has sent nothing yet, and asking for its body would invite it.
        self._waits = b"expect" in headers

    async def receive(self) -> Message:
        message = await self._receive()
        self._waits = False
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self._taken = True
        return message

    async def linger(self) -> None:
        left = 0 if self._waits else LINGER_BYTES
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while left > 0 and not self._taken:
                    left -= len((await self.receive()).get("body", b""))


def add_error_answers(api: FastAPI) -> None:
    """Let everything that the framework itself would answer be answered in the tree's form."""
    api.add_exception_handler(HeadwayError, _on_headway_error)
    api.add_exception_handler(HTTPException, _on_http_exception)
    api.add_exception_handler(RequestValidationError, _on_validation_error)


async def _on_headway_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HeadwayError)
    return _told(error)


def _told(error: HeadwayError) -> Response:
    if error.status >= 500:
        log.error("answered %s: %s", error.code, error, exc_info=error)
    return failure(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    path = request.url.path[:200]
    if error.status_code == 404:
        return failure(NotFound(f"there is nothing at {path}", hint="GET /v1/openapi.json lists every endpoint"))
    if error.status_code == 405:
        allowed = ", ".join(_methods_at(request))
        refused = MethodNotAllowed(f"{request.method[:20]} is not possible at {path}", hint=f"possible: {allowed}")
        return failure(refused, {"Allow": allowed})
    if error.status_code == 413:
        return failure(PayloadTooLarge("the request body is too large"))
    if error.status_code < 500:
        return failure(InvalidInput("the request could not be understood"))
    log.error("the framework answered %s", error.status_code, exc_info=error)
    return failure(HeadwayError(INTERNAL))


def _methods_at(request: Request) -> list[str]:
    """Every method that some route has at this path (the framework's own 405 names those of one route only)."""
    methods: set[str] = set()
    for route in request.app.routes:
        match, _ = route.matches(dict(request.scope))
        if match.value > 0:
            methods |= getattr(route, "methods", None) or set()
    return sorted(methods)


async def _on_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = [_complaint(request, one) for one in error.errors()[:MAX_TOLD]]
    first = told[0]
    return failure(
        InvalidInput(
            first["message"],
            where=first["where"],
            hint=first.get("hint"),
            details={"errors": told} if len(told) > 1 else None,
        )
    )


def _complaint(request: Request, error: Mapping[str, Any]) -> dict[str, str]:
    location = list(error["loc"])
    kind = str(error["type"])
    message = str(error["msg"])
    told = {"message": message[:1].lower() + message[1:], "where": _place(location)}
    if kind == "extra_forbidden":
        told["message"] = "unknown field"
        known = _body_fields(request)
        near = nearest(str(location[-1]), known)
        told["hint"] = f"did you mean {near!r}?" if near else f"known fields: {', '.join(known)}"
    elif kind == "missing":
        told["message"] = "a JSON body is required" if location == ["body"] else "required, but missing"
    elif kind in {"model_attributes_type", "model_type", "dict_type"}:
        told["message"] = "must be a JSON object"
    return told


def _place(location: Sequence[Any]) -> str:
    """``("body", "weights", "v1")`` -> ``weights.v1``; ``("query", "limit")`` -> ``?limit``."""
    source, path = location[0], location[1:]
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else str(part)
    if source == "query":
        text = f"?{text}"
    elif source == "header":
        text = f"header {text}"
    return (text or str(source))[:120]


def _body_fields(request: Request) -> list[str]:
    field = getattr(request.scope.get("route"), "body_field", None)
    annotation = getattr(getattr(field, "field_info", None), "annotation", None)
    for candidate in (annotation, *getattr(annotation, "__args__", ())):
        if isinstance(candidate, type) and issubclass(candidate, BaseModel):
            return list(candidate.model_fields)
    return []


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known word most like ``word``, if any is."""
    found = difflib.get_close_matches(word[:100], list(known), n=1)
    return found[0] if found else None
