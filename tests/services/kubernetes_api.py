"""A Kubernetes API server as its HTTP API looks, on the memory cluster; faults are put in at the wire.

Real sockets, chunked watches with bookmarks, pages, Status objects for refusals.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from headway.adapters.memory.cluster import MemoryCluster
from headway.adapters.memory.replica_logs import MemoryReplicaLogs
from headway.api.server import bind, create_server
from headway.domain.cluster_objects import Change, Kind, Name, version_of
from headway.domain.errors import HeadwayError, KindMissing

PATH = re.compile(
    r"/(?:api/(?P<core>v1)|apis/(?P<group>[^/]+/[^/]+))(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<sub>[^/]+))?"
)
REASONS = {404: "NotFound", 409: "Conflict", 410: "Expired", 422: "Invalid", 429: "TooManyRequests"}


@dataclass
class Faults:
    """What goes wrong next. ``request`` may answer in place of the server; ``after`` in place of its answer, when
    the write has happened; ``stream`` may drop, repeat or reorder what a watch tells (None: say nothing)."""

    request: Callable[[Request], Response | None] = lambda _: None
    after: Callable[[Request], Response | None] = lambda _: None
    stream: Callable[[Kind, Change], list[Change]] = lambda _, change: [change]
    cut: asyncio.Event = field(default_factory=asyncio.Event)
    """Set: every watch ends."""


def refusal(code: int, message: str = "", **details: Any) -> JSONResponse:
    headers = {"Retry-After": str(details["retryAfterSeconds"])} if "retryAfterSeconds" in details else {}
    return JSONResponse(status(code, message, **details), code, headers)


def status(code: int, message: str = "", **details: Any) -> dict[str, Any]:
    return {
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "reason": REASONS.get(code, "InternalError"), "message": message or f"refused with {code}", "details": details,
    }  # fmt: skip


class KubernetesApi:
    """Entered, it listens at ``url``."""

    def __init__(self, kinds: list[Kind], cluster: MemoryCluster | None = None) -> None:
        self.cluster = cluster or MemoryCluster()
        self.faults = Faults()
        self.logs = MemoryReplicaLogs()
        """Of pods, by their name."""
        self.requests: list[tuple[str, str]] = []
        self.page = 10_000
        self._kinds = {(kind.api_version, kind.plural): kind for kind in kinds}
        self._pages: dict[str, tuple[list[Any], str]] = {}
        methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
        app = Starlette(routes=[Route("/{path:path}", self._answer, methods=methods)])
        self._listener = bind("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._server = create_server(app, host="127.0.0.1", port=0, closing=asyncio.Event())
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> KubernetesApi:
        self._serving = asyncio.create_task(self._server.serve(sockets=[self._listener]))
        return self

    async def __aexit__(self, *_: object) -> None:
        self.cut_watches()
        self._server.stop()
        assert self._serving is not None
        await self._serving
        self._listener.close()

    def cut_watches(self) -> None:
        """Every watch ends, as when the server restarts."""
        self.faults.cut.set()
        self.faults.cut = asyncio.Event()

    def asked(self, method: str) -> list[str]:
        """The paths of requests with this method; ``LIST`` and ``WATCH`` are methods of their own."""
        return [path for asked, path in self.requests if asked == method]

    async def _answer(self, request: Request) -> Response:
        found = PATH.fullmatch(request.url.path)
        kind = found and self._kinds.get((found["core"] or found["group"], found["plural"]))
        if not found or not kind:
            return PlainTextResponse("404 page not found", 404)
        method = request.method
        if method == "GET" and not found["name"]:
            method = "WATCH" if request.query_params.get("watch") else "LIST"
        self.requests.append((method, request.url.path))
        if fault := self.faults.request(request):
            return fault
        try:
            answer = await self._do(method, request, kind, found)
        except HeadwayError as error:
            return refusal(404 if isinstance(error, KindMissing) else error.status, error.message)
        return self.faults.after(request) or answer

    async def _do(self, method: str, request: Request, kind: Kind, found: re.Match[str]) -> Response:
        name = Name(found["namespace"] or "", found["name"] or "")
        query = request.query_params
        labels = dict(part.split("=", 1) for part in query.get("labelSelector", "").split(",") if part)
        body = json.loads(await request.body() or b"null")
        match method:
            case "LIST":
                return await self._list(kind, labels, name.namespace, query.get("continue"))
            case "WATCH":
                stream = self._watch(kind, labels, name.namespace, query["resourceVersion"], self.faults.cut)
                return StreamingResponse(stream, media_type="application/json")
            case "GET" if found["sub"] == "log":
                tail = int(query["tailLines"]) if "tailLines" in query else None
                if not self.logs.has(name.name):
                    return refusal(404, f'pods "{name.name}" not found')
                chunks = self.logs.logs(name.name, tail_lines=tail, follow=query.get("follow") == "true")
                return StreamingResponse(chunks, media_type="text/plain")
            case "GET":
                item = await self.cluster.read(kind, name)
                return JSONResponse(item) if item else refusal(404, f'{kind.plural} "{name.name}" not found')
            case "PATCH":
                assert request.headers["content-type"] == "application/apply-patch+yaml"
                assert query["force"] == "true"
                manager = query["fieldManager"]
                item = self.cluster.apply_as(manager, kind, body, subresource=found["sub"] or "")
                return JSONResponse(item)
            case "POST" | "PUT":
                return JSONResponse(self.cluster.update_as(query["fieldManager"], kind, body))
            case _:
                uid = ((body or {}).get("preconditions") or {}).get("uid", "")
                if (live := await self.cluster.read(kind, name)) is None:
                    return refusal(404, f'{kind.plural} "{name.name}" not found')
                if uid and live["metadata"]["uid"] != uid:
                    return refusal(409, "the UID in the precondition does not match")
                await self.cluster.delete(kind, name, uid)
                return JSONResponse({"kind": "Status", "status": "Success"})

    async def _list(self, kind: Kind, labels: dict[str, str], namespace: str, more: str | None) -> Response:
        if more:
            objects, version = self._pages.pop(more)
        else:
            listing = await self.cluster.listing(kind, labels)
            objects, version = list(listing.objects), listing.resource_version
            objects = [item for item in objects if not namespace or item["metadata"]["namespace"] == namespace]
        metadata = {"resourceVersion": version}
        if objects[self.page :]:
            metadata["continue"] = f"page-{len(objects)}-{version}"
            self._pages[metadata["continue"]] = (objects[self.page :], version)
        items = [{k: v for k, v in item.items() if k not in ("apiVersion", "kind")} for item in objects[: self.page]]
        return JSONResponse({"kind": f"{kind.kind}List", "metadata": metadata, "items": items})

    async def _watch(
        self, kind: Kind, labels: dict[str, str], namespace: str, version: str, cut: asyncio.Event
    ) -> AsyncIterator[bytes]:
        ended = asyncio.create_task(cut.wait())
        changes = self.cluster.watch(kind, labels, version)
        try:
            while True:
                step = asyncio.ensure_future(anext(changes))
                await asyncio.wait((step, ended), return_when=asyncio.FIRST_COMPLETED)
                if not step.done():
                    step.cancel()
                    return
                try:
                    change = step.result()
                except HeadwayError as error:
                    yield _line("ERROR", status(error.status, error.message))
                    return
                if namespace and change.object["metadata"]["namespace"] != namespace:
                    bookmark = {"kind": kind.kind, "metadata": {"resourceVersion": version_of(change.object)}}
                    yield _line("BOOKMARK", bookmark)
                    continue
                for told in self.faults.stream(kind, change):
                    yield _line(told.type.upper(), told.object)
        finally:
            ended.cancel()


def _line(kind: str, item: Any) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"
