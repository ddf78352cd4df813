"""Request and Response: what the application sees of HTTP, without any I/O.

A connection (:mod:`headway.server.protocol`) or a test makes a :class:`Request` and hands it to the
application, which returns a :class:`Response`, or None and calls ``request.peer.settle`` later.
:class:`Renderer` turns responses into bytes; header bytes that do not change are made once a second.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import secrets
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final, Protocol

import msgspec

from headway.domain.errors import HeadwayError

JSON: Final = b"application/json"
TEXT: Final = b"text/plain; charset=utf-8"
PROMETHEUS: Final = b"text/plain; version=0.0.4; charset=utf-8"

REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")

_MLFLOW_CODES: Final = {
    429: "REQUEST_LIMIT_EXCEEDED",
    500: "INTERNAL_ERROR",
    503: "TEMPORARILY_UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

_encode = msgspec.json.Encoder().encode
_run = secrets.token_hex(5).encode()
_serial = itertools.count(1)


def _new_run() -> None:
    """A forked process goes on counting where its parent was: its request ids need a beginning of their own."""
    global _run
    _run = secrets.token_hex(5).encode()


os.register_at_fork(after_in_child=_new_run)


class Peer(Protocol):
    """Who waits for the answer to a request."""

    def settle(self, request: Request, response: Response) -> None:
        """The answer; called once, on the event loop's thread."""
        ...

    def charge(self, request: Request, size: int) -> None:
        """The body of ``request`` takes ``size`` bytes now, until it is answered. Raises ``Overloaded``."""
        ...


class Work(Protocol):
    """Work under way for a request."""

    queued_ns: int
    """``time.perf_counter_ns`` when it was decoded."""
    rows: int

    def abandon(self) -> None:
        """Nobody waits any more: what has not begun is not begun."""
        ...


class Response:
    """``headers`` come on top of those that every answer carries. ``close`` ends the connection."""

    __slots__ = ("body", "close", "content_type", "error", "headers", "status")

    def __init__(
        self,
        status: int,
        body: bytes,
        content_type: bytes = JSON,
        headers: tuple[tuple[bytes, bytes], ...] = (),
        *,
        close: bool = False,
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers
        self.close = close
        self.error: HeadwayError | None = None
        """What it tells of, if it tells of an error."""


class Request:
    """One request, whole. ``path`` is the raw path; header names are lower case, repeated fields joined by commas.

    ``received_ns`` is ``time.perf_counter_ns`` when its last byte was parsed.
    """

    __slots__ = (
        "body",
        "cancelled",
        "headers",
        "keep_alive",
        "method",
        "path",
        "peer",
        "query",
        "received_ns",
        "request_id",
        "reserved",
        "route",
        "wire",
        "wire_bytes",
        "work",
    )

    def __init__(
        self,
        method: bytes,
        path: bytes,
        body: bytes,
        headers: Mapping[bytes, bytes],
        peer: Peer,
        received_ns: int,
        *,
        query: bytes = b"",
        keep_alive: bool = True,
    ) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.body = body
        self.headers = headers
        self.peer = peer
        self.received_ns = received_ns
        self.keep_alive = keep_alive
        self.cancelled = False
        self.work: Work | None = None
        self.route = "other"
        self.reserved = 0
        """Bytes of the server's body budget that this request holds."""
        self.wire_bytes = 0
        """Size of the body as it came, where ``body`` is no longer that."""
        self.wire: bytes | None = None
        """The rendered answer while it waits for those before it on the connection."""
        request_id = headers.get(b"x-request-id")
        if request_id is None or REQUEST_ID.fullmatch(request_id) is None:
            request_id = b"%b-%x" % (_run, next(_serial))
        self.request_id = request_id


def json_response(value: object, status: int = 200) -> Response:
    """``value`` as JSON."""
    return Response(status, _encode(value))


def error_response(error: HeadwayError, request: Request | None = None, *, close: bool = False) -> Response:
    """The error tree's JSON form with its status; ``details.retry_after_s`` also as ``Retry-After``.

    Each protocol's clients find what they look for: below ``/v2`` ``error`` is the text itself and the rest stands
    beside it; ``/invocations`` has MLflow's ``error_code`` and ``message``, Seldon's paths have a ``status`` as well.
    """
    headers: tuple[tuple[bytes, bytes], ...] = ()
    retry_after_s = error.details.get("retry_after_s")
    if retry_after_s is not None:
        headers = ((b"retry-after", b"%d" % retry_after_s),)
    allow = error.details.get("allow")
    if allow is not None:
        headers = (*headers, (b"allow", str(allow).encode()))
    body = error.to_dict()
    if request is not None:
        path = request.path
        if path.startswith(b"/v2"):
            fields = body["error"]
            body = {"error": str(error), **{name: fields[name] for name in fields if name != "message"}}
        elif path == b"/invocations":
            body |= {"error_code": _MLFLOW_CODES.get(error.status, "BAD_REQUEST"), "message": str(error)}
        elif path.startswith(b"/api/"):
            reason = "MICROSERVICE_BAD_DATA" if error.status < 500 else "MICROSERVICE_INTERNAL_ERROR"
            body["status"] = {"status": 1, "info": str(error), "code": -1, "reason": reason}
    response = Response(error.status, _encode_error(body), JSON, headers, close=close)
    # Without the frames that it came through: they hold the request and this response, and would live on with them.
    response.error = error.with_traceback(None)
    error.__context__ = error.__cause__ = None
    return response


def _encode_error(body: object) -> bytes:
    """As JSON, whatever the model's own words hold: there has to be an answer."""
    try:
        return _encode(body)
    except UnicodeEncodeError:
        return json.dumps(body, ensure_ascii=False).encode(errors="replace")


class Renderer:
    """Responses to bytes, for one replica."""

    def __init__(self, *, version: str, replica_id: str, now: float) -> None:
        self._identity = b"x-headway-version: %b\r\nx-headway-replica: %b\r\n" % (version.encode(), replica_id.encode())
        self._heads: dict[tuple[int, bytes], bytes] = {}
        self._date = b""
        self.set_date(now)

    def set_date(self, now: float) -> None:
        """``now``, seconds since the epoch, is the ``Date`` of answers from here on."""
        date = formatdate(now, usegmt=True).encode()
        if date != self._date:
            self._date = date
            self._heads.clear()

    def render(self, request: Request, response: Response, *, close: bool) -> bytes:
        """The whole answer, as one piece."""
        key = (response.status, response.content_type)
        head = self._heads.get(key) or self._head(*key)
        body = response.body
        if response.headers or close or b"connection" in request.headers:
            head += b"".join(b"%b: %b\r\n" % field for field in response.headers)
            head += b"connection: close\r\n" if close else b"connection: keep-alive\r\n"
        length = len(body)
        if request.method == b"HEAD":
            body = b""
        return b"%bx-request-id: %b\r\ncontent-length: %d\r\n\r\n%b" % (head, request.request_id, length, body)

    def _head(self, status: int, content_type: bytes) -> bytes:
        head = b"HTTP/1.1 %d %b\r\ndate: %b\r\n%bcontent-type: %b\r\n" % (
            status,
            HTTPStatus(status).phrase.encode(),
            self._date,
            self._identity,
            content_type,
        )
        self._heads[status, content_type] = head
        return head
