"""Who may call: tokens are checked by HAProxy alone, with the control plane alive or not."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from headway.adapters.haproxy import HaproxyGateway
from headway.domain.routing_table import GatewayToken, RoutingTable
from headway.domain.tokens import digest
from tests.integration.haproxy.backends import Answer, Connection, Replica, call, until
from tests.integration.haproxy.conftest import model, table, version

pytestmark = pytest.mark.anyio


def token(name: str, *, models: tuple[str, ...] | None = None, expires_at: int | None = None) -> GatewayToken:
    return GatewayToken(name, digest(f"hw_{name}"), models, expires_at)


@pytest.fixture
async def routes(gateway: HaproxyGateway, home: Path) -> AsyncIterator[RoutingTable]:
    async with Replica(home / "a") as a:
        iris = model("iris", {"v1": 100}, version("v1", a))
        yield table(iris, replace(iris, model="wine"))


async def ask(port: int, secret: str | None, name: str = "iris", scheme: str = "Bearer") -> Answer:
    headers = {"authorization": f"{scheme} {secret}"} if secret is not None else {}
    return await call(port, f"/models/{name}/predict", headers=headers)


def refused(answer: Answer) -> bool:
    assert answer.headers["www-authenticate"].startswith("Bearer")
    return (answer.status, answer.code) == (401, "unauthenticated")


async def test_on_loopback_none_passes_and_a_bad_one_does_not(
    gateway: HaproxyGateway, routes: RoutingTable, port: int
) -> None:
    await gateway.apply(replace(routes, tokens=(token("good"),)))
    assert (await ask(port, None)).status == 200
    assert (await ask(port, "hw_good")).status == 200
    for bad in ("hw_bad", "", "good", digest("hw_good"), "hw_good x", "hw_GOOD"):
        assert refused(await ask(port, bad)), bad
    assert refused(await ask(port, "hw_good", scheme="Basic"))
    assert refused(await ask(port, "hw_bad", name="nobody")), "a stranger does not learn which models there are"


async def test_where_tokens_are_required_none_is_refused(
    gateway: HaproxyGateway, routes: RoutingTable, port: int
) -> None:
    await gateway.apply(replace(routes, tokens=(token("good"),), require_token=True))
    assert refused(await ask(port, None))
    assert refused(await ask(port, None, name="nobody"))
    assert (await ask(port, "hw_good")).status == 200
    assert (await ask(port, "hw_good", scheme="bearer")).status == 200
    assert (await call(port, "/healthz")).status == 200
    await gateway.apply(replace(routes, tokens=(token("good"),)))
    assert (await ask(port, None)).status == 200


async def test_two_credentials_in_one_request_are_refused(
    gateway: HaproxyGateway, routes: RoutingTable, port: int
) -> None:
    await gateway.apply(replace(routes, tokens=(token("good"),)))
    lines = b"authorization: Bearer hw_bad\r\nauthorization: Bearer hw_good\r\n"
    async with Connection(port) as connection:
        head = b"POST /models/iris/predict HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n"
        assert refused(await connection.send(head + lines + b"\r\n"))


async def test_the_model_learns_the_name_of_the_token_and_never_the_token(
    gateway: HaproxyGateway, routes: RoutingTable, port: int
) -> None:
    await gateway.apply(replace(routes, tokens=(token("app.team-1"),)))
    seen = (await ask(port, "hw_app.team-1")).json()["headers"]
    assert seen["x-headway-client"] == "app.team-1"
    assert "authorization" not in seen
    assert "hw_app" not in str(seen)
    assert "x-headway-client" not in (await ask(port, None)).json()["headers"]


async def test_a_token_is_confined_to_its_models(gateway: HaproxyGateway, routes: RoutingTable, port: int) -> None:
    await gateway.apply(replace(routes, tokens=(token("one", models=("iris", "pine")), token("none", models=()))))
    assert (await ask(port, "hw_one")).status == 200
    for secret, name in [("hw_one", "wine"), ("hw_one", "nobody"), ("hw_one", ""), ("hw_none", "iris")]:
        answer = await ask(port, secret, name=name)
        assert (answer.status, answer.code) == (403, "forbidden"), (secret, name)
    assert (await ask(port, "hw_one", name="pine")).code == "model_not_found"


async def test_a_revoked_token_ends_at_once_on_open_connections_too(
    gateway: HaproxyGateway, routes: RoutingTable, port: int
) -> None:
    await gateway.apply(replace(routes, tokens=(token("a"), token("b"))))
    async with Connection(port) as connection:
        headers = {"authorization": "Bearer hw_a"}
        assert (await connection.call("/models/iris/predict", headers=headers)).status == 200
        await gateway.apply(replace(routes, tokens=(token("b"),)))
        assert refused(await connection.call("/models/iris/predict", headers=headers))
    assert (await ask(port, "hw_b")).status == 200


@pytest.mark.parametrize("together", [True, False])
async def test_a_revoked_token_ends_in_an_old_worker_too(
    gateway: HaproxyGateway, routes: RoutingTable, port: int, together: bool
) -> None:
    await gateway.apply(replace(routes, tokens=(token("a"), token("b"))))
    async with Connection(port) as one, Connection(port) as two:
        for connection, secret in ((one, "hw_a"), (two, "hw_b")):
            answer = await connection.call("/models/iris/predict", headers={"authorization": f"Bearer {secret}"})
            assert answer.status == 200
        new_model = replace(routes, models=(*routes.models, model("new", {}, version("v1"))))
        if not together:
            await gateway.apply(replace(new_model, tokens=(token("a"), token("b"))))
        await gateway.apply(replace(new_model, tokens=(token("b"),)))
        assert (await gateway._api.workers()).old, "an old worker holds both connections"
        assert refused(await one.call("/models/iris/predict", headers={"authorization": "Bearer hw_a"}))
        answer = await two.call("/models/iris/predict", headers={"authorization": "Bearer hw_b"})
        assert answer.status == 200


async def test_a_token_expires_by_itself(gateway: HaproxyGateway, routes: RoutingTable, port: int) -> None:
    now = int(time.time())
    tokens = (token("old", expires_at=now - 1), token("soon", expires_at=now + 2), token("later", expires_at=now + 600))
    await gateway.apply(replace(routes, tokens=tokens))
    assert refused(await ask(port, "hw_old"))
    assert (await ask(port, "hw_soon")).status == 200 or time.time() >= now + 2, "unless the machine took that long"

    async def expired() -> bool:
        return (await ask(port, "hw_soon")).status == 401

    await until(expired)
    assert time.time() >= now + 2
    assert (await ask(port, "hw_later")).status == 200


async def test_the_internal_listener_asks_for_no_token(
    gateway: HaproxyGateway, routes: RoutingTable, port: int
) -> None:
    await gateway.apply(replace(routes, tokens=(token("good"),), require_token=True))
    socket = Path(gateway.internal_address.removeprefix("unix:"))
    assert socket.stat().st_mode & 0o777 == 0o600
    async with Connection(socket=socket) as connection:
        for headers in ({}, {"authorization": "Bearer hw_bad"}):
            answer = await connection.call("/models/iris/versions/v1/predict", headers=headers)
            assert answer.status == 200
            assert "authorization" not in answer.json()["headers"]


async def test_thousands_of_tokens_change_together(gateway: HaproxyGateway, routes: RoutingTable, port: int) -> None:
    many = tuple(token(f"t{n}") for n in range(2000))
    await gateway.apply(replace(routes, tokens=many))
    assert [(await ask(port, f"hw_t{n}")).status for n in (0, 999, 1999)] == [200] * 3
    await gateway.apply(replace(routes, tokens=many[1:]))
    assert [(await ask(port, f"hw_t{n}")).status for n in (0, 999, 1999)] == [401, 200, 200]
