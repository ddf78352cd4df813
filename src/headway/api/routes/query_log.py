"""The query log: latency over windows, and requests one by one; as JSON, CSV, Parquet, or as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from pydantic import WithJsonSchema
from starlette.responses import Response

from headway.api.access import Caller, ModelName
from headway.api.answers import LiveStream, answer, to_json
from headway.api.formats import Format, wanted
from headway.api.openapi import refusals
from headway.api.parts import Parts
from headway.api.query_log_tables import (
    RECORD_COLUMNS,
    csv_bytes,
    latency_values,
    losses_values,
    record_rows,
    record_values,
    window_columns,
    window_rows,
)
from headway.api.schemas_query_log import LatencyView, RecordPage
from headway.control.query_log import QueryLogService
from headway.control.query_log_follow import Told
from headway.domain import query_conditions as conditions
from headway.domain import query_cursors as cursors
from headway.domain.errors import InvalidInput
from headway.domain.query_log import GroupBy, LatencyField, RecordQuery, WindowQuery
from headway.domain.tables import Column, Row
from headway.ports.clock import Clock

PAGE = 100
MAX_PAGE = 10_000
MAX_PARQUET_ROWS = 1_000_000
"""Of records in one answer; CSV, which is sent page by page, has no bound."""
EXPORT_PAGE = 5_000
KEEP_ALIVE_S = 15.0
SSE_NEEDS = "a stream of records goes on from now, or begins with `since` or `limit`"

Since = Annotated[
    str, Query(description="Begin: so long ago (`30m`, `2h`, `7d`), RFC 3339, or seconds since the epoch.")
]
PhaseText = Annotated[str, WithJsonSchema({"type": "string", "enum": list(LatencyField)})]
GroupText = Annotated[str, WithJsonSchema({"type": "string", "enum": list(GroupBy)})]
Until = Annotated[str | None, Query(description="End, written like `since`; default: now.")]
Where = Annotated[
    list[str] | None,
    Query(description="Only requests with `FIELD OPERATOR VALUE`: `status>=500`, `total>250ms`, `route~predict`."),
]


def add_routes(api: APIRouter, parts: Parts) -> None:
    """``/v1/models/{model}/latency`` and ``/v1/models/{model}/log``."""

    @api.get(
        "/v1/models/{model}/latency",
        tags=["query log"],
        summary="Measure latency over windows",
        response_model=LatencyView,
        responses={
            200: {
                "description": "Windows that hold requests, by start, then group.",
                "content": _other_formats(Format.CSV, Format.PARQUET),
            },
            **refusals(404),
        },
    )
    async def latency(
        model: ModelName,
        caller: Caller,
        window: Annotated[str, Query(description="Length of a window, at least `100ms`.")] = "1m",
        since: Since = "30m",
        until: Until = None,
        field: Annotated[PhaseText, Query(description="The phase that is measured.")] = "total",
        by: Annotated[list[GroupText] | None, Query(description="What to split windows by.")] = None,
        where: Where = None,
        exact: Annotated[
            bool | None,
            Query(
                description="True: from the records; false: from sketches. Default: sketches where it would be slow."
            ),
        ] = None,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
    ) -> Response:
        """Count, rate, errors, average and quantiles per window, of a deployed model or a deleted one.

        Requests of the last second are in it. Windows begin at `since`; the last one may be shorter.
        """
        service = parts.query_log
        now_ns = service.now_ns()
        since_ns, until_ns = span_ns(since, until, now_ns)
        length_ns = conditions.window_ns(window)
        conditions.check_windows(since_ns, until_ns, length_ns)
        query = WindowQuery(
            model=model,
            since_ns=since_ns,
            until_ns=until_ns,
            window_ns=length_ns,
            field=conditions.latency_field(field),
            by=conditions.grouping(by or ()),
            where=conditions.conditions(where or ()),
            exact=exact,
        )
        table = await service.windows(query)
        if len(table.windows) > conditions.MAX_WINDOWS:
            raise InvalidInput(
                f"that is {len(table.windows):,} windows of all groups; at most {conditions.MAX_WINDOWS:,} at once",
                where="?by",
                hint="ask for longer windows, a shorter span or fewer groups",
            )
        kind = wanted(accept, (Format.JSON, Format.CSV, Format.PARQUET))
        if kind is Format.JSON:
            return answer(await asyncio.to_thread(latency_values, table))
        about = {
            "X-Headway-Exact": str(table.exact).lower(),
            "X-Headway-Relative-Error": str(table.relative_error),
            "X-Headway-Losses": to_json(losses_values(table.losses)).decode(),
        }
        columns = window_columns(query.by)
        rows = await asyncio.to_thread(window_rows, table)
        if kind is Format.CSV:
            return Response(await asyncio.to_thread(csv_bytes, rows, columns), media_type=kind, headers=about)
        return await _parquet(parts, caller, columns, _batches([rows]), about)

    @api.get(
        "/v1/models/{model}/log",
        tags=["query log"],
        summary="Read or follow requests",
        response_model=RecordPage,
        responses={
            200: {
                "description": (
                    "A page of records, oldest first. As CSV or Parquet: all of the span, unless `limit` says "
                    "otherwise. With `Accept: text/event-stream` a stream of all that appear, each with a cursor as "
                    "`id`, `request` as `event` and a RecordView as `data`."
                ),
                "content": _other_formats(Format.CSV, Format.PARQUET, Format.STREAM),
            },
            **refusals(404),
        },
    )
    async def read_log(
        model: ModelName,
        caller: Caller,
        since: Annotated[
            str | None, Query(description="Begin, as for latency; default `30m`, and now for a stream.")
        ] = None,
        until: Until = None,
        where: Where = None,
        limit: Annotated[
            int | None, Query(ge=1, le=MAX_PAGE, description=f"At most so many; a page has {PAGE} by default.")
        ] = None,
        after: Annotated[
            str | None, Query(description="Only those after this cursor: an earlier page's `next`.")
        ] = None,
        newest: Annotated[bool, Query(description="The newest `limit` of the span instead of the oldest.")] = False,
        accept: Annotated[str, Header(include_in_schema=False)] = "",
        last_event_id: Annotated[str | None, Header(description="Follow on after this cursor (streams only).")] = None,
    ) -> Response:
        """Every request to a model, deployed or deleted: answered, refused, failed or given up.

        Go on with a page's `next` as `after`, or follow on with it as `Last-Event-ID`. A stream that begins with
        `limit` begins with the newest so many.
        """
        asked = _Asked(model, since, until, tuple(where or ()), limit, after, newest, last_event_id)
        kind = wanted(accept, tuple(Format))
        if kind is Format.STREAM:
            source = await _following(parts.query_log, parts.clock, asked)
            return _live(parts, caller, source, kind)
        if kind is Format.JSON:
            return await _page(parts.query_log, asked)
        batches = await _export(parts.query_log, asked, MAX_PARQUET_ROWS if kind is Format.PARQUET else None)
        about = {"X-Headway-Losses": to_json(losses_values(await parts.query_log.losses(model))).decode()}
        if kind is Format.PARQUET:
            return await _parquet(parts, caller, RECORD_COLUMNS, batches, about)
        return _live(parts, caller, await _begun(_csv(batches)), kind, about)


@dataclass(frozen=True, slots=True)
class _Asked:
    """The parameters of a question about records, as given."""

    model: str
    since: str | None
    until: str | None
    where: tuple[str, ...]
    limit: int | None
    after: str | None
    newest: bool
    last_event_id: str | None

    def query(self, now_ns: int, limit: int) -> RecordQuery:
        since_ns, until_ns = span_ns(self.since or "30m", self.until, now_ns)
        if self.newest and self.after is not None:
            raise InvalidInput("the newest and those after a cursor exclude each other", where="?newest")
        return RecordQuery(
            model=self.model,
            since_ns=since_ns,
            until_ns=until_ns,
            where=conditions.conditions(self.where),
            limit=limit,
            newest=self.newest,
            after=None if self.after is None else cursors.parse(self.after, where="?after").place,
        )


def span_ns(since: str, until: str | None, now_ns: int) -> tuple[int, int]:
    """Begin and end of what ``?since`` and ``?until`` ask for. Raises ``InvalidInput``."""
    since_ns = conditions.instant_ns(since, now_ns, where="?since")
    until_ns = now_ns if until is None else conditions.instant_ns(until, now_ns, where="?until")
    conditions.check_span(since_ns, until_ns)
    return since_ns, until_ns


def _other_formats(*formats: Format) -> dict[str, Any]:
    schemas: dict[Format, dict[str, str]] = {Format.PARQUET: {"type": "string", "format": "binary"}}
    return {str(one): {"schema": schemas.get(one, {"type": "string"})} for one in formats}


async def _page(service: QueryLogService, asked: _Asked) -> Response:
    if asked.last_event_id is not None:
        raise InvalidInput("only streams resume", where="header Last-Event-ID", hint="give it as `after`")
    now_ns = service.now_ns()
    query = asked.query(now_ns, asked.limit or PAGE)
    records, cursor = await service.page(query, now_ns if asked.until is None else None)
    losses = await service.losses(asked.model)

    def page() -> dict[str, Any]:
        return {
            "model": asked.model,
            "since": query.since_ns / 1e9,
            "until": query.until_ns / 1e9,
            "records": [record_values(record) for record in records],
            "next": asked.after if cursor is None else str(cursor),
            "more": len(records) == query.limit and not asked.newest,
            "losses": losses_values(losses),
        }

    return answer(await asyncio.to_thread(page))


async def _export(service: QueryLogService, asked: _Asked, most: int | None) -> AsyncGenerator[list[Row], None]:
    if asked.last_event_id is not None:
        raise InvalidInput("only streams resume", where="header Last-Event-ID", hint="give it as `after`")
    if asked.newest and asked.limit is None:
        raise InvalidInput("how many of the newest?", where="?newest", hint="give a limit")
    query = asked.query(service.now_ns(), asked.limit if asked.newest and asked.limit else EXPORT_PAGE)

    async def batches() -> AsyncGenerator[list[Row], None]:
        count = 0
        async with aclosing(service.pages(query, asked.limit)) as pages:
            async for records in pages:
                count += len(records)
                if most is not None and count > most:
                    raise InvalidInput(
                        f"the span holds more than {most:,} records",
                        where="?since",
                        hint="ask for a shorter span, or CSV",
                    )
                yield await asyncio.to_thread(record_rows, records)

    return batches()


async def _batches(tables: Sequence[Sequence[Row]]) -> AsyncGenerator[Sequence[Row], None]:
    for rows in tables:
        yield rows


async def _csv(batches: AsyncGenerator[Sequence[Row], None]) -> AsyncGenerator[bytes, None]:
    columns: Sequence[Column] | None = RECORD_COLUMNS
    async with aclosing(batches):
        async for rows in batches:
            yield await asyncio.to_thread(csv_bytes, rows, columns)
            columns = None


async def _parquet(
    parts: Parts,
    caller: Caller,
    columns: Sequence[Column],
    batches: AsyncIterator[Sequence[Row]],
    about: dict[str, str],
) -> Response:
    return _live(parts, caller, await _begun(parts.tables.parquet(columns, batches)), Format.PARQUET, about)


async def _begun(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same chunks, begun, so that what is wrong is told before the answer starts."""
    first = await anext(chunks, b"")

    async def all_of_them() -> AsyncGenerator[bytes, None]:
        try:
            yield first
            async for chunk in chunks:
                yield chunk
        finally:
            await chunks.aclose()

    return all_of_them()


