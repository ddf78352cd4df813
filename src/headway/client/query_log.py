"""Questions to the query log: windows of latency, records page by page, records as they come."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from pydantic import BaseModel

from headway.api.schemas_query_log import RecordPage, RecordView
from headway.client.connection import ANSWER_S, CONTROL, Connection
from headway.client.rollout import RETRY_S, Time
from headway.client.windows import Windows
from headway.client.wire import frames_of, json_of, view_of
from headway.domain.errors import ControlUnreachable, DeadlineExceeded, InvalidInput
from headway.domain.names import check_model_name

PAGE: Final = 5000
SILENCE_S: Final = 45.0
"""A stream says at least every 15 s that it is still there."""
GIVE_UP_S: Final = 60.0
MEDIA_TYPES: Final = {"csv": "text/csv", "parquet": "application/vnd.apache.parquet"}

Instant = str | float | datetime
"""A length before now (``"30m"``), an ISO 8601 text, seconds since the epoch, or a ``datetime`` with its zone."""


class _Payloads(BaseModel):
    payloads: list[dict[str, Any]]


class QueryLogCalls:
    """The part of :class:`headway.client.Client` that asks the query log.

    In all of it: ``since`` and ``until`` are a length before now (``"30m"``), an instant as text, in seconds since the
    epoch or as an aware ``datetime``; ``where`` are conditions that all hold (``"status>=500"``). Raises
    ``ModelNotFound``, and ``InvalidInput`` for a question that cannot be asked.
    """

    _connection: Connection

    def windows(
        self,
        name: str,
        *,
        window: str | float = "1m",
        since: Instant = "30m",
        until: Instant | None = None,
        field: str = "total",
        by: Sequence[str] | str = (),
        where: Sequence[str] | str = (),
        exact: bool | None = None,
    ) -> Windows:
        """Requests, errors and latency per ``window``: a length (``"1m"``), or seconds.

        ``field``: the phase that is measured; ``by``: what to split windows by (``"version"``). ``exact``: True from
        the records, False from sketches, by default from the records unless they are too many to be quick.
        """
        params = _windows(window, since, until, field, by, where, exact)
        return view_of(Windows, self._connection.ask("GET", f"{_model(name)}/latency", params=params), CONTROL)

    def windows_file(
        self,
        name: str,
        format: str,  # noqa: A002
        *,
        window: str | float = "1m",
        since: Instant = "30m",
        until: Instant | None = None,
        field: str = "total",
        by: Sequence[str] | str = (),
        where: Sequence[str] | str = (),
        exact: bool | None = None,
    ) -> Iterator[bytes]:
        """What :meth:`windows` gives as a file, piece by piece; ``format`` is ``csv`` or ``parquet``."""
        params = _windows(window, since, until, field, by, where, exact)
        return _file(self._connection, f"{_model(name)}/latency", params, format)

    def records(
        self,
        name: str,
        *,
        since: Instant = "10m",
        until: Instant | None = None,
        where: Sequence[str] | str = (),
        last: int | None = None,
    ) -> Iterator[RecordView]:
        """Requests one by one, oldest first; only the ``last`` so many, 10,000 at most, if given."""
        for page in self.record_pages(name, since=since, until=until, where=where, last=last):
            yield from page.records

    def record_pages(
        self,
        name: str,
        *,
        since: Instant = "10m",
        until: Instant | None = None,
        where: Sequence[str] | str = (),
        last: int | None = None,
    ) -> Iterator[RecordPage]:
        """As :meth:`records`, page by page: each says the span that was read and what is missing from the log."""
        params = {"where": _texts(where), **_span(since, until)}
        return read(self._connection, f"{_model(name)}/log", params, last)

    def follow_records(
        self, name: str, *, since: Instant = "10m", where: Sequence[str] | str = (), last: int | None = None
    ) -> Iterator[RecordView]:
        """As :meth:`records`, then those that come, for ever; resumed when the connection breaks, none twice."""
        params = {"where": _texts(where), **_span(since, None)}
        return follow(self._connection, f"{_model(name)}/log", params, last)

    def records_file(
        self,
        name: str,
        format: str,  # noqa: A002
        *,
        since: Instant = "10m",
        until: Instant | None = None,
        where: Sequence[str] | str = (),
        last: int | None = None,
    ) -> Iterator[bytes]:
        """What :meth:`records` gives as a file, piece by piece; ``format`` is ``csv`` or ``parquet``."""
        newest = {"limit": last, "newest": True} if last is not None else {}
        params = {"where": _texts(where), **_span(since, until), **newest}
        return _file(self._connection, f"{_model(name)}/log", params, format)

    def payloads(
        self, name: str, *, since: Instant = "1h", until: Instant | None = None, last: int = 100
    ) -> list[dict[str, Any]]:
        """The ``last`` so many requests, 1,000 at most, that were kept whole with their answers; oldest first.

        Each has ``input`` and ``output`` as JSON values. None are kept unless the spec says ``queryLog.payloads``.
        """
        params = {"limit": last, **_span(since, until)}
        return view_of(
            _Payloads, self._connection.ask("GET", f"{_model(name)}/payloads", params=params), CONTROL
        ).payloads


def read(connection: Connection, path: str, params: Mapping[str, Any], last: int | None) -> Iterator[RecordPage]:
    """Pages of records: all of the span, or one with the ``last`` so many."""
    if last is not None:
        yield _page(connection, path, {**params, "limit": last, "newest": True})
        return
    after: str | None = None
    while True:
        page = _page(connection, path, {**params, "limit": PAGE, "after": after})
        # Later pages are of the same span: "10m ago" moves on while they are read.
        params = {**params, "since": _seconds(page.since), "until": _seconds(page.until)}
        yield page
        if not page.more:
            return
        after = page.next


def follow(
    connection: Connection, path: str, params: Mapping[str, Any], last: int | None, time: Time | None = None
) -> Iterator[RecordView]:
    """Records from some point on, for ever; broken streams are resumed after the last record told.

    The first page gives the instant to begin at ("10m ago" would move on with each attempt) or, with ``last``, the
    records and the cursor to begin after. Raises ``ControlUnreachable`` when nothing has answered for a minute, at
    once when nothing ever did.
    """
    clock = time or Time()
    first = _page(connection, path, {**params, "limit": last or 1, "newest": True})
    after: str | None = None
    if last is not None:
        yield from first.records
        after = first.next
    answered_at = clock.now()
    while True:
        try:
            headers = {"Accept": "text/event-stream", **({"Last-Event-ID": after} if after is not None else {})}
            asked = {"where": params.get("where"), "since": _seconds(first.since) if after is None else None}
            with connection.stream(path, params=asked, headers=headers, silence_s=SILENCE_S) as chunks:
                for frame in frames_of(chunks):
                    answered_at = clock.now()
                    if frame is not None:
                        after = frame.id or after
                        yield view_of(RecordView, json_of(frame.data.encode(), CONTROL), CONTROL)
        except (ControlUnreachable, DeadlineExceeded):
            if clock.now() - answered_at > GIVE_UP_S:
                raise
            connection.find_again()
        clock.pause(RETRY_S)


def _page(connection: Connection, path: str, params: Mapping[str, Any]) -> RecordPage:
    return view_of(RecordPage, connection.ask("GET", path, params=params), CONTROL)


def _seconds(at: float) -> str:
    return f"{at:.9f}"


def _model(name: str) -> str:
    return f"/v1/models/{check_model_name(name)}"


def _windows(
    window: str | float,
    since: Instant,
    until: Instant | None,
    field: str,
    by: Sequence[str] | str,
    where: Sequence[str] | str,
    exact: bool | None,
) -> dict[str, Any]:
    length = window if isinstance(window, str) else f"{_seconds(window)}s"
    groups = {"by": _texts(by), "where": _texts(where)}
    return {"window": length, "field": field, "exact": exact, **groups, **_span(since, until)}


def _span(since: Instant | None, until: Instant | None) -> dict[str, str | None]:
    return {"since": instant_text(since, "since"), "until": instant_text(until, "until")}


def instant_text(at: Instant | None, where: str) -> str | None:
    """``at`` as the control API reads it. Raises ``InvalidInput`` for a ``datetime`` without a zone."""
    if isinstance(at, datetime):
        if at.tzinfo is None:
            raise InvalidInput(
                f"{at.isoformat()} has no time zone", where=where, hint="for example datetime.now(timezone.utc)"
            )
        at = at.timestamp()
    return _seconds(at) if isinstance(at, int | float) else at


def _texts(values: Sequence[str] | str) -> list[str]:
    return [values] if isinstance(values, str) else [*values]


def _file(connection: Connection, path: str, params: Mapping[str, Any], format: str) -> Iterator[bytes]:  # noqa: A002
    if format not in MEDIA_TYPES:
        raise InvalidInput(f"{format!r} is not a format of files", where="format", hint="csv or parquet")
    headers = {"Accept": MEDIA_TYPES[format]}
    with connection.stream(path, params=params, headers=headers, silence_s=ANSWER_S) as chunks:
        yield from chunks
