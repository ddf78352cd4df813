"""What comes in: JSON bodies and query parameters, checked before anything else looks at them.

JSON here is strict (RFC 8259, and I-JSON where they differ, RFC 7493): UTF-8, no NaN or infinity, no
number beyond the range of a float, no name twice in one object, no lone surrogates; and bounded in bytes
and depth.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine
from email.message import Message as MimeHeader
from typing import Any, NoReturn, get_args, get_origin

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from headway.api.boundary import nearest
from headway.domain.errors import InvalidInput, PayloadTooLarge, UnsupportedMediaType

MAX_JSON_BYTES = 1024 * 1024
MAX_JSON_DEPTH = 64


class JsonRoute(APIRoute):
    """A route whose query and JSON body are checked here before the framework parses and validates them."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()
        takes_json = self.body_field is not None
        known, lists = _query_names(self)

        async def checked(request: Request) -> Response:
            refuse_unknown_query(request, known, lists)
            return await handle(await _with_checked_json(request) if takes_json else request)

        return checked


def _query_names(route: APIRoute) -> tuple[list[str], frozenset[str]]:
    """Names of the query parameters, and those of them that may be given several times."""
    found: list[str] = []
    lists: set[str] = set()
    pending = [route.dependant]
    while pending:
        dependant = pending.pop()
        found.extend(field.alias for field in dependant.query_params)
        lists |= {field.alias for field in dependant.query_params if _takes_list(field.field_info.annotation)}
        pending.extend(dependant.dependencies)
    return found, frozenset(lists)


def _takes_list(annotation: Any) -> bool:
    return get_origin(annotation) is list or any(_takes_list(choice) for choice in get_args(annotation))


def refuse_unknown_query(request: Request, known: list[str], lists: frozenset[str] = frozenset()) -> None:
    """Raises ``InvalidInput`` for a query parameter that the endpoint would ignore, or one given twice.

    Those of ``lists`` may be given any number of times.
    """
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name not in known:
            near = nearest(name, known)
            listed = f"known parameters: {', '.join(known)}" if known else "there are none here"
            hint = f"did you mean {near!r}?" if near else listed
            raise InvalidInput("unknown query parameter", where=f"?{name[:60]}", hint=hint)
        if name in seen and name not in lists:
            raise InvalidInput("query parameter given twice", where=f"?{name[:60]}")
        seen.add(name)


async def _with_checked_json(request: Request) -> Request:
    body = await read_bounded(request, MAX_JSON_BYTES)
    if body:
        _check_content_type(request)
        parse_json(body)
    told = False

    async def replay() -> Message:
        nonlocal told
        if told:
            return await request.receive()
        told = True
        return {"type": "http.request", "body": body, "more_body": False}

    return Request(request.scope, replay)


async def read_bounded(request: Request, limit: int) -> bytes:
    """The whole body. Raises ``PayloadTooLarge`` as soon as it is known to be larger than ``limit``."""
    check_content_length(request, limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise too_large(limit)
    return bytes(body)


def check_content_length(request: Request, limit: int) -> None:
    """Raises ``PayloadTooLarge`` when the request says itself that it is larger than ``limit``."""
    stated = request.headers.get("content-length", "")
    if stated.isascii() and stated.isdigit() and (len(stated) > 18 or int(stated) > limit):
        raise too_large(limit)


def too_large(limit: int) -> PayloadTooLarge:
    """The error for a body above ``limit`` bytes."""
    return PayloadTooLarge(f"the request body is larger than {limit} bytes", details={"limit": limit})


def media_type(request: Request) -> tuple[str, str]:
    """Type and charset of the body, lowercase; both empty when not given."""
    header = MimeHeader()
    header["content-type"] = request.headers.get("content-type", "")
    if not header["content-type"]:
        return "", ""
    return header.get_content_type(), (header.get_content_charset() or "").lower()


def refuse_content_encoding(request: Request) -> None:
    """Raises ``UnsupportedMediaType`` for a compressed body: what arrives is what is read."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity"}:
        raise UnsupportedMediaType(
            f"content encoding {encoding[:40]!r} is not accepted", where="header Content-Encoding"
        )


def _check_content_type(request: Request) -> None:
    refuse_content_encoding(request)
    kind, charset = media_type(request)
    if kind != "application/json" or charset not in {"", "utf-8", "utf8"}:
        sent = request.headers.get("content-type", "none")[:80]
        raise UnsupportedMediaType(
            f"the body's content type is {sent!r}", where="header Content-Type", hint="send application/json, in UTF-8"
        )


def parse_json(body: bytes) -> Any:
    """The value in ``body``. Raises ``InvalidInput`` for everything that the module's docstring rules out."""
    try:
        value = json.loads(
            body.decode("utf-8"),
            parse_constant=_refuse_constant,
            parse_float=_finite,
            object_pairs_hook=_without_repeats,
        )
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the body is not UTF-8: byte {error.start} does not fit", where="body") from None
    except json.JSONDecodeError as error:
        raise InvalidInput(
            f"the body is not JSON: {error.msg}", where=f"line {error.lineno}, column {error.colno}"
        ) from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # an integer of more digits than Python converts (sys.int_info)
        raise InvalidInput("a number in the body has too many digits", where="body") from None
    _check_depth_and_text(value)
    return value


def _refuse_constant(text: str) -> NoReturn:
    raise InvalidInput(f"{text} is not JSON", where="body")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidInput(f"the number {text[:40]} is out of range", where="body")
    return number


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        twice = next(name for name, _ in pairs if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise InvalidInput("the same name twice in one object", where=twice[:80])
    return value


def _too_deep() -> InvalidInput:
    return InvalidInput(f"the JSON is nested deeper than {MAX_JSON_DEPTH} levels", where="body")


def _check_depth_and_text(value: Any) -> None:
    """With a list of its own instead of recursion: the input decides how deep this goes."""
    pending: list[tuple[Any, int]] = [(value, 1)]
    while pending:
        item, depth = pending.pop()
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, (dict, list)):
            if depth > MAX_JSON_DEPTH:
                raise _too_deep()
            if isinstance(item, dict):
                for name in item:
                    _check_text(name)
            pending.extend((child, depth + 1) for child in (item.values() if isinstance(item, dict) else item))


def _check_text(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise InvalidInput("a text in the body holds half of a surrogate pair", where="body") from None