def _live(
    parts: Parts,
    caller: Caller,
    source: AsyncGenerator[bytes, None],
    kind: Format,
    headers: dict[str, str] | None = None,
) -> Response:
    response = LiveStream(
        source,
        media_type=f"{kind}; charset=utf-8" if kind is Format.CSV else kind,
        closing=parts.closing,
        allowed=lambda: parts.tokens.still_valid(caller),
        clock=parts.clock,
    )
    response.headers.update(headers or {})
    return response


async def _following(service: QueryLogService, clock: Clock, asked: _Asked) -> AsyncGenerator[bytes, None]:
    for given, name in ((asked.until, "until"), (asked.after, "after"), (asked.newest or None, "newest")):
        if given is not None:
            hint = "give the cursor as header Last-Event-ID" if name == "after" else SSE_NEEDS
            raise InvalidInput(f"a stream takes no {name}", where=f"?{name}", hint=hint)
    now_ns = service.now_ns()
    since_ns = None if asked.since is None else conditions.instant_ns(asked.since, now_ns, where="?since")
    resumed = asked.last_event_id
    batches = await service.follow(
        asked.model,
        conditions.conditions(asked.where),
        since_ns=now_ns - 1800 * 10**9 if since_ns is None and asked.limit is not None else since_ns,
        newest=asked.limit,
        after=None if resumed is None else cursors.parse(resumed, where="header Last-Event-ID"),
    )
    return frames(batches, clock)


async def frames(batches: AsyncGenerator[list[Told], None], clock: Clock) -> AsyncGenerator[bytes, None]:
    """Server-sent events, a batch at a time, and a comment whenever nothing was sent for :data:`KEEP_ALIVE_S`."""
    yield b": requests follow\n\n"
    sent_at = clock.monotonic()
    try:
        async for batch in batches:
            if batch:
                yield b"".join(
                    b"id: %s\nevent: request\ndata: %s\n\n" % (str(cursor).encode(), to_json(record_values(record)))
                    for record, cursor in batch
                )
                sent_at = clock.monotonic()
            elif clock.monotonic() - sent_at >= KEEP_ALIVE_S:
                yield b": still here\n\n"
                sent_at = clock.monotonic()
    finally:
        await batches.aclose()
