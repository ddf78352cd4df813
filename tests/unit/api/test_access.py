"""Who gets in: tokens, scopes, models, host names."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import httpx
import pytest

from headway.api.hosts import HostCheck
from headway.domain.events import EventType, NewEvent
from tests.unit.api.world import ADMIN, BUNDLE, World, document, make_world

DEPLOY = {"bundle": BUNDLE, "spec": document()}

# method, path, body, status for: an admin, a deploy token, one confined to iris
ENDPOINTS: list[tuple[str, str, Any, int, int, int]] = [
    ("GET", "/v1/info", None, 200, 200, 200),
    ("GET", "/v1/schema", None, 200, 200, 200),
    ("GET", "/v1/openapi.json", None, 200, 200, 200),
    ("GET", "/v1/models", None, 200, 200, 200),
    ("GET", "/v1/events", None, 200, 200, 200),
    ("GET", "/v1/events?model=iris", None, 200, 200, 200),
    ("GET", "/v1/events?model=wine", None, 200, 200, 403),
    ("HEAD", f"/v1/bundles/{BUNDLE}", None, 200, 200, 200),
    ("GET", "/v1/models/iris", None, 200, 200, 200),
    ("GET", "/v1/models/iris/versions", None, 200, 200, 200),
    ("GET", "/v1/models/iris/spec", None, 200, 200, 200),
    ("GET", "/v1/models/iris/logs", None, 200, 200, 200),
    ("POST", "/v1/models/iris/deploy", DEPLOY, 200, 200, 200),
    ("POST", "/v1/models/iris/diff", DEPLOY, 200, 200, 200),
    ("PUT", "/v1/models/iris/traffic", {"weights": {"v1": 100}}, 202, 202, 202),
    ("PUT", "/v1/models/iris/scale", {"replicas": 2}, 202, 202, 202),
    ("GET", "/v1/models/wine", None, 200, 200, 403),
    ("GET", "/v1/models/wine/versions", None, 200, 200, 403),
    ("GET", "/v1/models/wine/spec", None, 200, 200, 403),
    ("GET", "/v1/models/wine/logs", None, 200, 200, 403),
    ("POST", "/v1/models/wine/diff", {"bundle": BUNDLE, "spec": document("wine")}, 200, 200, 403),
    ("POST", "/v1/models/wine/deploy", {"bundle": BUNDLE, "spec": document("wine")}, 200, 200, 403),
    ("PUT", "/v1/models/wine/traffic", {"weights": {"v1": 100}}, 202, 202, 403),
    ("PUT", "/v1/models/wine/scale", {"replicas": 2}, 202, 202, 403),
    ("POST", "/v1/models/wine/promote", {"version": "v1"}, 202, 202, 403),
    ("POST", "/v1/models/wine/rollback", None, 409, 409, 403),
    ("DELETE", "/v1/models/wine", None, 202, 202, 403),
    ("GET", "/v1/models/unknown", None, 404, 404, 403),
    ("GET", "/v1/tokens", None, 200, 403, 403),
    ("POST", "/v1/tokens", {"name": "another"}, 201, 403, 403),
    ("DELETE", "/v1/tokens/old", None, 200, 403, 403),
    ("POST", "/v1/shutdown", None, 202, 403, 403),
    ("GET", "/v1/nothing", None, 404, 404, 404),
]


async def populated() -> World:
    world = await make_world()
    await world.deploy("iris")
    await world.deploy("wine")
    await world.token("old", "predict")
    return world


async def ask(client: httpx.AsyncClient, method: str, target: str, body: Any) -> httpx.Response:
    return await client.request(method, target, json=body) if body is not None else await client.request(method, target)


@pytest.mark.parametrize(
    ("scope", "models", "column"),
    [("admin", None, 3), ("deploy", None, 4), ("deploy", ["iris"], 5), ("predict", None, None)],
)
def test_what_each_scope_may(scope: str, models: list[str] | None, column: int | None) -> None:
    async def check() -> None:
        world = await populated()
        async with world.client(await world.token("caller", scope, models)) as client:
            found = [(e[0], e[1], (await ask(client, *e[:3])).status_code) for e in ENDPOINTS]
        assert found == [(e[0], e[1], 403 if column is None else e[column]) for e in ENDPOINTS]

    asyncio.run(check())


def test_nothing_is_told_without_a_token() -> None:
    async def check() -> None:
        world = await populated()
        async with world.client(None) as client:
            for target in [*dict.fromkeys(e[1] for e in ENDPOINTS), "/", "/v1", "/healthz/", "/docs"]:
                for method in ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]:
                    answer = await client.request(method, target)
                    assert answer.status_code == 401
                    assert answer.headers["www-authenticate"] == 'Bearer realm="headway"'
                    assert "access-control-allow-origin" not in answer.headers
                    if method != "HEAD":
                        assert answer.json()["error"]["code"] == "unauthenticated"

    asyncio.run(check())


@pytest.mark.parametrize(
    "value",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic aHc6",
        f"Token {ADMIN}",
        ADMIN,
        f"Bearer {ADMIN}x",
        "Bearer hw_\xff",
        "Bearer " + "x" * 9000,
    ],
)
def test_an_authorization_that_is_not_a_valid_bearer_token_is_refused(value: str) -> None:
    async def check() -> None:
        world = await make_world()
        async with world.client(None) as client:
            answer = await client.get("/v1/models", headers=[(b"authorization", value.encode("latin-1"))])
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == 'Bearer realm="headway", error="invalid_token"'

    asyncio.run(check())


def test_two_authorization_headers_are_refused_even_if_one_is_right() -> None:
    async def check() -> None:
        world = await make_world()
        async with world.client(None) as client:
            headers = [("authorization", f"Bearer {ADMIN}"), ("authorization", "Bearer hw_other")]
            assert (await client.get("/v1/models", headers=headers)).status_code == 401

    asyncio.run(check())


def test_the_scheme_is_case_insensitive() -> None:
    async def check() -> None:
        world = await make_world()
        async with world.client(None) as client:
            answer = await client.get("/v1/models", headers={"authorization": f"bEARER  {ADMIN}"})
        assert answer.status_code == 200

    asyncio.run(check())


def test_expired_and_revoked_tokens_are_refused_and_told_why() -> None:
    async def check() -> None:
        world = await make_world()
        brief = (await world.tokens.create("brief", "deploy", lifetime_s=60)).secret
        gone = await world.token("gone", "deploy")
        async with world.client(brief) as first, world.client(gone) as second:
            assert (await first.get("/v1/models")).status_code == 200
            assert (await second.get("/v1/models")).status_code == 200
            world.clock.advance(60)
            await world.tokens.revoke("gone")
            expired, revoked = await first.get("/v1/models"), await second.get("/v1/models")
        assert (expired.status_code, revoked.status_code) == (401, 401)
        assert "expired" in expired.json()["error"]["message"]
        assert "revoked" in revoked.json()["error"]["message"]

    asyncio.run(check())


def test_health_needs_no_token_and_tells_nothing_else() -> None:
    async def check() -> None:
        world = await populated()
        async with world.client(None) as client:
            answer = await client.get("/healthz")
        assert answer.status_code == 200
        assert answer.json() == {"status": "ok"}

    asyncio.run(check())


def test_a_confined_token_sees_only_its_models() -> None:
    async def check() -> None:
        world = await populated()
        world.runtime.add("iris", "v1", "bcdfg")
        world.runtime.add("wine", "v1", "bcdfg")
        world.runtime.add("wine", "v1", "hjklm")
        await world.event_log.append([NewEvent(1.0, EventType.CONTROL_STARTED, data={"pid": 1})])
        confined = await world.token("ci", "deploy", ["iris", "later"])
        async with world.client(confined) as client, world.client() as admin:
            assert [m["name"] for m in (await client.get("/v1/models")).json()] == ["iris"]
            assert [m["name"] for m in (await admin.get("/v1/models")).json()] == ["iris", "wine"]
            info = (await client.get("/v1/info")).json()
            assert (info["models"], info["replicas"]) == (1, 1)
            assert (await admin.get("/v1/info")).json()["models"] == 99  # as told by the installation
            assert {e["model"] for e in (await client.get("/v1/events")).json()} == {"iris"}
            assert {e["model"] for e in (await admin.get("/v1/events")).json()} == {"iris", "wine", None}

    asyncio.run(check())


def test_tokens_are_in_no_answer_but_the_one_that_creates_them() -> None:
    async def check() -> None:
        world = await make_world()
        async with world.client() as client:
            created = await client.post("/v1/tokens", json={"name": "shop"})
            secret = created.json()["token"]
            listed = await client.get("/v1/tokens")
            events = await client.get("/v1/events")
        assert created.status_code == 201
        assert created.headers["cache-control"] == "no-store"
        assert secret.startswith("hw_")
        for answer in (listed, events):
            assert secret not in answer.text
            assert world.tokens.list()[0].sha256 not in answer.text

    asyncio.run(check())


def test_tokens_are_in_no_log(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.DEBUG)

    def broken() -> None:
        raise RuntimeError("broken")

    async def check() -> None:
        world = await make_world()
        monkeypatch.setattr(world.service, "list", broken)
        async with world.client() as client:
            assert (await client.get("/v1/models")).status_code == 500
            await client.get("/v1/nothing")
        async with world.client("hw_guess") as client:
            await client.get("/v1/models")

    asyncio.run(check())
    assert "RuntimeError: broken" in caplog.text
    assert ADMIN not in caplog.text
    assert "hw_guess" not in caplog.text


LOOPBACK = [
    "localhost",
    "LOCALHOST:8421",
    "localhost.",
    "127.0.0.1",
    "127.0.0.1:8421",
    "127.8.9.1",
    "[::1]",
    "[::1]:9000",
]
FOREIGN = [
    "evil.example",
    "evil.example:8421",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "10.0.0.5",
    "[fe80::1]",
    "",
    ":8421",
    "localhost:x",
    "localhost@evil.example",
    "[::1",
    "::1",
    "[localhost]",
    "a b",
    "127.0.0.1, evil.example",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_names_pass_with_any_port(host: str) -> None:
    assert HostCheck(_nothing, hosts=["127.0.0.1"]).serves(host)
    assert HostCheck(_nothing, hosts=["10.0.0.5"]).serves(host)


@pytest.mark.parametrize("host", FOREIGN)
def test_other_names_do_not_pass_on_a_loopback_listener(host: str) -> None:
    assert not HostCheck(_nothing, hosts=["127.0.0.1"]).serves(host)


@pytest.mark.parametrize(
    ("hosts", "host", "served"),
    [
        (["10.0.0.5"], "10.0.0.5:8421", True),
        (["10.0.0.5"], "10.0.0.6:8421", False),
        (["10.0.0.5", "Models.Example.org"], "models.example.ORG:443", True),
        (["10.0.0.5", "models.example.org"], "evil.example", False),
        (["0.0.0.0"], "10.0.0.6:8421", True),
        (["::"], "[fd00::7]:8421", True),
        (["0.0.0.0"], "evil.example", False),
        (["fd00::0007"], "[fd00::7]", True),
    ],
)
def test_what_a_listener_beyond_loopback_serves(hosts: list[str], host: str, served: bool) -> None:
    assert HostCheck(_nothing, hosts=hosts).serves(host) is served


def test_a_foreign_host_is_refused_before_the_token_is_looked_at() -> None:
    async def check() -> None:
        world = await make_world()
        async with world.client() as client:
            for host in ["evil.example", "evil.example:8421"]:
                for target in ["/v1/models", "/healthz"]:
                    answer = await client.get(target, headers={"host": host})
                    assert answer.status_code == 400
                    assert answer.json()["error"]["where"] == "header Host"

    asyncio.run(check())


async def _nothing(*_: object) -> None: ...
