"""A gateway of its own for every test, with free ports, and nothing left behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from headway.adapters.haproxy import HaproxyGateway
from headway.adapters.haproxy.binary import find_binary
from headway.domain.errors import MissingBinary
from headway.domain.routing_table import Arm, Endpoint, GatewayToken, ModelRoute, RoutingTable, VersionRoute
from headway.domain.tokens import digest
from tests.integration.haproxy.backends import Replica
from tests.integration.haproxy.gateway_log import Log


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


@pytest.fixture
def log(home: Path) -> Log:
    return Log(home)


@pytest.fixture
async def replicas(home: Path) -> AsyncIterator[tuple[Replica, Replica]]:
    async with Replica(home / "a") as a, Replica(home / "b") as b:
        yield a, b


@pytest.fixture
async def iris(gateway: HaproxyGateway, replicas: tuple[Replica, Replica]) -> tuple[Replica, Replica]:
    """Model iris: v1 with one small replica, v2 with another, v3 with none; token ``app``, and ``narrow`` for wine."""
    a, b = replicas
    small = version("v1", a, timeout_s=2.0, max_concurrency=1, max_body_bytes=1000)
    tokens = (
        GatewayToken("app", digest("hw_app"), None, None),
        GatewayToken("narrow", digest("hw_narrow"), ("wine",), None),
    )
    routes = model("iris", {"v1": 100, "v2": 0, "v3": 0}, small, version("v2", b, timeout_s=0.1), version("v3"))
    await gateway.apply(RoutingTable((routes,), tokens))
    return a, b
