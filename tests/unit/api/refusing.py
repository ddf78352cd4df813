"""What every refusal has in common, for tests of bad input."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import httpx

from tests.unit.api.world import BUNDLE, OTHER_BUNDLE, World, document, make_world

JSON = "application/json"
TAKE_JSON: list[tuple[str, str, dict[str, Any]]] = [
    ("POST", "/v1/models/iris/deploy", {"bundle": OTHER_BUNDLE, "spec": document()}),
    ("POST", "/v1/models/iris/diff", {"bundle": BUNDLE, "spec": document()}),
    ("PUT", "/v1/models/iris/traffic", {"weights": {"v1": 100}}),
    ("POST", "/v1/models/iris/promote", {"version": "v1"}),
    ("PUT", "/v1/models/iris/scale", {"replicas": 2}),
    ("PUT", "/v1/models/iris/scaling", {"scaling": None}),
    ("POST", "/v1/tokens", {"name": "shop"}),
]


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
