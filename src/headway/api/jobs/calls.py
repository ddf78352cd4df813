"""One HTTP call: its parts, its body within bounds, and answers to it."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from urllib.parse import parse_qsl

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from headway.domain.errors import HeadwayError, InvalidInput, MethodNotAllowed, NotReady, Overloaded, PayloadTooLarge

MOST_PARAMETERS = 20
JSON = b"application/json"
RETRY_AFTER_S = 2
"""Told with 429 and 503."""

SMALL_BYTES = 32 * 1024
"""What every call may hold."""
MOST_HELD_BYTES = 256 * 1024 * 1024
CHUNK_BYTES = 256 * 1024

Header = tuple[bytes, bytes]


class Memory:
    """Bytes of bodies that all calls hold together beyond :data:`SMALL_BYTES` each: at most ``most``, or one body."""

    def __init__(self, most: int = MOST_HELD_BYTES) -> None:
        self._most = most
        self.held = 0

    def take(self, own: int, size: int) -> int:
        """``size`` bytes for a call that holds ``own``; how many it holds then. Raises ``Overloaded``."""
        wanted = max(own, size - SMALL_BYTES)
        if self.held > own and self.held - own + wanted > self._most:
            raise Overloaded("the job server holds as many large bodies as it may", hint="come back in a moment")
        self.held += wanted - own
        return wanted

    def give(self, own: int) -> None:
        """It holds none any more."""
        self.held -= own


class Call:
    """A request that is being answered. :meth:`release` what it holds in the end."""

    __slots__ = ("_held", "_memory", "allowed", "headers", "method", "parts", "receive", "scope", "send")

    def __init__(self, scope: Scope, receive: Receive, send: Send, memory: Memory | None = None) -> None:
        self._memory = memory or Memory()
        self._held = 0
        self.scope = scope
        self.send = send
        self.receive = receive
        self.method: str = scope["method"]
        self.headers: dict[bytes, bytes] = dict(scope["headers"])
        self.allowed = ""
        """Methods that are possible, when this one is not."""
        self.parts: list[str] = scope["path"].split("/")[1:]

    def header(self, name: bytes) -> str:
        """Empty when it was not sent."""
        return self.headers.get(name, b"").decode("latin-1")

    def parameters(self, known: Collection[str]) -> dict[str, str]:
        """The query string. Raises ``InvalidInput`` for a parameter that is not known or stands twice."""
        raw: bytes = self.scope["query_string"]
        if not raw:
            return {}
        try:
            pairs = parse_qsl(raw.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_PARAMETERS)
        except ValueError:
            raise InvalidInput("the query string cannot be read", where="query string") from None
        found: dict[str, str] = {}
        for name, value in pairs:
            if name not in known:
                near = difflib.get_close_matches(name[:60], known, n=1)
                listed = ", ".join(sorted(known)) or "none"
                hint = f"did you mean {near[0]}?" if near else f"known parameters: {listed}"
                raise InvalidInput("unknown parameter", where=f"?{name[:60]}", hint=hint)
            if name in found:
                raise InvalidInput("given twice", where=f"?{name}")
            found[name] = value
        return found

    async def body(self, most: int) -> bytes:
        """The request's body, held until :meth:`release`.

        Raises ``PayloadTooLarge`` as soon as it is known to be longer than ``most`` bytes, ``Overloaded``.
        """
        announced = self.headers.get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > most:
            raise PayloadTooLarge(f"the body is larger than {most} bytes")
        parts: list[bytes] = []
        size = 0
        while True:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            part: bytes = message.get("body", b"")
            size += len(part)
            if size > most:
                raise PayloadTooLarge(f"the body is larger than {most} bytes")
            self.hold(size)
            if not message.get("more_body", False):
                return part if not parts else b"".join((*parts, part))
            parts.append(part)

    def hold(self, size: int) -> None:
        """Have room for a body of ``size`` bytes. Raises ``Overloaded`` when calls hold too much already."""
        self._held = self._memory.take(self._held, size)

    def release(self) -> None:
        """Hold nothing any more; again: nothing."""
        self._memory.give(self._held)
        self._held = 0

    async def gone(self) -> None:
        """Return when the client has left. The body has to have been read."""
        while (await self.receive())["type"] != "http.disconnect":
            pass

    async def answer(self, body: bytes, status: int = 200, *, kind: bytes = JSON, more: Iterable[Header] = ()) -> None:
        """Answer with ``body``."""
        headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body)), *more]
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        # In pieces: who reads slowly has the rest of it here, where it is counted, not in the connection's buffer.
        for start in range(0, len(body) - CHUNK_BYTES, CHUNK_BYTES):
            piece = body[start : start + CHUNK_BYTES]
            await self.send({"type": "http.response.body", "body": piece, "more_body": True})
        last = max(0, (len(body) - 1) // CHUNK_BYTES * CHUNK_BYTES)
        await self.send({"type": "http.response.body", "body": body[last:]})


def more_headers(error: HeadwayError, call: Call) -> dict[str, str]:
    """Headers that belong to an error's answer."""
    if isinstance(error, MethodNotAllowed):
        return {"allow": call.allowed}
    return {"retry-after": str(RETRY_AFTER_S)} if isinstance(error, (Overloaded, NotReady)) else {}
