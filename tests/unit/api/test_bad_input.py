"""Bad input, every endpoint times everything nasty: a clear 4xx in the error form, and the API goes on working."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from headway.api.bodies import MAX_JSON_BYTES, MAX_JSON_DEPTH, parse_json
from headway.domain.errors import HeadwayError, InvalidInput
from tests.unit.api.world import BUNDLE, OTHER_BUNDLE, World, document, make_world

JSON = "application/json"
DEEP = b"[" * 100_000 + b"]" * 100_000
DEEP_OBJECT = b'{"a":' * 900 + b"1" + b"}" * 900

TAKE_JSON: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/v1/models/iris/deploy", {"bundle": OTHER_BUNDLE, "spec": document()}),
    ("POST", "/v1/models/iris/diff", {"bundle": BUNDLE, "spec": document()}),
    ("PUT", "/v1/models/iris/traffic", {"weights": {"v1": 100}}),
    ("POST", "/v1/models/iris/promote", {"version": "v1"}),
    ("PUT", "/v1/models/iris/scale", {"replicas": 2}),
    ("POST", "/v1/tokens", {"name": "shop"}),
]
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
# What is in the body: bytes, content type, status.
BODIES: dict[str, tuple[bytes, str | None, int]] = {
    "not JSON": (b"{", JSON, 400),
    "text": (b"hello", JSON, 400),
    "two values": (b"{} {}", JSON, 400),
    "invalid UTF-8": (b'{"name": "\xff\xfe"}', JSON, 400),
    "UTF-16": ('{"name": "x"}'.encode("utf-16"), JSON, 400),
    "byte order mark": (b'\xef\xbb\xbf{"name": "x"}', JSON, 400),
    "NaN": (b'{"replicas": NaN}', JSON, 400),
    "Infinity": (b'{"replicas": -Infinity}', JSON, 400),
    "number out of range": (b'{"replicas": 1e999}', JSON, 400),
    "number of 5000 digits": (b'{"replicas": ' + b"9" * 5000 + b"}", JSON, 400),
    "deep": (DEEP, JSON, 400),
    "deep object": (DEEP_OBJECT, JSON, 400),
    "half a surrogate pair": (b'{"name": "\\ud800"}', JSON, 400),
    "half a surrogate pair as a name": (b'{"\\udfff": 1}', JSON, 400),
    "name twice": (b'{"replicas": 1, "replicas": 2}', JSON, 400),
    "array": (b"[]", JSON, 400),
    "string": (b'"iris"', JSON, 400),
    "number": (b"1", JSON, 400),
    "true": (b"true", JSON, 400),
    "unknown field": (b'{"nonsense": 1}', JSON, 400),
    "NUL": (b'{"nonsense\\u0000": "\\u0000"}', JSON, 400),
    "raw NUL": (b'{"name": "\x00"}', JSON, 400),
    "form": (b"name=shop", "application/x-www-form-urlencoded", 415),
    "plain": (b'{"name": "shop"}', "text/plain", 415),
    "no content type": (b'{"name": "shop"}', None, 415),
    "content type of nonsense": (b'{"name": "shop"}', "\xff;;;=", 415),
    "like JSON": (b'{"name": "shop"}', "application/vnd.x+json", 415),
    "YAML": (b"name: shop", "application/yaml", 415),
    "multipart": (b"--x--", "multipart/form-data; boundary=x", 415),
    "other charset": (b'{"name": "shop"}', "application/json; charset=utf-16", 415),
    "too large": (b'{"name": "' + b"x" * MAX_JSON_BYTES + b'"}', JSON, 413),
}


def told(answer: httpx.Response, *statuses: int) -> dict[str, Any]:
    """The error of an answer that has to be one, in the one form."""
    assert answer.status_code in statuses, f"{answer.status_code}: {answer.text[:300]}"
    assert answer.headers["content-type"] == JSON
    body = answer.json()
    assert set(body) == {"error"}
    error: dict[str, Any] = body["error"]
    assert set(error) <= {"code", "message", "where", "hint", "details"}
    assert isinstance(error["code"], str)
    assert isinstance(error["message"], str)
    for revealing in ("Traceback", 'File "', "pydantic", "errors.pydantic.dev", "object at 0x"):
        assert revealing not in answer.text
    assert len(answer.content) < 20_000
    return error


def with_iris(check: Callable[[World, httpx.AsyncClient], Any]) -> World:
    """Run ``check`` on a world where iris is deployed; afterwards everything still answers."""

    async def run() -> World:
        world = await make_world()
        await world.deploy("iris")
        async with world.client() as client:
            await check(world, client)
            still = await client.get("/v1/models/iris")
            assert still.status_code == 200
            assert [v["name"] for v in still.json()["versions"]] == ["v1"]
            assert still.json()["replicas"] == 1
        return world

    return asyncio.run(run())


@pytest.mark.parametrize(("method", "target", "good"), TAKE_JSON, ids=lambda value: str(value)[:40])
def test_bad_bodies(method: str, target: str, good: dict[str, Any]) -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        for name, (body, kind, status) in BODIES.items():
            headers = {} if kind is None else {b"content-type": kind.encode("latin-1")}
            answer = await client.request(method, target, content=body, headers=headers)
            error = told(answer, status)
            assert error["message"], name
        compressed = {"content-type": JSON, "content-encoding": "gzip"}
        told(await client.request(method, target, content=json.dumps(good), headers=compressed), 415)

    world = with_iris(check)
    assert world.tokens.list() == ()


@pytest.mark.parametrize(("method", "target", "good"), TAKE_JSON, ids=lambda value: str(value)[:40])
def test_a_body_too_large_is_refused_before_it_is_taken(method: str, target: str, good: dict[str, Any]) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(1024):
            taken += 65536
            yield b" " * 65536

    async def check(world: World, client: httpx.AsyncClient) -> None:
        # Announced: nothing has to be read (what is read is thrown away, so that the answer gets through).
        announced = {"content-type": JSON, "content-length": str(2**62)}
        told(await client.request(method, target, content=b"{}", headers=announced), 413)
        # Chunked: it is noticed on the way, not at the end of 64 MiB.
        told(await client.request(method, target, content=endless(), headers={"content-type": JSON}), 413)
        assert taken <= 20 * 1024 * 1024

    with_iris(check)


@pytest.mark.parametrize(("method", "target", "good"), TAKE_JSON, ids=lambda value: str(value)[:40])
def test_every_field_with_every_wrong_type(method: str, target: str, good: dict[str, Any]) -> None:
    wrong: list[Any] = [None, True, 0, -1, 10**400, 1.5, 1e300, "", "x" * 300, "\x00", [], [[]], {}, {"": {}}, "3"]
    fine = {("version", "None"), ("replicas", "0"), ("name", "'3'")}

    async def check(world: World, client: httpx.AsyncClient) -> None:
        for field in good:
            for value in wrong:
                if (field, repr(value)) in fine:
                    continue
                answer = await client.request(method, target, json={**good, field: value})
                told(answer, 400)
            if field != "version":
                error = told(
                    await client.request(method, target, json={k: v for k, v in good.items() if k != field}), 400
                )
                assert error["where"] == field

    world = with_iris(check)
    assert world.tokens.list() == ()


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


@pytest.mark.parametrize(
    ("weights", "code"),
    [
        ({}, "invalid_traffic"),
        ({"v1": 99}, "invalid_traffic"),
        ({"v1": 0}, "invalid_traffic"),
        ({"v1": 101}, "invalid_input"),
        ({"v1": -1}, "invalid_input"),
        ({"v1": 50, "v9": 50}, "invalid_traffic"),
        ({"latest": 100}, "invalid_name"),
        ({"v01": 100}, "invalid_name"),
        ({"": 100}, "invalid_name"),
        ({f"v{n}": 1 for n in range(1, 5000)}, "invalid_traffic"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_splits(weights: dict[str, int], code: str) -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        answer = await client.put("/v1/models/iris/traffic", json={"weights": weights})
        assert told(answer, 400)["code"] == code

    with_iris(check)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"bundle": "0" * 64}, 404, "bundle_not_found"),
        ({"bundle": "0" * 63}, 400, "invalid_name"),
        ({"bundle": "../../etc"}, 400, "invalid_name"),
        ({"canary": 0}, 400, "invalid_input"),
        ({"canary": 100}, 400, "invalid_input"),
        ({"spec": document("wine")}, 400, "invalid_spec"),
        ({"spec": document("../iris")}, 400, "invalid_spec"),
        ({"spec": document("iris", replicaz=1)}, 400, "invalid_spec"),
        ({"spec": document("iris", traffic=[{"version": "v1", "weight": 50}])}, 400, "invalid_traffic"),
        ({"spec": {**document(), "kind": "Deployment"}}, 400, "invalid_spec"),
        ({"spec": {**document(), "apiVersion": "v1"}}, 400, "invalid_spec"),
        ({"spec": document("iris", jobs={"maxAttempts": 3})}, 422, "unsupported"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_deploys(change: dict[str, Any], status: int, code: str) -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        answer = await client.post(
            "/v1/models/iris/deploy", json={"bundle": OTHER_BUNDLE, "spec": document(), **change}
        )
        assert told(answer, status)["code"] == code

    with_iris(check)


def test_an_unknown_field_is_told_with_the_nearest_known_one() -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        error = told(await client.put("/v1/models/iris/scale", json={"replica": 2}), 400)
        wheres = {one["where"] for one in error["details"]["errors"]}
        assert wheres == {"replica", "replicas"}
        hints = [one.get("hint") for one in error["details"]["errors"] if one["where"] == "replica"]
        assert hints == ["did you mean 'replicas'?"]
        promoted = told(await client.post("/v1/models/iris/promote", json={"verison": "v1"}), 400)
        assert (promoted["where"], promoted["hint"]) == ("verison", "did you mean 'version'?")
        asked = told(await client.get("/v1/events?aftre=1"), 400)
        assert asked["hint"] == "did you mean 'after'?"

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


def test_json_up_to_the_limit_of_depth_is_read() -> None:
    fits = b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH
    parse_json(fits)
    with pytest.raises(InvalidInput, match="deeper"):
        parse_json(b"[" + fits + b"]")


def test_where_the_json_breaks_is_told() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_json(b'{\n  "a": 1,\n  b\n}')
    assert caught.value.where == "line 3, column 3"
