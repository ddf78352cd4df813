"""Events: a page of them as JSON, or all that come as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Annotated

from fastapi import APIRouter, Header, Query
from pydantic import WithJsonSchema
from starlette.responses import Response

from headway.api.access import Caller, check_covers, covered
from headway.api.answers import LiveStream, answer, to_json
from headway.api.openapi import refusals
from headway.api.parts import Parts
from headway.api.schemas import EventView, ModelNameText
from headway.api.views import event_view
from headway.domain.errors import InvalidInput
from headway.domain.events import Event
from headway.domain.names import check_model_name
from headway.ports.clock import Clock
from headway.ports.event_log import EventLog

MAX_CURSOR = 2**63 - 1
PAGE = 1_000
STREAM_PAGE = 100
"""Events read ahead for one stream: what a slow client can hold in memory."""
KEEP_ALIVE_S = 15.0
CursorText = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,18}$"})]
SSE = "text/event-stream"


def add_routes(api: APIRouter, parts: Parts) -> None:
    """``/v1/events``."""

    @api.get(
        "/v1/events",
        tags=["events"],
        summary="Read or follow events",
        response_model=list[EventView],
        responses={
            200: {
                "description": (
                    "Events in order, as a JSON list; with `Accept: text/event-stream` a stream of those and all "
                    "that follow, each with its cursor as `id`, its type as `event` and the EventView as `data`."
                ),
                "content": {SSE: {"schema": {"type": "string"}}},
            },
            **refusals(),
        },
    )
    async def read_events(
        caller: Caller,
        after: Annotated[int, Query(ge=0, le=MAX_CURSOR, description="Only events with a cursor above this.")] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE, description="At most so many (a stream ignores no event).")] = 100,
        model: Annotated[ModelNameText | None, Query(description="Only events of this model.")] = None,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
        last_event_id: Annotated[
            CursorText | None, Header(description="Resume after this cursor; it wins over `after`.")
        ] = None,
    ) -> Response:
        """What happened, in order. Read page by page with the last cursor as the next `after`, or follow."""
        if model is not None:
            check_covers(caller, check_model_name(model, where="?model"))
        visible = covered(caller)
        if last_event_id is not None:
            after = _cursor(last_event_id)
        if not _wants_stream(accept):
            found, _ = await read_page(parts.event_log, after, limit, model, visible)
            return answer([event_view(event) for event in found])
        return LiveStream(
            event_stream(parts.event_log, parts.clock, after, model, visible),
            media_type=SSE,
            closing=parts.closing,
            allowed=lambda: parts.tokens.still_valid(caller),
            clock=parts.clock,
        )


def _wants_stream(accept: str) -> bool:
    return any(part.partition(";")[0].strip().lower() == SSE for part in accept.split(","))


def _cursor(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= MAX_CURSOR):
        raise InvalidInput(f"{text[:40]!r} is not a cursor", where="header Last-Event-ID", hint="a whole number")
    return int(text)


async def read_page(
    event_log: EventLog, after: int, limit: int, model: str | None, visible: frozenset[str] | None
) -> tuple[list[Event], int]:
    """At most ``limit`` events above ``after`` that may be seen, and the cursor up to which none was missed.

    That cursor runs ahead of the last event found where others', which may not be seen, lie between.
    """
    if model is None and visible is not None and len(visible) == 1:
        (model,) = visible
    filtering = model is None and visible is not None
    newest = await event_log.last_cursor()
    found: list[Event] = []
    size = PAGE if filtering else limit
    while True:
        page = await event_log.read(after=after, limit=size, model=model)
        for event in page:
            after = event.cursor
            if visible is None or event.model in visible:
                found.append(event)
                if len(found) == limit:
                    return found, after
        if len(page) < size:
            return found, max(after, newest)


async def event_stream(
    event_log: EventLog, clock: Clock, after: int, model: str | None, visible: frozenset[str] | None
) -> AsyncGenerator[bytes, None]:
    """Every event above ``after``, and a comment whenever nothing was sent for :data:`KEEP_ALIVE_S`.

    The log is read only as fast as the client takes what was read.
    """
    yield b": events follow\n\n"
    sent_at = clock.monotonic()
    while True:
        events, after = await read_page(event_log, after, STREAM_PAGE, model, visible)
        for event in events:
            yield frame(event)
            sent_at = clock.monotonic()
        silence_left = KEEP_ALIVE_S - (clock.monotonic() - sent_at)
        if silence_left <= 0:
            yield b": still here\n\n"
            sent_at = clock.monotonic()
        elif not events:
            await event_log.wait(after, silence_left)


def frame(event: Event) -> bytes:
    """One server-sent event (WHATWG HTML, *Server-sent events*). JSON has no raw line breaks: one data line."""
    data = to_json(event_view(event).model_dump())
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (event.cursor, event.type.encode("ascii", "replace"), data)
