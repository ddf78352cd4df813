"""Scaling over REST: the policy in and out, how it stands, what was recorded, and the story of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx
import pytest

from headway.api.schemas_scaling import DecisionPage, ExplainView, ScalingView
from headway.control.book import Changed
from headway.domain.routing_table import Arm
from headway.ports.replica_stats import ReplicaStat
from headway.scaling.record import decision_of, replay
from tests.unit.api.refusing import told
from tests.unit.api.world import OTHER_BUNDLE, World, document, make_world
from tests.unit.scaling_records import POLICY, record, worker_record
from tests.unit.scaling_records import document as decided

IRIS = "/v1/models/iris"
SCALING = f"{IRIS}/scaling"


def run(check: Callable[[World, httpx.AsyncClient], Awaitable[None]]) -> None:
    """In a world where iris v1 serves with one replica."""

    async def in_world() -> None:
        world = await make_world()
        await world.deploy()
        await split(world, v1=100)
        async with world.client() as client:
            await check(world, client)

    asyncio.run(in_world())


async def split(world: World, **weights: int) -> None:
    arms = tuple(Arm(version, weight) for version, weight in weights.items())
    await world.book.change("iris", lambda now: Changed(replace(now, live=arms, target=arms)) if now else None)


async def set_policy(client: httpx.AsyncClient, policy: dict[str, Any] | None = POLICY) -> dict[str, Any]:
    answer = await client.put(SCALING, json={"scaling": policy})
    assert answer.status_code == 202, answer.text
    content: dict[str, Any] = answer.json()
    return content


def test_a_policy_comes_back_with_its_defaults_and_can_be_put_again() -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        before = (await client.get(SCALING)).json()
        assert (before["scaling"], before["replicas"]) == (None, 1)
        assert (await client.get(IRIS)).json()["scaling"] is None
        cursor = await world.event_log.last_cursor()
        changed = await set_policy(client)
        assert changed["cursor"] == cursor
        assert changed["scaling"]["cooldownPeriod"] == "5m"
        assert changed["scaling"]["triggers"][1]["step"] == 2
        view = (await client.get(SCALING)).json()
        assert ScalingView.model_validate(view).model_dump() == view
        assert view["scaling"] == changed["scaling"]
        generation = world.book.get("iris").generation
        assert (await set_policy(client, view["scaling"]))["scaling"] == view["scaling"]
        assert world.book.get("iris").generation == generation
        assert (await client.get(f"{IRIS}/spec")).json()["spec"]["scaling"] == view["scaling"]
        bounds = {"min_replicas": 1, "max_replicas": 12, "shadow": False}
        assert (await client.get(IRIS)).json()["scaling"] == bounds
        assert [one["scaling"] for one in (await client.get("/v1/models")).json()] == [bounds]

    run(check)


def test_null_fixes_the_number_where_it_is() -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        await set_policy(client)
        await client.put(f"{IRIS}/scale", json={"replicas": 7})
        changed = await set_policy(client, None)
        assert (changed["scaling"], changed["replicas"]) == (None, 7)
        assert (await client.get(SCALING)).json()["replicas"] == 7

    run(check)


@pytest.mark.parametrize(
    ("body", "status", "where"),
    [
        ({}, 400, "scaling"),
        ({"scaling": POLICY, "replicas": 2}, 400, "replicas"),
        ({"scaling": []}, 400, "scaling"),
        ({"scaling": {**POLICY, "minReplica": 1}}, 400, "scaling.minReplica"),
        ({"scaling": {**POLICY, "maxReplicas": None}}, 400, "scaling.maxReplicas"),
        ({"scaling": {**POLICY, "triggers": [{"type": "cpu", "target": "0%"}]}}, 400, "scaling.triggers[0].target"),
        ({"scaling": {**POLICY, "triggers": [{"type": "cpi", "target": "8%"}]}}, 400, "scaling.triggers[0].type"),
        ({"scaling": {**POLICY, "triggers": [{"type": "memory", "target": "8%"}]}}, 400, "spec.resources.memory"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_at_its_place(body: Any, status: int, where: str) -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        error = told(await client.put(SCALING, json=body), status)
        assert error["where"] == where, error
        assert world.book.get("iris").scaling is None

    run(check)


def test_each_version_stands_for_itself() -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        await client.post(f"{IRIS}/deploy", json={"bundle": OTHER_BUNDLE, "spec": document(), "canary": 10})
        await split(world, v1=90, v2=10)
        await set_policy(client)
        await world.book.change("iris", lambda now: Changed(now.with_wished("v1", 4)) if now else None)
        for suffix in ("bcdfg", "cdfgh"):
            world.runtime.add("iris", "v1", suffix)
        world.decided["v1"] = decided(world.clock.now(), current=2, cpu=1.4)
        await world.decision_log.append([record(world.clock.now() - 5, "v2", current=1, latency_s=None)])

        first, second = (await client.get(SCALING)).json()["versions"]

        assert {key: first[key] for key in ("version", "weight", "wished", "ready")} == {
            "version": "v1",
            "weight": 90,
            "wished": 4,
            "ready": 2,
        }
        made = decision_of(world.decided["v1"])
        assert (first["decision"]["desired"], first["decision"]["binding"]) == (4, "cpu")
        assert [one["trigger"] for one in first["signals"]] == ["cpu", "latency"]
        assert first["signals"][0] == {
            "trigger": "cpu",
            "status": "ok",
            "desired": 4,
            "value": 1.4,
            "target": 0.8,
            "age_s": 0.4,
            "note": made.proposals[0].note,
        }
        # The autoscaler has said nothing of v2 since the start, so the last record tells.
        assert second["version"] == "v2"
        assert second["decision"]["at"] == world.clock.now() - 5
        assert second["signals"][1]["value"] is None
        view = (await client.get(IRIS)).json()
        assert {one["name"]: one["wished"] for one in view["versions"]} == {"v1": 4, "v2": second["wished"]}
        (summary,) = (await client.get("/v1/models")).json()
        assert summary["wished"] == 4 + second["wished"]

    run(check)


def test_scale_says_that_it_may_not_last() -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        fixed = (await client.put(f"{IRIS}/scale", json={"replicas": 2})).json()
        assert (fixed["note"], fixed["scaling"], fixed["replicas"]) == (None, None, 2)
        await set_policy(client)
        elastic = (await client.put(f"{IRIS}/scale", json={"replicas": 3})).json()
        assert "between 1 and 12" in elastic["note"]
        await set_policy(client, {**POLICY, "shadow": True})
        assert "shadow" in (await client.put(f"{IRIS}/scale", json={"replicas": 4})).json()["note"]
        assert told(await client.put(f"{IRIS}/scale", json={"replicas": 13}), 400)["where"] == "replicas"

    run(check)


def test_a_diff_tells_what_changes_of_the_policy() -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        await set_policy(client)

        async def paths(scaling: dict[str, Any]) -> dict[str, Any]:
            body = {"bundle": world.book.get("iris").versions[0].bundle_digest, "spec": document(scaling=scaling)}
            answer = await client.post(f"{IRIS}/diff", json=body)
            return {line["path"]: line["new"] for line in answer.json()["changes"]}

        assert await paths(POLICY) == {}
        assert await paths({**POLICY, "maxReplicas": 9}) == {"spec.scaling.maxReplicas": 9}
        assert (await paths({"minReplicas": 3}))["spec.scaling.minReplicas"] == 3

    run(check)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("", [0, 1, 2, 3, 4]),
        ("limit=2", [3, 4]),
        ("changed=true", [1, 3]),
        ("changed=true&limit=1", [3]),
        ("version=v2", [4]),
        ("since=35s&until=15s", [2, 3]),
        ("since=1s", []),
    ],
)
def test_records_are_read_oldest_first(query: str, expected: list[int]) -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        now = world.clock.now()
        busy = [0.5, 1.5, 0.7, 2.0]
        made = [record(now - 50 + 10 * place, cpu=cpu) for place, cpu in enumerate(busy)] + [record(now - 10, "v2")]
        await world.decision_log.append(made)
        answer = await client.get(f"{IRIS}/decisions?{query}")
        page = answer.json()
        assert DecisionPage.model_validate(page).model_dump() == page
        assert [one["cursor"] - 1 for one in page["decisions"]] == expected
        for one in page["decisions"]:
            assert replay(one["document"]).desired == one["desired"]
            assert one["changed"] == (one["current"] != one["desired"])

    run(check)


@pytest.mark.parametrize(
    ("query", "where"),
    [
        ("decisions?since=1h&until=2h", "?since"),
        ("decisions?since=tomorrow", "?since"),
        ("decisions?until=5", "?until"),
        ("decisions?limit=0", "?limit"),
        ("decisions?limit=1001", "?limit"),
        ("decisions?version=2", "?version"),
        ("decisions?changed=perhaps", "?changed"),
        ("decisions?at=1h", "?at"),
        ("explain?at=noon", "?at"),
        ("explain?version=V1", "?version"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused_at_its_place(query: str, where: str) -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        assert told(await client.get(f"{IRIS}/{query}"), 400)["where"] == where

    run(check)


def test_the_decision_in_force_is_told_in_words() -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        now = world.clock.now()
        await split(world, v1=90, v2=10)
        made = [record(now - 60, cpu=1.5), record(now - 30, cpu=0.7), record(now - 40, "v2", cpu=0.5)]
        await world.decision_log.append(made)

        async def asked(query: str) -> list[tuple[str, float]]:
            found = (await client.get(f"{IRIS}/explain?{query}")).json()
            assert ExplainView.model_validate(found).model_dump() == found
            return [(one["version"], now - one["at"]) for one in found["decisions"]]

        assert await asked("") == [("v1", 30), ("v2", 40)]
        assert await asked("at=30s") == [("v1", 30), ("v2", 40)]
        assert await asked("at=31s") == [("v1", 60), ("v2", 40)]
        assert await asked("at=50s") == [("v1", 60)]
        assert await asked("at=2m") == []
        assert await asked("version=v2") == [("v2", 40)]
        assert await asked("changed=true") == [("v1", 60)]
        assert await asked("changed=true&at=60s") == [("v1", 60)]
        assert await asked("changed=true&at=61s") == []
        (one,) = (await client.get(f"{IRIS}/explain?at=60s")).json()["decisions"]
        words = "\n".join(one["lines"])
        assert "cpu wishes 4" in words
        assert "latency holds 2" in words
        assert one["document"] == made[0].document

    run(check)


def test_now_it_is_the_last_decision_whether_or_not_it_is_recorded() -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        now = world.clock.now()
        await world.decision_log.append([record(now - 60, cpu=1.5)])
        world.decided["v1"] = decided(now - 0.5, current=4, cpu=0.7)
        (live,) = (await client.get(f"{IRIS}/explain")).json()["decisions"]
        assert (live["at"], live["current"], live["desired"], live["cursor"]) == (now - 0.5, 4, 4, 1)
        assert live["document"] == world.decided["v1"]
        for query in ("at=0s", "changed=true"):
            (recorded,) = (await client.get(f"{IRIS}/explain?{query}")).json()["decisions"]
            assert (recorded["at"], recorded["cursor"]) == (now - 60, 1)

    run(check)


def test_a_record_of_another_release_is_told_as_far_as_it_can_be() -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        await set_policy(client)
        foreign = replace(record(world.clock.now() - 5), document={"format": 99}, summary="It grew, as it had to.")
        await world.decision_log.append([foreign])
        (one,) = (await client.get(f"{IRIS}/explain")).json()["decisions"]
        assert one["lines"][0] == "It grew, as it had to."
        assert "99" in one["lines"][1]
        (version,) = (await client.get(SCALING)).json()["versions"]
        assert version["decision"] is None

    run(check)


def test_decisions_outlive_their_model() -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        await world.decision_log.append([record(world.clock.now() - 5, "v3", model="gone")])
        for what in ("decisions", "explain", "explain?changed=true", "decisions?since=1s"):
            answer = await client.get(f"/v1/models/gone/{what}")
            assert answer.status_code == 200, what
        assert [one["version"] for one in (await client.get("/v1/models/gone/explain")).json()["decisions"]] == ["v3"]
        for what in ("decisions", "explain", "scaling"):
            assert told(await client.get(f"/v1/models/never/{what}"), 404)["code"] == "model_not_found"
        assert told(await client.put("/v1/models/never/scaling", json={"scaling": None}), 404)

    run(check)


def test_a_token_confined_to_another_model_is_refused() -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        other = await world.token("other", "deploy", ["wine"])
        own = await world.token("own", "deploy", ["iris"])
        predict = await world.token("caller", "predict")
        for method, place, body in (
            ("GET", "scaling", None),
            ("PUT", "scaling", {"scaling": POLICY}),
            ("GET", "decisions", None),
            ("GET", "explain", None),
        ):
            for token, status in ((other, 403), (predict, 403), (own, 200 if method == "GET" else 202)):
                async with world.client(token) as caller:
                    answer = await caller.request(method, f"{IRIS}/{place}", json=body)
                assert answer.status_code == status, (method, place, answer.text)

    run(check)


def test_decisions_about_workers_are_asked_for_by_their_role() -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        now = world.clock.now()
        await world.decision_log.append([record(now - 30), worker_record(now - 20), worker_record(now - 10, "v2")])
        listed = (await client.get(f"{IRIS}/decisions")).json()["decisions"]
        assert [one["role"] for one in listed] == ["serve"]
        listed = (await client.get(f"{IRIS}/decisions?role=work")).json()["decisions"]
        assert [(one["role"], one["version"], one["binding"]) for one in listed] == [
            ("work", "v1", "workers.max"),
            ("work", "v2", "workers.max"),
        ]
        assert replay(listed[0]["document"]).desired == 8
        (explained,) = (await client.get(f"{IRIS}/explain?role=work&version=v2")).json()["decisions"]
        assert (explained["role"], explained["version"]) == ("work", "v2")
        assert any("1000 jobs" in line or "jobs wishes 1000" in line for line in explained["lines"])
        assert told(await client.get(f"{IRIS}/explain?role=cook"), 400)["where"] == "?role"

    run(check)


def test_usage_is_of_this_models_ready_replicas_and_measured_at_most_twice_a_second() -> None:
    async def check(world: World, client: httpx.AsyncClient) -> None:
        name = world.runtime.add("iris", "v1", "aaaaa")
        other = world.runtime.add("wine", "v1", "bbbbb")
        for number, replica in enumerate((name, other, "iris-v1-gone")):
            world.stats.say(ReplicaStat(replica, 5.0, "1", cpu_s=1.5 + number, memory_bytes=1 << 20, in_flight=2))
        found = (await client.get(f"{IRIS}/usage")).json()
        assert (found["model"], found["wished"], found["ready"]) == ("iris", 1, 1)
        assert [(one["name"], one["cpu_s"], one["finished"]) for one in found["replicas"]] == [(name, 1.5, None)]
        world.stats.say(ReplicaStat(name, 6.0, "1", cpu_s=2.5))
        assert (await client.get(f"{IRIS}/usage")).json() == found
        world.clock.advance(0.6)
        assert (await client.get(f"{IRIS}/usage")).json()["replicas"][0]["cpu_s"] == 2.5
        assert (await client.get("/v1/models/nobody/usage")).status_code == 404

    run(check)
