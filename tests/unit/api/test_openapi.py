"""The API's description of itself: complete, true, and without anybody else's server."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from headway.api.bodies import JsonRoute
from tests.unit.api.world import World, make_world


def described() -> tuple[World, dict[str, Any]]:
    async def fetch() -> tuple[World, dict[str, Any]]:
        world = await make_world()
        async with world.client() as client:
            document: dict[str, Any] = (await client.get("/v1/openapi.json")).json()
        return world, document

    return asyncio.run(fetch())


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(m, path, operation) for path, all_of in document["paths"].items() for m, operation in all_of.items()]


def test_every_operation_is_described_tagged_and_named() -> None:
    _, document = described()
    tags = {tag["name"] for tag in document["tags"]}
    names = []
    for method, path, operation in operations(document):
        assert operation["summary"], path
        assert operation["description"].endswith("."), path
        assert set(operation["tags"]) <= tags
        assert "default" not in operation["responses"]
        names.append(operation["operationId"])
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body is not None:
            assert body["examples"], f"{method} {path}"
    assert len(names) == len(set(names))


def test_every_error_answer_has_the_one_form() -> None:
    _, document = described()
    for method, path, operation in operations(document):
        for status, answer in operation["responses"].items():
            if int(status) >= 400:
                schema = answer["content"]["application/json"]["schema"]
                assert schema == {"$ref": "#/components/schemas/ErrorBody"}, f"{method} {path} {status}"
    assert "ValidationError" not in json.dumps(document)


def test_every_endpoint_needs_a_token_but_health() -> None:
    _, document = described()
    assert document["security"] == [{"token": []}]
    open_to_all = [path for _, path, operation in operations(document) if operation.get("security") == []]
    assert open_to_all == ["/healthz"]
    for _, path, operation in operations(document):
        assert ("401" in operation["responses"]) == (path != "/healthz")


def test_every_route_is_in_it_and_checks_what_comes_in() -> None:
    world, document = described()
    routes = {(path, method.upper()) for method, path, _ in operations(document)}
    assert routes == {(r.path, m) for r in world.app.routes for m in r.methods}  # type: ignore[attr-defined]
    assert all(isinstance(route, JsonRoute) for route in world.app.routes)


def test_no_parameter_is_said_to_be_null() -> None:
    _, document = described()
    parameters = [p for _, _, operation in operations(document) for p in operation.get("parameters", ())]
    assert {"after", "model", "last-event-id", "version"} <= {p["name"] for p in parameters}
    assert not [p for p in parameters if "null" in json.dumps(p["schema"])]


def test_examples_fit_their_schemas() -> None:
    _, document = described()
    for _, path, operation in operations(document):
        body = operation.get("requestBody", {}).get("content", {}).get("application/json")
        if body is None:
            continue
        schema = body["schema"]
        named = schema.get("$ref") or next(s["$ref"] for s in schema["anyOf"] if "$ref" in s)
        properties = document["components"]["schemas"][named.rsplit("/", 1)[1]]["properties"]
        for example in body["examples"].values():
            assert set(example["value"]) <= set(properties), path
