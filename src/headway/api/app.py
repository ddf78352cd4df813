"""The control API as an ASGI application: layers, routes and error answers put together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.middleware import Middleware

from headway import __version__
from headway.api import openapi
from headway.api.access import Authentication
from headway.api.bodies import JsonRoute
from headway.api.boundary import Boundary, add_error_answers
from headway.api.hosts import HostCheck
from headway.api.parts import Parts
from headway.api.ports import ControlService
from headway.api.routes import bundles as bundle_routes
from headway.api.routes import comparisons as comparison_routes
from headway.api.routes import events, installation, logs, models, rollouts
from headway.api.routes import payloads as payload_routes
from headway.api.routes import plans as plan_routes
from headway.api.routes import query_log as query_log_routes
from headway.api.routes import scaling as scaling_routes
from headway.api.routes import tokens as token_routes
from headway.api.schemas import InfoView
from headway.control.comparisons import ComparisonService
from headway.control.decisions import DecisionService
from headway.control.payloads import PayloadService
from headway.control.plans import PlanService
from headway.control.query_log import QueryLogService
from headway.control.tokens import TokenService
from headway.control.usage import UsageService
from headway.ports.bundle_store import BundleStore
from headway.ports.clock import Clock
from headway.ports.event_log import EventLog
from headway.ports.gateway import Gateway
from headway.ports.replica_stats import ReplicaStats
from headway.ports.runtime import Runtime
from headway.ports.table_writer import TableWriter

DEFAULT_MAX_BUNDLE_BYTES = 8 * 1024**3


def create_app(
    *,
    service: ControlService,
    event_log: EventLog,
    bundles: BundleStore,
    runtime: Runtime,
    tokens: TokenService,
    gateway: Gateway,
    decisions: DecisionService,
    comparisons: ComparisonService,
    query_log: QueryLogService,
    payloads: PayloadService,
    plans: PlanService,
    table_writer: TableWriter,
    replica_stats: ReplicaStats,
    info: Callable[[], InfoView],
    shutdown: Callable[[], None],
    clock: Clock,
    hosts: Collection[str] = ("127.0.0.1",),
    closing: asyncio.Event | None = None,
    max_bundle_bytes: int = DEFAULT_MAX_BUNDLE_BYTES,
) -> FastAPI:
    """The application; ``tokens`` must be loaded.

    ``hosts``: the address the listener is bound to and other names it is reached by; loopback names always
    pass. ``closing``: set it when the server is about to stop, so that streams end. ``shutdown`` is called on
    the event loop after ``POST /v1/shutdown`` has been answered. ``max_bundle_bytes`` bounds one upload.
    """
    parts = Parts(
        service=service,
        event_log=event_log,
        bundles=bundles,
        runtime=runtime,
        tokens=tokens,
        gateway=gateway,
        decisions=decisions,
        comparisons=comparisons,
        info=info,
        shutdown=shutdown,
        clock=clock,
        closing=closing if closing is not None else asyncio.Event(),
        max_bundle_bytes=max_bundle_bytes,
        query_log=query_log,
        payloads=payloads,
        plans=plans,
        tables=table_writer,
        usage=UsageService(replica_stats, runtime, clock),
    )
    api = FastAPI(
        title=openapi.TITLE,
        version=__version__,
        openapi_url=None,  # served by a route of ours, behind the token
        docs_url=None,  # both pages would load their scripts from somebody else's server
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=_operation_id,
        telemetry={"tracing": False, "metrics": False, "logs": False, "operation_spans": False},
        middleware=[
            Middleware(Boundary),
            Middleware(HostCheck, hosts=tuple(hosts)),
            Middleware(Authentication, tokens=tokens),
        ],
    )
    api.router.route_class = JsonRoute
    add_error_answers(api)
    query_log_resources = (query_log_routes, payload_routes, comparison_routes)
    scaling_resources = (scaling_routes, plan_routes)
    resources = (models, rollouts, *scaling_resources, logs, *query_log_resources, bundle_routes, events, token_routes)
    for resource in resources:
        resource.add_routes(api.router, parts)
    installation.add_routes(api.router, parts, api)
    described: dict[str, Any] = {}

    def document() -> dict[str, Any]:
        if not described:
            described.update(openapi.document(api))
        return described

    api.openapi = document  # type: ignore[method-assign]
    return api


def _operation_id(route: APIRoute) -> str:
    return route.name
