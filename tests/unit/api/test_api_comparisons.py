"""Comparisons over REST, and canaries on trial: what is asked for is what is done, what makes no sense is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from headway.api.schemas_comparisons import ComparisonView
from headway.domain.feedback import Feedback
from tests.query_records import record
from tests.unit.api.world import BUNDLE, OTHER_BUNDLE, World, document, make_world

COMPARISON = "/v1/models/iris/comparison"


def run(check: Callable[[World], Awaitable[None]]) -> None:
    async def in_world() -> None:
        world = await make_world()
        await world.deploy()
        await check(world)

    asyncio.run(in_world())


async def on_trial(world: World, auto: dict[str, Any], canary: int | None = 20) -> tuple[int, Any]:
    """Deploy v2 beside v1; status and content of the answer."""
    body = {"bundle": OTHER_BUNDLE, "spec": document(), "auto": auto, "canary": canary}
    async with world.client() as client:
        answer = await client.post("/v1/models/iris/deploy", json=body)
    return answer.status_code, answer.json()


def serve(world: World, count: int, *, failing: int) -> None:
    """So many requests of both versions a minute ago, with feedback; ``failing`` of v2."""
    at_ns = int(world.clock.now() * 1e9) - 60 * 10**9
    for version in ("v1", "v2"):
        ids = [f"{version}-{number}" for number in range(count)]
        world.query_log.add(
            record(ts_ns=at_ns, version=version, request_id=text, status=500 if bad else 200, stream=version)
            for text, bad in ((one, version == "v2" and place < failing) for place, one in enumerate(ids))
        )
        world.query_log.say("iris", [Feedback(text, "clicked", 1.0, at_ns + 1) for text in [*ids, "nobody"]])


def test_two_versions_side_by_side() -> None:
    async def check(world: World) -> None:
        await on_trial(world, {})
        serve(world, 600, failing=200)
        async with world.client() as client:
            found = (await client.get(f"{COMPARISON}?base=v1&version=v2")).json()
            assert ComparisonView.model_validate(found).model_dump() == found
            assert (found["base"], found["version"], found["answer"]) == ("v1", "v2", "worse")
            assert (found["requests"], found["feedback"], found["unmatched"]) == ([600, 600], 1201, 1)
            names = [measure["metric"] or measure["kind"] for measure in found["measures"]]
            assert names == ["latency", "errors", "clicked"]
            assert found["measures"][1]["answer"] == "worse"
            by_trial = (await client.get(COMPARISON)).json()
            assert (by_trial["base"], by_trial["version"]) == ("v1", "v2")
            other = (await client.get(f"{COMPARISON}?base=v2&version=v1&metric=errors&since=1h")).json()
            assert [measure["kind"] for measure in other["measures"]] == ["errors"]
            assert other["answer"] == "better"
            named = (await client.get(f"{COMPARISON}?metric=bought&metric=latency")).json()
            assert [measure["metric"] for measure in named["measures"]] == [None, "bought"]

    run(check)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("", 409, "conflict"),
        ("base=v1", 400, "invalid_input"),
        ("base=v1&version=v1", 400, "invalid_input"),
        ("base=v1&version=v7", 404, "version_not_found"),
        ("base=v1&version=seven", 400, "invalid_name"),
        ("metric=a%20b", 400, "invalid_input"),
        ("since=never", 400, "invalid_input"),
        ("confidence=1", 400, "invalid_input"),
        ("errors_margin=-1", 400, "invalid_input"),
    ],
)
def test_what_makes_no_sense_is_refused(query: str, status: int, code: str) -> None:
    async def check(world: World) -> None:
        async with world.client() as client:
            answer = await client.get(f"{COMPARISON}?{query}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)

    run(check)


def test_an_unknown_model_has_nothing_to_compare() -> None:
    async def check(world: World) -> None:
        async with world.client() as client:
            assert (await client.get("/v1/models/nobody/comparison?base=v1&version=v2")).status_code == 404

    run(check)


@pytest.mark.parametrize(
    ("auto", "canary", "steps"),
    [
        ({}, 20, [20, 25, 50, 100]),
        ({}, None, [5, 10, 25, 50, 100]),
        ({"steps": [30, 100]}, None, [30, 100]),
        ({"steps": [30, 100], "then": "rollback", "metrics": ["clicked"], "margins": {"errors": 0.1}}, 30, [30, 100]),
    ],
)
def test_a_canary_on_trial(auto: dict[str, Any], canary: int | None, steps: list[int]) -> None:
    async def check(world: World) -> None:
        status, _ = await on_trial(world, auto, canary)
        assert status == 202
        async with world.client() as client:
            found = (await client.get("/v1/models/iris")).json()
        trial = found["trial"]
        assert (trial["base"], trial["version"], trial["state"], trial["share"]) == ("v1", "v2", "running", steps[0])
        assert trial["steps"] == steps
        assert found["target"] == [{"version": "v1", "weight": 100 - steps[0]}, {"version": "v2", "weight": steps[0]}]
        rules = trial["rules"]
        assert (rules["then"], rules["metrics"]) == (auto.get("then", "hold"), auto.get("metrics"))
        assert rules["margins"]["errors"] == auto.get("margins", {}).get("errors", 0.005)

    run(check)


@pytest.mark.parametrize(
    ("auto", "where"),
    [
        ({"steps": [10, 100]}, "auto.steps"),
        ({"steps": []}, "auto.steps"),
        ({"steps": [20, 10, 100]}, "steps"),
        ({"then": "hope"}, "then"),
        ({"at_least_s": 90, "at_most_s": 60}, "at_most_s"),
        ({"patience": 7}, "patience"),
        ({"margins": {"errors": 2}}, "errors"),
    ],
)
def test_rules_that_make_no_sense_are_refused(auto: dict[str, Any], where: str) -> None:
    async def check(world: World) -> None:
        status, found = await on_trial(world, auto)
        assert status in (400, 422)
        assert where in found["error"]["where"]
        async with world.client() as client:
            assert (await client.get("/v1/models/iris")).json()["trial"] is None

    run(check)


def test_a_first_version_cannot_be_on_trial() -> None:
    async def check(world: World) -> None:
        body = {"bundle": BUNDLE, "spec": document("other"), "auto": {}}
        async with world.client() as client:
            assert (await client.post("/v1/models/other/deploy", json=body)).status_code == 409

    run(check)
