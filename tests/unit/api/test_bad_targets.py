"""Bad paths, queries, headers and methods, and faults of our own: one form of answer, nothing revealed."""

from __future__ import annotations

import json

import httpx
import pytest

from headway.domain.errors import HeadwayError
from tests.unit.api.refusing import TAKE_JSON, told, with_iris
from tests.unit.api.world import BUNDLE, World

OTHERS = [
    ("GET", "/v1/info"),
    ("GET", "/v1/schema"),
    ("GET", "/v1/openapi.json"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/iris"),
    ("GET", "/v1/models/iris/versions"),
    ("GET", "/v1/models/iris/spec"),
    ("GET", "/v1/models/iris/logs"),
    ("GET", "/v1/events"),
    ("GET", "/v1/tokens"),
    ("GET", "/healthz"),
    ("HEAD", f"/v1/bundles/{BUNDLE}"),
]
NAMES = [
    "..%2f",
    "..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "%2e",
    "a" * 300,
    "a" * 41,
    "Iris",
    "-iris",
    "iris-",
    "iris%00",
    "iris%0a",
    "iris%0d%0ax:y",
    "iris%ff",
    "%c3%a9",
    "%F0%9F%92%A9",
    "%20",
    "iris;x",
    "iris%25",
    "iris\\x",
    "*",
    "{model}",
    "__proto__",
]


@pytest.mark.parametrize("name", NAMES)
def test_bad_names_in_the_path(name: str) -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        for method, target, body in [
            ("GET", f"/v1/models/{name}", None),
            ("DELETE", f"/v1/models/{name}", None),
            ("GET", f"/v1/models/{name}/versions", None),
            ("GET", f"/v1/models/{name}/spec", None),
            ("GET", f"/v1/models/{name}/logs", None),
            ("POST", f"/v1/models/{name}/rollback", None),
            *((method, target.replace("/iris/", f"/{name}/"), good) for method, target, good in TAKE_JSON[:5]),
            ("PUT", f"/v1/bundles/{name}", None),
        ]:
            # The raw path goes out as it stands: httpx would tidy some of them up.
            url = httpx.URL("http://localhost").copy_with(raw_path=target.encode())
            answer = await client.request(method, url, json=body)
            told(answer, 400, 404, 405, 415)
        told(await client.delete(f"/v1/tokens/{name}x/"), 404)

    with_iris(check)


@pytest.mark.parametrize("name", [n for n in NAMES if n not in {"%2e%2e", "%2e"}])
def test_bad_token_names_and_digests_in_the_path(name: str) -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        for method, target in [("DELETE", f"/v1/tokens/{name}"), ("PUT", f"/v1/bundles/{name}")]:
            url = httpx.URL("http://localhost").copy_with(raw_path=target.encode())
            told(await client.request(method, url, headers={"content-type": "application/gzip"}), 400, 404)

    with_iris(check)


QUERIES = [
    ("/v1/events", "after=-1", "?after"),
    ("/v1/events", "after=x", "?after"),
    ("/v1/events", "after=", "?after"),
    ("/v1/events", "after=1.5", "?after"),
    ("/v1/events", "after=9223372036854775808", "?after"),
    ("/v1/events", "after=" + "9" * 5000, "?after"),
    ("/v1/events", "limit=0", "?limit"),
    ("/v1/events", "limit=1001", "?limit"),
    ("/v1/events", "limit=NaN", "?limit"),
    ("/v1/events", "model=..%2f", "?model"),
    ("/v1/events", "model=", "?model"),
    ("/v1/events", "model=" + "a" * 300, "?model"),
    ("/v1/events", "model=%ff", "?model"),
    ("/v1/events", "model=iris&model=wine", "?model"),
    ("/v1/events", "aftr=1", "?aftr"),
    ("/v1/events", "%00=1", "?\x00"),
    ("/v1/models/iris/logs", "tail=-1", "?tail"),
    ("/v1/models/iris/logs", "tail=100001", "?tail"),
    ("/v1/models/iris/logs", "tail=all", "?tail"),
    ("/v1/models/iris/logs", "follow=perhaps", "?follow"),
    ("/v1/models/iris/logs", "version=2", "?version"),
    ("/v1/models/iris/logs", "version=v1&replica=iris-v1-bcdfg", "?version"),
    ("/v1/models/iris/logs", "colour=red", "?colour"),
]


@pytest.mark.parametrize(("path", "query", "where"), QUERIES, ids=lambda value: str(value)[:40])
def test_bad_queries(path: str, query: str, where: str) -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        assert told(await client.get(f"{path}?{query}"), 400)["where"] == where

    with_iris(check)


def test_bad_queries_that_name_what_is_not_there() -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        logs = "/v1/models/iris/logs"
        assert told(await client.get(f"{logs}?version=v9"), 404)["code"] == "version_not_found"
        for replica in ["x", "iris-v1-zzzzz", "wine-v1-bcdfg", "..%2f..%2fetc", "a" * 300, "%00"]:
            for follow in ["false", "true"]:
                answer = await client.get(f"{logs}?replica={replica}&follow={follow}")
                assert told(answer, 404)["code"] == "replica_not_found"

    with_iris(check)


@pytest.mark.parametrize("value", ["x", "-1", "", "1.5", "9" * 30, "٣", "1, 2"])
def test_a_bad_last_event_id(value: str) -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        headers = [(b"accept", b"text/event-stream"), (b"last-event-id", value.encode())]
        assert told(await client.get("/v1/events", headers=headers), 400)["where"] == "header Last-Event-ID"

    with_iris(check)


@pytest.mark.parametrize(("method", "target"), [*OTHERS, *((m, t) for m, t, _ in TAKE_JSON)])
def test_unknown_query_parameters_are_refused_everywhere(method: str, target: str) -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        answer = await client.request(method, f"{target}?nonsense=1")
        assert answer.status_code == 400
        if method != "HEAD":
            assert told(answer, 400)["where"] == "?nonsense"

    with_iris(check)


@pytest.mark.parametrize(
    "method", ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW", "CONNECT"]
)
def test_unknown_paths_and_methods(method: str) -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        for target in [
            "/",
            "/v1",
            "/v1/",
            "/v1/models/",
            "/v2/models",
            "/v1/models/iris/",
            "/v1//models",
            "/docs",
            "/redoc",
        ]:
            answer = await client.request(method, target)
            assert answer.status_code == 404
            if method != "HEAD":
                assert told(answer, 404)["code"] == "not_found"
        possible = {"/v1/models": {"GET"}, "/v1/models/iris": {"DELETE", "GET"}, "/v1/tokens": {"GET", "POST"}}
        for target, methods in possible.items():
            if method not in methods:
                answer = await client.request(method, target)
                assert answer.status_code == 405
                assert set(answer.headers["allow"].split(", ")) == methods
                if method != "HEAD":
                    assert told(answer, 405)["code"] == "method_not_allowed"

    with_iris(check)


def test_faults_of_our_own_are_logged_and_not_told(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(world.service, "list", _fail)
            error = told(await client.get("/v1/models"), 500)
        assert error["code"] == "internal"
        assert "secret detail" not in json.dumps(error)
        with monkeypatch.context() as patch:
            patch.setattr(world.service, "list", _give_up)
            assert told(await client.get("/v1/models"), 500)["message"] == "known fault"

    with_iris(check)
    assert "secret detail" in caplog.text
    assert "known fault" in caplog.text


def _fail() -> None:
    raise RuntimeError("secret detail")


def _give_up() -> None:
    raise HeadwayError("known fault")
