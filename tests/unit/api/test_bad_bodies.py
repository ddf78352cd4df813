"""Bad bodies, every endpoint times everything nasty: a clear 4xx in the error form, and the API goes on working."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from headway.api.bodies import MAX_JSON_BYTES, MAX_JSON_DEPTH, parse_json
from headway.domain.errors import InvalidInput
from tests.unit.api.refusing import JSON, TAKE_JSON, told, with_iris
from tests.unit.api.world import OTHER_BUNDLE, World, document

DEEP = b"[" * 100_000 + b"]" * 100_000
DEEP_OBJECT = b'{"a":' * 900 + b"1" + b"}" * 900

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
    fine = {("version", "None"), ("replicas", "0"), ("name", "'3'"), ("scaling", "None"), ("scaling", "{}")}

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
        ({"spec": document("iris", jobs={"maxAttempts": 0})}, 400, "invalid_spec"),
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


def test_json_up_to_the_limit_of_depth_is_read() -> None:
    fits = b"[" * MAX_JSON_DEPTH + b"]" * MAX_JSON_DEPTH
    parse_json(fits)
    with pytest.raises(InvalidInput, match="deeper"):
        parse_json(b"[" + fits + b"]")


def test_where_the_json_breaks_is_told() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_json(b'{\n  "a": 1,\n  b\n}')
    assert caught.value.where == "line 3, column 3"
