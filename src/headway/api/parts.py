"""Everything the endpoints work with, handed to each of them when the application is put together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from headway.api.ports import ControlService
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
from headway.ports.runtime import Runtime
from headway.ports.table_writer import TableWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """The doors of the API to the rest of Headway."""

    service: ControlService
    event_log: EventLog
    bundles: BundleStore
    runtime: Runtime
    tokens: TokenService
    gateway: Gateway
    info: Callable[[], InfoView]
    shutdown: Callable[[], None]
    clock: Clock
    closing: asyncio.Event
    """Set when the listener is about to stop: answers that go on for long end."""
    max_bundle_bytes: int
    decisions: DecisionService
    comparisons: ComparisonService
    query_log: QueryLogService
    usage: UsageService
    payloads: PayloadService
    plans: PlanService
    tables: TableWriter
