"""Plain HTTP calls for the end-to-end tests: what a client without Headway's library would send."""

from __future__ import annotations

import http.client
import json
import time
from collections import Counter
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.waiting import PATIENCE_S

ROW = "[[5.1, 3.5, 1.4, 0.2]]"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error code of the tree's JSON form."""
        return str(self.json()["error"]["code"])

    @property
    def version(self) -> str:
        return self.headers.get("x-headway-version", "")


FRESH_S = 2.0
"""A connection idle for longer is not used again: the gateway closes it after 5 s, and a request sent at that
moment is lost by the rules of HTTP/1.1 keep-alive (RFC 9112, section 9.3.1), not by anybody's fault."""


class Caller:
    """One keep-alive connection to a listener; opened anew after a pause."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE_S)
        self._used_at = 0.0

    def __call__(
        self, path: str, body: str | bytes | None = ROW, *, method: str | None = None, **headers: str
    ) -> Reply:
        sent = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        if time.monotonic() - self._used_at > FRESH_S:
            self._connection.close()
        self._connection.request(method or ("GET" if body is None else "POST"), path, body, sent)
        answer = self._connection.getresponse()
        content = answer.read()
        self._used_at = time.monotonic()
        return Reply(answer.status, {k.lower(): v for k, v in answer.getheaders()}, content)

    def close(self) -> None:
        self._connection.close()


def shares(url: str, path: str, count: int, **headers: str) -> Counter[str]:
    """How many of ``count`` requests each version answered; every one has to succeed."""
    call = Caller(url)
    seen: Counter[str] = Counter()
    for _ in range(count):
        reply = call(path, **headers)
        assert reply.status == 200, reply.body
        seen[reply.version] += 1
    call.close()
    return seen
