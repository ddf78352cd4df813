"""JSON over HTTP, asked with GET: Prometheus and RabbitMQ's management speak it.

One client, so one pool of connections, per source. Redirects are not followed: an answer from elsewhere is a finding,
not a number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

import httpx

from headway.adapters.signals.question import Question, reason

MOST_BYTES = 4 * 1024 * 1024
# A connection that the server closed meanwhile, at its restart for example, is found dead only when used again.
WORN_OUT = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


@dataclass(frozen=True, slots=True)
class Place:
    """An http(s) address taken apart: credentials go into a header, never into a URL that somebody logs."""

    base: str
    """Scheme, host and port."""
    path: str
    """As written, percent-encoding kept."""
    params: str
    user: str
    password: str


def place(address: str, question: Question) -> Place:
    """Raises ``SignalLost`` for what is not an http or https address."""
    try:
        parts = urlsplit(address.strip())
        user, password, _ = parts.username, parts.password, parts.port
    except ValueError as error:
        raise question.lost(f"not an address: {error}") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise question.lost("not an address; write for example http://host:9090")
    return Place(
        f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}",
        parts.path,
        parts.query,
        unquote(user or ""),
        unquote(password or ""),
    )


class JsonClient:
    """Asks with GET. The caller limits the time."""

    def __init__(self) -> None:
        self._client: httpx.AsyncClient | None = None

    async def get(
        self,
        question: Question,
        where: Place,
        path: str,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, object]:
        """Status and parsed body; the body of a failure may be None. Raises ``SignalLost`` without an answer."""
        if self._client is None:
            self._client = httpx.AsyncClient(timeout=None)  # noqa: S113 - the question's own limit holds for all of it
        client = self._client
        try:
            url = httpx.URL(where.base + path, query=where.params.encode()).copy_merge_params(dict(params or {}))
            request = client.build_request("GET", url, headers={"accept": "application/json", **(headers or {})})
            auth = httpx.BasicAuth(where.user, where.password) if where.user else None
            try:
                status, body = await self._send(client, request, auth, question)
            except WORN_OUT:
                status, body = await self._send(client, request, auth, question)
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise question.lost(reason(error)) from None
        try:
            return status, json.loads(body)
        except ValueError:
            if status == httpx.codes.OK:
                raise question.lost(f"a body that is not JSON: {body[:60]!r}") from None
            return status, None

    @staticmethod
    async def _send(
        client: httpx.AsyncClient, request: httpx.Request, auth: httpx.BasicAuth | None, question: Question
    ) -> tuple[int, bytes]:
        response = await client.send(request, auth=auth, stream=True)
        try:
            body = bytearray()
            async for chunk in response.aiter_bytes():
                body += chunk
                if len(body) > MOST_BYTES:
                    raise question.lost(f"a body of more than {MOST_BYTES >> 20} MiB")
            return response.status_code, bytes(body)
        finally:
            await response.aclose()

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()
