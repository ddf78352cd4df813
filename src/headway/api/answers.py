"""Answers: views as JSON, errors in the tree's form, and streams that end when they have to.

JSON goes out as ASCII with escapes: text that a model printed may hold lone surrogates, which UTF-8 cannot
carry but JSON escapes can.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import suppress

from pydantic import BaseModel
from starlette.background import BackgroundTask
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from headway.domain.errors import HeadwayError
from headway.ports.clock import Clock

FAREWELL_S = 1.0
"""How long a stream that has to end waits for its client to take the end of it."""
RECHECK_S = 15.0
"""How often a stream asks whether its token still holds."""


def to_json(value: object) -> bytes:
    """Compact ASCII JSON. Raises ``ValueError`` for NaN and infinity, which JSON does not have."""
    return json.dumps(value, allow_nan=False, separators=(",", ":")).encode("ascii")


def answer(
    view: BaseModel | Sequence[BaseModel] | Mapping[str, object],
    status: int = 200,
    *,
    after: BackgroundTask | None = None,
) -> Response:
    """``view`` as JSON; ``after`` runs once the answer is sent."""
    if isinstance(view, BaseModel):
        content: object = view.model_dump()
    elif isinstance(view, Mapping):
        content = dict(view)
    else:
        content = [one.model_dump() for one in view]
    return Response(to_json(content), status, media_type="application/json", background=after)


def failure(error: HeadwayError, headers: Mapping[str, str] | None = None) -> Response:
    """``error`` in the tree's JSON form with its status."""
    content = error.to_dict()
    try:
        body = to_json(content)
    except (TypeError, ValueError):
        content["error"].pop("details", None)
        body = to_json(content)
    return Response(body, error.status, headers=dict(headers or {}), media_type="application/json")


class LiveStream(Response):
    """A body that is sent as it comes into being and has no end of its own.

    ``source`` is asked for the next chunk only when the one before is on its way, so a slow client holds back
    its source and nothing piles up. The stream ends with the source; when the client goes away; when
    ``closing`` is set (then properly, with a last chunk, so that the server can stop); and, looked at every
    :data:`RECHECK_S`, when ``allowed`` turns false.
    """

    def __init__(
        self,
        source: AsyncGenerator[bytes, None],
        *,
        media_type: str,
        closing: asyncio.Event,
        allowed: Callable[[], bool],
        clock: Clock,
    ) -> None:
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self._source = source
        self._closing = closing
        self._allowed = allowed
        self._clock = clock
        self.init_headers({"X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        pump = asyncio.create_task(self._pump(send), name="stream")
        gone = asyncio.create_task(_disconnected(receive), name="stream disconnect")
        ends = [
            gone,
            asyncio.create_task(self._closing.wait(), name="stream closing"),
            asyncio.create_task(self._disallowed(), name="stream token"),
        ]
        try:
            await asyncio.wait([pump, *ends], return_when=asyncio.FIRST_COMPLETED)
            if pump.done():
                await pump
            present = not gone.done()
        finally:
            for task in (pump, *ends):
                task.cancel()
            await asyncio.gather(pump, *ends, return_exceptions=True)
            await self._source.aclose()
        if present:
            with suppress(TimeoutError):
                await asyncio.wait_for(
                    send({"type": "http.response.body", "body": b"", "more_body": False}), FAREWELL_S
                )

    async def _pump(self, send: Send) -> None:
        async for chunk in self._source:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

    async def _disallowed(self) -> None:
        while self._allowed():
            await self._clock.sleep(RECHECK_S)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
