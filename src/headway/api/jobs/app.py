"""JobsApi: the public side, an ASGI application behind the gateway.

Whoever speaks to it was let in by the gateway, which says in ``x-headway-…`` headers who calls and which version it
drew.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from headway.api.answers import LiveStream, failure
from headway.api.boundary import Boundary
from headway.api.jobs import openapi
from headway.api.jobs.calls import Call, Header, Memory, more_headers
from headway.api.jobs.streams import JobStreams
from headway.api.jobs.submissions import (
    MOST_BATCH_BYTES,
    SUBMIT_PARAMETERS,
    asked_wait,
    batch_items,
    came_in_at,
    cursor,
    item_of,
    order_of,
    page_size,
    preferred_wait,
)
from headway.api.jobs.views import BatchView, ListView, encode, job_view
from headway.control.jobs.service import Content, JobService
from headway.domain.errors import HeadwayError, InvalidInput, MethodNotAllowed, NotFound, NotReady, UnsupportedMediaType
from headway.domain.job_ids import JOB_ID
from headway.domain.jobs import Job, JobQuery
from headway.domain.lifecycle import JobState
from headway.domain.names import TOKEN_NAME, VERSION_NAME
from headway.ports.clock import Clock

T = TypeVar("T")
SSE: Final = "text/event-stream"
LIST_PARAMETERS: Final = ("state", "client", "batch", "version", "limit", "before")
LIST_FORMS: Final = (
    ("before", JOB_ID, "job id"),
    ("batch", JOB_ID, "id of a batch"),
    ("version", VERSION_NAME, "version"),
    ("client", re.compile(f"({TOKEN_NAME.pattern})?"), "name of a token"),
)
DEFAULT_LIMIT: Final = 100


@dataclass(frozen=True, slots=True)
class Place:
    """What a path names."""

    model: str
    version: str | None
    rest: tuple[str, ...]


Handler = Callable[[Call, Place], Awaitable[None]]


def place_of(parts: list[str]) -> Place | None:
    """``models/NAME/jobs/…`` or ``models/NAME/versions/V/jobs/…``; None for any other path."""
    match parts:
        case ["models", model, "jobs", *rest]:
            return Place(model, None, tuple(rest))
        case ["models", model, "versions", version, "jobs", *rest]:
            return Place(model, version, tuple(rest))
    return None


class JobsApi:
    """``closing`` is set when waits and streams have to end."""

    def __init__(
        self,
        service: JobService,
        streams: JobStreams,
        clock: Clock,
        closing: asyncio.Event,
        memory: Memory | None = None,
    ) -> None:
        self._service = service
        self._streams = streams
        self._clock = clock
        self._closing = closing
        self._memory = memory or Memory()
        self.routes: dict[str, dict[str, Handler]] = {
            "": {"POST": self._submit, "GET": self._list},
            "/batch": {"POST": self._submit_batch},
            "/events": {"GET": self._model_events},
            "/openapi.json": {"GET": self._openapi},
            "/{id}": {"GET": self._get, "DELETE": self._cancel},
            "/{id}/result": {"GET": self._result},
            "/{id}/input": {"GET": self._input},
            "/{id}/events": {"GET": self._job_events},
        }
        """By the template of what follows ``jobs``, then by method."""

    def bounded(self) -> Boundary:
        """The whole application: faults become answers."""
        return Boundary(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(scope, receive, send, self._memory)
        try:
            handler, place = self._route(call)
            await handler(call, place)
        except HeadwayError as error:
            if error.status >= 500 and not isinstance(error, NotReady):
                raise  # to be logged, too
            await failure(error, more_headers(error, call))(scope, receive, send)
        finally:
            call.release()

    def _route(self, call: Call) -> tuple[Handler, Place]:
        if call.parts == ["health"]:
            return self._health, Place("", None, ())
        place = place_of(call.parts)
        if place is None:
            raise NotFound(f"there is nothing at {call.scope['path'][:200]}")
        rest = list(place.rest)
        template = "/".join(["", *rest])
        if template not in self.routes and rest:
            template = "/".join(["", "{id}", *rest[1:]])
        methods = self.routes.get(template)
        if methods is None:
            hint = f"GET /models/{place.model[:40]}/jobs/openapi.json lists every endpoint"
            raise NotFound(f"there is nothing at {call.scope['path'][:200]}", hint=hint)
        handler = methods.get(call.method)
        if handler is None:
            call.allowed = ", ".join(methods)
            raise MethodNotAllowed(f"{call.method[:20]} is not possible here", hint=f"possible: {call.allowed}")
        return handler, place

    # -- submitting ------------------------------------------------------------------------------

    async def _submit(self, call: Call, place: Place) -> None:
        parameters = call.parameters(SUBMIT_PARAMETERS)
        at = came_in_at(call, self._clock.now())
        order = order_of(call, place.model, place.version, parameters)
        wait_s = preferred_wait(call.header(b"prefer")) if b"prefer" in call.headers else None
        body = await call.body(await self._service.body_limit(order))
        (submitted,) = await self._service.submit(order, [item_of(body, parameters, at)])
        del body  # it may have to wait long
        call.release()
        job = submitted.job
        more: list[Header] = [(b"location", f"/models/{job.model}/jobs/{job.job_id}".encode())]
        status = 202
        if wait_s:
            job = await self._wait(call, job, wait_s)
            if job.ended:
                status = 200
                more.append((b"preference-applied", b"wait=%g" % wait_s))
        await call.answer(encode(job_view(job, self._clock.now())), status, more=more)

    async def _submit_batch(self, call: Call, place: Place) -> None:
        parameters = call.parameters(SUBMIT_PARAMETERS)
        at = came_in_at(call, self._clock.now())
        order = order_of(call, place.model, place.version, parameters)
        if order.content_encoding:
            raise UnsupportedMediaType("a batch is sent as it is, not compressed", where="Content-Encoding")
        await self._service.body_limit(order)  # what cannot run at all need not be read
        items = batch_items(order.content_type, await call.body(MOST_BATCH_BYTES), parameters, at)
        submitted = await self._service.submit(replace(order, content_type="application/json"), items, batch=True)
        view = BatchView(submitted[0].job.batch or "", [one.job.job_id for one in submitted])
        location = f"/models/{place.model}/jobs?batch={view.batch}".encode()
        await call.answer(encode(view), 202, more=[(b"location", location)])

    # -- looking ---------------------------------------------------------------------------------

    async def _get(self, call: Call, place: Place) -> None:
        if _wants_stream(call):
            await self._job_events(call, place)
            return
        job = await self._awaited(call, place)
        ahead = await self._service.place(job)
        await call.answer(encode(job_view(job, self._clock.now(), ahead)))

    async def _result(self, call: Call, place: Place) -> None:
        job = await self._awaited(call, place)
        call.hold(job.result_bytes or 0)
        await _content(call, await self._service.result(job))

    async def _input(self, call: Call, place: Place) -> None:
        call.parameters(())
        job = await self._service.get(place.model, place.rest[0], place.version)
        call.hold(job.input_bytes)
        await _content(call, await self._service.input(job))

    async def _awaited(self, call: Call, place: Place) -> Job:
        parameters = call.parameters(("wait",))
        wait_s = asked_wait(parameters["wait"]) if "wait" in parameters else 0.0
        job = await self._service.get(place.model, place.rest[0], place.version)
        return await self._wait(call, job, wait_s) if wait_s and not job.ended else job

    async def _list(self, call: Call, place: Place) -> None:
        given = call.parameters(LIST_PARAMETERS)
        limit = page_size(given["limit"]) if "limit" in given else DEFAULT_LIMIT
        for name, form, what in LIST_FORMS:
            if name in given and not form.fullmatch(given[name]):
                raise InvalidInput(f"{given[name][:40]!r} is no {what}", where=f"?{name}")
        query = JobQuery(
            model=place.model,
            states=_states(given.get("state", "")),
            client=given.get("client"),
            batch=given.get("batch"),
            version=place.version or given.get("version"),
            before=given.get("before"),
            limit=limit + 1,
        )
        found = await self._service.find(query)
        now = self._clock.now()
        page = [job_view(job, now) for job in found[:limit]]
        await call.answer(encode(ListView(page, page[-1].id if len(found) > limit else None)))

    async def _cancel(self, call: Call, place: Place) -> None:
        call.parameters(())
        job = await self._service.cancel(place.model, place.rest[0], place.version)
        await call.answer(encode(job_view(job, self._clock.now())), 200 if job.ended else 202)

    async def _openapi(self, call: Call, place: Place) -> None:
        call.parameters(())
        await call.answer(openapi.text())

    async def _health(self, call: Call, place: Place) -> None:
        await call.answer(b'{"status":"ok"}')

    # -- following -------------------------------------------------------------------------------

    async def _job_events(self, call: Call, place: Place) -> None:
        after = self._after(call) or 0
        job = await self._service.get(place.model, place.rest[0], place.version)
        if after and await self._streams.over(job, after):
            await call.answer(b"", 204)  # a browser that was told everything shall not come again
            return
        await self._stream(call, self._streams.of_job(job, after))

    async def _model_events(self, call: Call, place: Place) -> None:
        after = self._after(call)
        await self._service.find(JobQuery(place.model, limit=1))  # a model that is not there is told now
        await self._stream(call, self._streams.of_model(place.model, after))

    def _after(self, call: Call) -> int | None:
        parameters = call.parameters(("after",))
        if last := call.header(b"last-event-id"):
            return cursor(last, "Last-Event-ID")
        return cursor(parameters["after"], "?after") if "after" in parameters else None

    async def _stream(self, call: Call, source: Any) -> None:
        stream = LiveStream(source, media_type=SSE, closing=self._closing, allowed=lambda: True, clock=self._clock)
        await stream(call.scope, call.receive, call.send)

    async def _wait(self, call: Call, job: Job, wait_s: float) -> Job:
        """The job once it has ended, after ``wait_s``, or when this server is about to stop."""
        waiting = self._service.wait(job.model, job.job_id, wait_s)
        found = await _first(waiting, call.gone(), self._closing.wait())
        return found if found is not None else await self._service.get(job.model, job.job_id)


async def _first(wanted: Coroutine[Any, Any, T], gone: Coroutine[Any, Any, None], end: Any) -> T | None:
    """What ``wanted`` gives; None when ``end`` came first. Raises ``ClientDisconnect`` when the client left."""
    asked = asyncio.create_task(wanted)
    left, ended = asyncio.ensure_future(gone), asyncio.ensure_future(end)
    try:
        await asyncio.wait({asked, left, ended}, return_when=asyncio.FIRST_COMPLETED)
        if asked.done():
            return asked.result()
        if left.done():
            raise ClientDisconnect
        return None
    finally:
        for one in (asked, left, ended):
            one.cancel()
        await asyncio.gather(asked, left, ended, return_exceptions=True)


async def _content(call: Call, content: Content) -> None:
    more: list[Header] = [(b"x-headway-job", content.job.job_id.encode())]
    if content.content_encoding:
        more.append((b"content-encoding", content.content_encoding.encode()))
    if content.job.ran_version:
        more.append((b"x-headway-ran-version", content.job.ran_version.encode()))
    await call.answer(content.body, kind=content.content_type.encode("latin-1", "replace"), more=more)


def _states(text: str) -> frozenset[JobState]:
    if not text:
        return frozenset()
    known = [str(state) for state in JobState]
    wrong = next((word for word in text.split(",") if word not in known), None)
    if wrong is not None:
        raise InvalidInput(f"{wrong[:40]!r} is no state", where="?state", hint=f"states: {', '.join(known)}")
    return frozenset(JobState(word) for word in text.split(","))


def _wants_stream(call: Call) -> bool:
    return SSE in call.header(b"accept")
