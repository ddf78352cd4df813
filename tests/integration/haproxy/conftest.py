"""A gateway of its own for every test, with free ports, and nothing left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from headway.adapters.haproxy import HaproxyGateway
from headway.adapters.haproxy.binary import find_binary
from headway.domain.errors import MissingBinary
from headway.domain.routing_table import Arm, Endpoint, ModelRoute, RoutingTable, VersionRoute
from tests.integration.haproxy.backends import Replica


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def haproxy(require_service: Callable[[str, object], None]) -> str:
    try:
        found = find_binary()
    except MissingBinary:
        found = ""
    require_service("HAProxy", found)
    return found


@pytest.fixture
def port(free_port: Callable[[], int]) -> int:
    return free_port()


@pytest.fixture
def home(scratch: Path) -> Path:
    return scratch / "home"


@pytest.fixture
async def gateway(home: Path, port: int) -> AsyncIterator[HaproxyGateway]:
    gateway = HaproxyGateway(home=home, host="127.0.0.1", port=port)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop(stop_gateway=True)


def version(name: str, *replicas: Replica, **limits: float) -> VersionRoute:
    endpoints = tuple(Endpoint(r.name, r.address) for r in replicas)
    return VersionRoute(name, endpoints, **limits)  # type: ignore[arg-type]


def model(name: str, weights: dict[str, int], *versions: VersionRoute) -> ModelRoute:
    return ModelRoute(name, tuple(Arm(v, w) for v, w in weights.items()), versions)


def table(*models: ModelRoute) -> RoutingTable:
    return RoutingTable(models)
